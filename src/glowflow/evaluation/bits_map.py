"""Where in an image a model spends its bits."""

import math
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..bijections import (
    ActNorm,
    AffineCoupling,
    BatchNorm,
    Bijection,
    Chain,
    ChannelMixing,
    Interlaced,
    Logit,
    Marginals,
    MaskedCoupling,
    VariationalDequantization,
)
from ..bijections.batchnorm import by_batches
from ..bijections.coupling import conditioned, halves
from ..errors import InputError
from ..fused.steps import Steps
from ..models.config import picture_shape
from ..models.flow import ImageFlow
from ..models.likelihood import bits_per_dim
from ..models.realnvp import RealNVP


@dataclass(frozen=True)
class BitsMap:
    """−log₂ p of images, spread over their pixels; everything in bits, float64, on the CPU."""

    by_level: Float[Tensor, "batch levels height width"]
    """Of each level's latents, with the log-determinants of its steps and its prior."""
    values: Float[Tensor, "batch height width"]
    """Of the pixels' own values, before the first level: the bits of their bytes, and what learned
    noise, marginals or a logit change of them."""
    no_place: Float[Tensor, " batch"]
    """What belongs to the image as a whole."""
    total: Float[Tensor, " batch"]
    """D·bits/dim, as `glow score` has it of the same noise."""

    @property
    def whole(self) -> Float[Tensor, "batch height width"]:
        """All of it by pixel, what has no place spread evenly; the sum is `total`."""
        pixels = self.values[0].numel()
        return self.by_level.sum(1) + self.values + (self.no_place / pixels)[:, None, None]


@torch.no_grad()
def bits_map(model: ImageFlow, x: Float[Tensor, "batch channels height width"]) -> BitsMap:
    """Spread −log₂ p(x) over the pixels of x.

    A flow's log-density is a sum over the positions of its latents, as far as its log-determinants
    are: at position q of level ℓ,

        log p_ℓ(q) = Σ_channels [log N(ε_ℓ(q); 0, 1) − log σ_ℓ(q) + Σ_couplings log s(q)]
                     + Σ_steps [log|det W| + Σ_channels 3·logs],

    the last sum being the same everywhere. Position q is the squeezed block of 2^ℓ·2^ℓ pixels, over
    which its bits are spread evenly. What lies there also depends on the pixels around, which the
    couplings have seen: the map says where bits are paid, not which pixel is to blame.

    `no_place` is the rest, so that the sum is exact: the log-determinant of the first map
    `whitening` and of couplings of other classes; what a mixture of classes differs by from its
    most probable one; float rounding. After `whitening` the positions are those of the whitened
    image.

    Args:
        model: in eval mode.
        x: as `to_float` gives it, with noise.

    Raises:
        InputError: x does not fit, or is so improbable that its bits overflow.
    """
    dims = math.prod(picture_shape(model.config.image_shape))
    by_level = model.log_prob_by_level(x).double().sum(1).cpu()
    total = dims * bits_per_dim(by_level, dims, model.config.bits)
    x = x.to(model.dtype)
    labels = model.class_scores(x).log_prob.argmax(1) if model.config.classes else None
    with by_batches(False):
        levels, values = _spread(model, x, labels)
    bits = torch.stack(levels, dim=1).cpu() / -math.log(2)
    own = values.cpu() / -math.log(2) + (model.config.bits or 0) * x.shape[1]
    no_place = total - bits.sum((1, 2, 3)) - own.sum((1, 2))
    if not torch.isfinite(no_place).all():
        raise InputError("The image is so improbable that its bits overflow: there is no map.")
    return BitsMap(bits, own, no_place, total)


Spread = Float[Tensor, "batch height width"]


def _spread(
    model: Any, x: Tensor, labels: Tensor | None
) -> tuple[list[Spread], Float[Tensor, "batch height width"]]:
    """log p of each level, and the log-determinants before the first, in nats by pixel."""
    size = (x.shape[2], x.shape[3])
    levels: list[Spread] = []
    if isinstance(model, RealNVP):
        x, values = _through(model.logit, x, labels, size)
        for number, scale in enumerate(model.scales, 1):
            x, nats = _through(scale, x, labels, size)
            x, z = halves(x) if number < len(model.scales) else (x, x)
            levels.append(nats + _over_pixels(_standard_normal(z), size))
        return levels, values
    values = x.new_zeros(len(x), *size, dtype=torch.float64)
    for before in (model.dequantization, model.first_map):
        if before is not None:
            x, nats = _through(before, x, labels, size)
            values = values + nats
    for number, level in enumerate(model.levels, 1):
        x, nats = _through(level.steps, level.squeeze(x)[0], labels, size)
        given, z = halves(x) if number < len(model.levels) else (x, x)
        mean, log_std = level.split.prior(given, labels)
        eps = (z - mean) * (-log_std).exp()
        levels.append(nats + _over_pixels(_standard_normal(eps) - log_std.double(), size))
        x = given
    return levels, values


def _through(
    part: Any, x: Tensor, context: Tensor | None, size: tuple[int, int]
) -> tuple[Tensor, Spread]:
    """What a bijection makes of x, and as much of its log-determinant as has a place."""
    if isinstance(part, Chain) and type(part).forward in (Chain.forward, Steps.forward):
        nats = x.new_zeros(len(x), *size, dtype=torch.float64)
        for inner in part:
            x, of_it = _through(inner, x, context, size)
            nats = nats + of_it
        return x, nats
    y, by_value = _placed(part, x, context)
    return y, _over_pixels(by_value, size)


@singledispatch
def _placed(part: Bijection, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """y = f(x), and its log-determinant by channel and position where that is known; else 0."""
    y, _ = part(x, context)
    return y, torch.zeros_like(y[:, :1])


@_placed.register(ActNorm)
@_placed.register(BatchNorm)
@_placed.register(ChannelMixing)
def _same_everywhere(part: Any, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    y, log_det = part(x, context)
    by_position = log_det.double() / math.prod(y.shape[2:])
    return y, by_position[:, None, None, None].expand(-1, 1, *y.shape[2:])


@_placed.register(AffineCoupling)
def _coupling(part: AffineCoupling, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    x1, x2 = halves(x)
    h = conditioned(part.network, x1, context)
    y2, _ = part.change(x2, h)
    return torch.cat((x1, y2), dim=1), part.log_scale(h)


@_placed.register(MaskedCoupling)
def _masked(part: MaskedCoupling, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    b = part.mask(x)
    log_scale = part.log_scale(conditioned(part.network, b * x, context))
    return part(x, context)[0], (1 - b) * log_scale


@_placed.register(Logit)
@_placed.register(Interlaced)
@_placed.register(Marginals)
@_placed.register(VariationalDequantization)
def _by_value(part: Any, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    placed: tuple[Tensor, Tensor] = part.by_value(x, context)
    return placed


def _standard_normal(eps: Tensor) -> Float[Tensor, "batch channels height width"]:
    """log N(ε; 0, 1) of each value."""
    return -0.5 * (eps.double().square() + math.log(2 * math.pi))


def _over_pixels(by_value: Tensor, size: tuple[int, int]) -> Spread:
    """Summed over the channels, each position's share spread evenly over its block of pixels."""
    nats = by_value.double().sum(1)
    across, down = size[1] // nats.shape[2], size[0] // nats.shape[1]
    return (nats / (across * down)).repeat_interleave(down, 1).repeat_interleave(across, 2)
