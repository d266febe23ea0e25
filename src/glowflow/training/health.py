"""How well a model can still be inverted while it trains, and what to do when it cannot."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..bijections.coupling import AffineCoupling
from ..bijections.linear import ChannelMixing
from ..bijections.masked import MaskedCoupling
from ..data.inputs import evenly, labels_of, with_noise
from ..data.types import ImageData
from ..models.flow import OF_FLOATS, ImageFlow
from ..models.likelihood import bits_per_dim

IMAGES = 64
"""Validation images that a look takes, at most."""
MOST_CONDITION = 1e4
"""Largest cond(W): each step back may lose 4 of float32's 7 digits."""
LEAST_SCALE = 1e-3
"""Smallest coupling scale: its inverse multiplies errors by 1,000."""
MOST_SCALE = 1e3
MOST_ERROR = 0.25
"""Largest |decode(encode(x)) − x|, as a share of the width of a byte's bin; half a bin changes the
byte."""
MOST_ERROR_OF_FLOATS = 1e-3
"""The same for data that are not bytes, in units of the values."""
MOST_FAR = 1 / 3
"""Largest share of samples at temperature 1 that are far outside of the range; a model that has
learnt little has some."""
MOST_GAP = 1.0
"""Bits/dim by which held-out images may be above those of training and above their bytes."""
MOST_CLIPPING = 20.0
"""Largest gradient norm, in units of the norm that it is clipped to."""


@dataclass(frozen=True)
class Health:
    """A look at a model; where it says by level, the first level comes first."""

    bits_by_level: tuple[float, ...]
    """Each level's part of bits/dim, from its latents, couplings and 1x1 convolutions: their sum is
    the bits/dim of these images, less the `bits` of their bytes."""
    condition_by_level: tuple[float, ...]
    """Largest cond(W) = σ_max / σ_min of the level's 1x1 convolutions; empty without any."""
    smallest_scale_by_level: tuple[float, ...]
    """Smallest scale s of the level's affine couplings on these images; empty without any."""
    largest_scale_by_level: tuple[float, ...]
    samples_not_finite: int
    """Of `samples` at temperature 1, those of which a value is not a number."""
    samples_far: int
    """Those that are farther than five times the range of images from its middle."""
    samples: int
    """How many were drawn."""
    round_trip_error: float
    """Largest |decode(encode(x)) − x| on these images, in units of x (bytes: 1 is their range)."""


@torch.no_grad()
def measure_health(
    model: ImageFlow, data: ImageData, *, limit: int = IMAGES, seed: int = 0
) -> Health:
    """Look at a model through at most `limit` images, evenly spread, with one draw of noise.

    Args:
        model: in eval mode.
        data: images that fit the model, with labels where it has classes.
        limit: images.
        seed: of the noise.
    """
    indices = evenly(len(data), limit)
    images, bits = torch.from_numpy(data.images[indices]), model.config.bits
    count, labels = _samples_of(model), labels_of(model, data, indices)
    given = None if model.config.classes else labels  # the classes of samples are drawn
    x = images if bits is None else with_noise(images, bits, (seed, 0), indices)
    with model.frozen():
        with _scales(model) as scales:
            by_level = model.log_prob_by_level(x.to(model.device, model.dtype), given)
        centre, decoded = round_trip(model, images, labels)
        count = count if given is None else min(count, len(given))
        given = None if given is None else given[:count]
        drawn = model.draw(count, temperature=1.0, seed=seed, labels=given)
    dims = math.prod(model.config.image_shape)
    shares = bits_per_dim(by_level.double().mean(0), dims, None)
    return Health(
        bits_by_level=tuple(shares.tolist()),
        condition_by_level=tuple(_conditions(model)),
        smallest_scale_by_level=tuple(min(each)[0] for each in scales if each),
        largest_scale_by_level=tuple(max(each, key=lambda s: s[1])[1] for each in scales if each),
        samples_not_finite=drawn.not_finite,
        samples_far=drawn.far,
        samples=len(drawn.images),
        round_trip_error=float((decoded - centre).abs().max()),
    )


