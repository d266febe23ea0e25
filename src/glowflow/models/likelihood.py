"""From bytes to densities and back: dequantisation, and bits per dimension."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..errors import InputError


def dequantize(
    images: UInt8[Tensor, "batch channels height width"],
    bits: int = 8,
    *,
    noise: str = "uniform",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """x = (⌊images / 2^(8−n)⌋ + u) / 2^n − ½ in [−½, ½), float32, with n = `bits`.

    u ~ U(0, 1) makes −log p(x) an upper bound, in expectation, of −log P(images) (Theis et al.
    2016). With `noise="center"` u is ½: the point of each bin that is hardest to leave.

    Args:
        images: bytes.
        bits: n, 1 to 8; the lower 8 − n bits are dropped.
        noise: `uniform` or `center`.
        generator: of the noise, on the device of the images.

    Raises:
        InputError: the images are not bytes, or bits or noise is out of range.
    """
    if images.dtype != torch.uint8:
        raise InputError(f"Images are {images.dtype}: give uint8 values from 0 to 255.")
    if not 1 <= bits <= 8:
        raise InputError(f"bits is {bits}: give 1 to 8.")
    if noise == "uniform":
        u = torch.rand(images.shape, generator=generator, device=images.device)
        u = u.clamp(max=1.0 - 2.0**-15)  # so that rounding in float32 stays in the bin
    elif noise == "center":
        u = torch.full(images.shape, 0.5, device=images.device)
    else:
        raise InputError(f"noise is {noise!r}: choose uniform or center.")
    levels = 2**bits
    whole = torch.div(images, 256 // levels, rounding_mode="floor").float()
    return (whole + u) / levels - 0.5


def quantize(
    x: Float[Tensor, "batch channels height width"], bits: int = 8
) -> UInt8[Tensor, "batch channels height width"]:
    """images = ⌊(x + ½)·2^n⌋·256/2^n, clipped to 0..255: the inverse of `dequantize`.

    Raises:
        InputError: bits is out of range.
    """
    if not 1 <= bits <= 8:
        raise InputError(f"bits is {bits}: give 1 to 8.")
    levels = 2**bits
    index = torch.floor((x + 0.5) * levels).clamp(0, levels - 1)
    return (torch.nan_to_num(index) * (256 // levels)).to(torch.uint8)


def bits_per_dim(
    log_prob: Float[Tensor, " batch"], dimensions: int, bits: int | None
) -> Float[Tensor, " batch"]:
    """−(log p(x) − D·log 2^n) / (D·log 2) for x in [−½, ½): bits per dimension of the bytes.

    With `bits=None`, for data that is not quantised, −log p(x) / (D·log 2): the differential
    figure, which depends on the data's unit and may be negative.

    Args:
        log_prob: log p(x) in nats.
        dimensions: D, the number of values in one image.
        bits: n.
    """
    nats_per_bit = dimensions * math.log(2)
    return torch.neg(log_prob) / nats_per_bit + (bits or 0)


def unit_of(bits: int | None) -> tuple[str, float]:
    """What figures per dimension are shown in, and what a figure in bits is multiplied by: nats for
    float data, whose density has the unit of the data."""
    return ("bits/dim", 1.0) if bits is not None else ("nats/dim", math.log(2))


def name_of_data(bits: int | None) -> str:
    """What the data are called: images are of bytes, float data may be anything."""
    return "images" if bits is not None else "samples"


def importance_weighted(
    log_probs: Float[Tensor, "draws batch"], counts: Sequence[int]
) -> Float[Tensor, "counts batch"]:
    """log (1/K) Σ_{k ≤ K} p(x + u_k) for each K of `counts`, in nats, float64.

    In expectation it rises with K towards log E_u p(x + u) = log P(x) + D·log 2^n and never passes
    it (Jensen), so that its `bits_per_dim` falls towards −log₂ P(x) / D. K = 1 is uniform
    dequantisation. Each K uses the first K draws.

    Source: Burda et al. 2016, "Importance weighted autoencoders", theorem 1.

    Args:
        log_probs: log p(x + u_k) in nats, the u_k independent and uniform in x's bin.
        counts: each K, from 1 to the number of draws.
    """
    running = torch.logcumsumexp(log_probs.double(), dim=0)
    return torch.stack([running[count - 1] - math.log(count) for count in counts])