def _samples_of(model: ImageFlow) -> int:
    """64 at 32x32, fewer of larger images: a look is cheap."""
    return max(8, min(64, 64 * 3072 // math.prod(model.config.image_shape)))


def round_trip(
    model: ImageFlow, images: Tensor, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """x at the centre of each byte's bin (float data as it is), and decode(encode(x))."""
    x = model.to_float(images, noise="center").to(model.device)
    return x, model.decode(model.encode(x, labels), labels)


def concerns(
    figures: Mapping[str, Any], *, bits: int | None, clip: float, name: str = "images"
) -> list[str]:
    """A sentence for each figure that has left its healthy range: what it means, what to do.

    Args:
        figures: those of `Health`, `grad_norm`, `bits_per_dim` in training and
            `valid_bits_per_dim`, of which any may be missing.
        bits: of the data's bytes; None for other data.
        clip: the norm to which gradients are clipped.
        name: of the data.
    """
    warnings = []
    for level, condition in enumerate(figures.get("condition_by_level", ()), 1):
        if not condition <= MOST_CONDITION:
            warnings.append(
                f"Level {level}'s 1x1 convolutions reach a condition number of {condition:.1e} "
                f"(healthy: up to {MOST_CONDITION:.0e}): reconstruction loses digits; train with "
                "a smaller --lr."
            )
    extremes = zip(
        figures.get("smallest_scale_by_level", ()),
        figures.get("largest_scale_by_level", ()),
        strict=True,
    )
    for level, (smallest, largest) in enumerate(extremes, 1):
        if not (smallest >= LEAST_SCALE and largest <= MOST_SCALE):
            warnings.append(
                f"Level {level}'s coupling scales run from {smallest:.1e} to {largest:.1e} "
                f"(healthy: {LEAST_SCALE:.0e} to {MOST_SCALE:.0e}): samples can overflow; train "
                "with --coupling-scale bounded, or a smaller --lr."
            )
    error = figures.get("round_trip_error", 0.0)
    most = MOST_ERROR_OF_FLOATS if bits is None else MOST_ERROR / 2**bits
    if not error <= most:
        lost = "digits are lost" if bits is None else "bytes may change"
        warnings.append(
            f"{name.capitalize()} come back with an error of up to {error:.1e} (healthy: up to "
            f"{most:.1e}): {lost}; go on from an earlier checkpoint with a smaller --lr, or train "
            "with --coupling-scale bounded."
        )
    bad, far = figures.get("samples_not_finite", 0), figures.get("samples_far", 0)
    if bad or not far <= MOST_FAR * figures.get("samples", far):
        warnings.append(
            f"Of {figures.get('samples', bad + far)} samples at temperature 1, {bad} are not "
            f"finite and {far} far outside of the range of "
            f"{OF_FLOATS if bits is None else name}: the inverse overflows; train with "
            "--coupling-scale bounded, or a smaller --lr."
        )
    norm = figures.get("grad_norm", 0.0)
    if not norm <= MOST_CLIPPING * clip:
        warnings.append(
            f"The gradient's norm is {norm:.1e}, {norm / clip:.0f} times what it is clipped to: "
            "train with a smaller --lr or longer --warmup-images."
        )
    seen = figures.get("bits_per_dim", math.nan)
    held_out = figures.get("valid_bits_per_dim", math.nan)
    if bits is not None and held_out > bits and held_out > seen + MOST_GAP:
        warnings.append(
            f"Held-out images take {held_out:.2f} bits/dim, more than the {bits} of their bytes, "
            f"and those of training {seen:.2f}: the model knows these by heart; train on more "
            "images, for fewer --images, or with --first-map none."
        )
    return warnings


def as_metrics(health: Health) -> dict[str, Any]:
    """The figures that the model has, by name."""
    return {name: value for name, value in asdict(health).items() if value != ()}


def _conditions(model: ImageFlow) -> Iterator[float]:
    by_level: dict[str, list[float]] = {}
    for name, module in model.named_modules():
        if isinstance(module, ChannelMixing) and any(True for _ in module.parameters()):
            matrix = module.matrix().double().cpu()
            if not bool(torch.isfinite(matrix).all()):
                by_level.setdefault(_level(name), []).append(math.inf)
                continue
            values = torch.linalg.svdvals(matrix)
            by_level.setdefault(_level(name), []).append(float(values[0] / values[-1]))
    yield from map(max, by_level.values())


@contextmanager
def _scales(model: ImageFlow) -> Iterator[Sequence[list[tuple[float, float]]]]:
    """What fills with the smallest and largest scale of each coupling that runs, by level."""
    by_level: dict[str, list[tuple[float, float]]] = {}

    def note(
        log_scale: Callable[[Tensor], Tensor],
        seen: list[tuple[float, float]],
        _module: nn.Module,
        _inputs: object,
        h: Tensor,
    ) -> None:
        low, high = torch.aminmax(log_scale(h).double())
        seen.append((float(low.exp()), float(high.exp())))

    handles = [
        module.network.register_forward_hook(
            partial(note, module.log_scale, by_level.setdefault(_level(name), []))
        )
        for name, module in model.named_modules()
        if isinstance(module, (AffineCoupling, MaskedCoupling))
    ]
    try:
        yield list(by_level.values())
    finally:
        for handle in handles:
            handle.remove()


def _level(name: str) -> str:
    """Of a module's name: levels.1.steps.4.coupling is in levels.1."""
    return ".".join(name.split(".")[:2])
