"""Whether exported programs are the model: its numbers, bytes and speed beside theirs."""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from ..errors import InputError
from ..models.flow import ImageFlow, Latents
from ..models.likelihood import bits_per_dim
from .portable import Precision, portable

Run = Callable[..., tuple[Tensor, ...]]
"""A program: tensors in, labels last, tensors out."""

TOLERANCE = 1e-5
"""Largest error, relative to values beyond 1, where float32 allows it."""
ROUNDING = 4.0
"""Times PyTorch's own error of float32, in which a program may be off where that is larger."""
BATCHES = (1, 3, 64)
TIMED = (1, 16)
MOST_VALUES = 2**20
"""Values of a batch, at most: fewer images are taken of larger ones."""
SECONDS = 1.0
"""Of each measurement of time, about."""
TEMPERATURE = 0.7


@dataclass(frozen=True)
class Error:
    """The largest difference of a program's numbers from the model's in float64."""

    program: str
    batch: int
    error: float
    pytorch: float
    """That of PyTorch in float32, over all batches."""

    @property
    def is_close(self) -> bool:
        """Whether it is within what float32 allows; not a number is not."""
        return self.error <= max(TOLERANCE, ROUNDING * self.pytorch)


@dataclass(frozen=True)
class Time:
    """Milliseconds of a call, the median, on the CPU with the same number of threads."""

    program: str
    batch: int
    milliseconds: float
    pytorch: float


@dataclass(frozen=True)
class Rounded:
    """What keeping the weights in float16 does: beside the model, both in float64."""

    latents: float
    """Largest difference of a latent."""
    bits_per_dim: float
    """Largest difference of an image's bits per dimension."""
    x: float
    """Largest difference of x decoded from the same latents."""


@dataclass(frozen=True)
class Comparison:
    """Everything that was compared."""

    errors: tuple[Error, ...]
    bytes_compared: int
    bytes_that_differ: int
    """After encode and decode, from the bytes before; 0 of 0 for float data."""
    times: tuple[Time, ...]
    threads: int
    rounded: Rounded | None
    """For float16."""

    @property
    def is_close(self) -> bool:
        """Whether the programs are the model."""
        return not self.bytes_that_differ and all(error.is_close for error in self.errors)


@torch.no_grad()
def compare(model: ImageFlow, programs: dict[str, Run], precision: Precision) -> Comparison:
    """Run the programs and the model on samples of the model.

    float16 programs are held against the model whose weights are rounded likewise, and that
    against the model.

    Raises:
        InputError: no sample is a picture, so that there is nothing to compare on.
    """
    exact = _copy(model, torch.float64)
    held = exact
    if precision != "float32":
        held = portable(model, precision).double()
    single = _copy(model, torch.float32) if held is exact else portable(model, precision)
    images, labels = _images(model)
    x = _in_float(model, images)
    errors: list[Error] = []
    for batch in sorted({min(size, len(x)) for size in BATCHES}):
        some, theirs = x[:batch], tuple(one[:batch] for one in labels)
        latents = tuple(eps.float() for eps in _encode(held, some, theirs))
        for name, given in _given(some, latents).items():
            right = PYTORCH[name](held, *given, *theirs)
            own = PYTORCH[name](single, *given, *theirs)
            found = programs[name](*given, *theirs)
            errors.append(Error(name, batch, _difference(found, right), _difference(own, right)))
    own_errors = {name: max(e.pytorch for e in errors if e.program == name) for name in programs}
    (back,) = programs["decode"](*programs["encode"](x, *labels), *labels)
    counted = model.config.bits is not None
    differ = int((model.to_images(back) != images).sum()) if counted else 0
    return Comparison(
        errors=tuple(replace(error, pytorch=own_errors[error.program]) for error in errors),
        bytes_compared=images.numel() if counted else 0,
        bytes_that_differ=differ,
        times=tuple(_times(programs, _copy(model, torch.float32), x, labels)),
        threads=torch.get_num_threads(),
        rounded=None if held is exact else _rounded(exact, held, x, labels),
    )


def _copy(model: ImageFlow, dtype: torch.dtype) -> ImageFlow:
    return copy.deepcopy(model).cpu().to(dtype).eval()


def _images(model: ImageFlow) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Samples of the model, as many as the largest batch, and their classes."""
    values = model.config.image_shape[0] * model.config.image_shape[1] * model.config.image_shape[2]
    count = max(1, min(max(BATCHES), MOST_VALUES // values))
    own = copy.deepcopy(model).cpu().eval()
    labels = torch.arange(count) % model.config.classes if model.config.classes else None
    drawn = own.draw(count, temperature=TEMPERATURE, labels=labels)
    usable = torch.nonzero(drawn.usable).flatten()
    if not len(usable):
        raise InputError(
            "No sample of this model is finite and near the range of images, so that there is "
            "nothing to compare its programs on: train it further, or with --coupling-scale "
            "bounded."
        )
    chosen = usable[torch.arange(count) % len(usable)]
    return drawn.images[chosen], () if labels is None else (labels[chosen],)


def _in_float(model: ImageFlow, images: Tensor) -> Tensor:
    return model.to_float(images, noise="center").float() if images.numel() else images.float()


def _encode(model: ImageFlow, x: Tensor, labels: tuple[Tensor, ...]) -> Latents:
    with model.frozen():
        return model(x.to(_dtype(model)), *labels)[0]


def _decode(model: ImageFlow, *given: Tensor) -> tuple[Tensor, ...]:
    levels = len(model.latent_shapes)
    latents, labels = given[:levels], given[levels:]
    with model.frozen():
        return (model.inverse(tuple(eps.to(_dtype(model)) for eps in latents), *labels)[0],)


def _log_prob(model: ImageFlow, x: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
    with model.frozen():
        return (model.log_prob(x.to(_dtype(model)), *labels),)


PYTORCH: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "encode": lambda model, x, *labels: _encode(model, x, labels),
    "decode": _decode,
    "log_prob": _log_prob,
}
"""What the programs do, by PyTorch."""


def _dtype(model: ImageFlow) -> torch.dtype:
    state = model.state_dict().values()
    return max((w.dtype for w in state if w.is_floating_point()), key=lambda dtype: dtype.itemsize)


def _given(x: Tensor, latents: Latents) -> dict[str, tuple[Tensor, ...]]:
    return {"encode": (x,), "decode": latents, "log_prob": (x,)}


def _difference(found: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> float:
    """The largest, relative where the right value is beyond 1."""
    largest = [
        ((a.double() - b.double()).abs() / b.double().abs().clamp(min=1.0)).max()
        for a, b in zip(found, right, strict=True)
    ]
    return float(torch.stack(largest).max())


def _rounded(model: ImageFlow, held: ImageFlow, x: Tensor, labels: tuple[Tensor, ...]) -> Rounded:
    latents = _encode(model, x, labels)
    pairs = zip(latents, _encode(held, x, labels), strict=True)
    bits = [
        bits_per_dim(_log_prob(one, x, *labels)[0], x[0].numel(), model.config.bits)
        for one in (model, held)
    ]
    decoded = [_decode(one, *latents, *labels)[0] for one in (model, held)]
    return Rounded(
        latents=max(float((a - b).abs().max()) for a, b in pairs),
        bits_per_dim=float((bits[0] - bits[1]).abs().max()),
        x=float((decoded[0] - decoded[1]).abs().max()),
    )


def _times(
    programs: dict[str, Run], model: ImageFlow, x: Tensor, labels: tuple[Tensor, ...]
) -> Iterator[Time]:
    """Each program beside PyTorch's own, called in turn."""
    with model.frozen():
        for batch in sorted({min(size, len(x)) for size in TIMED}):
            some, theirs = x[:batch], tuple(one[:batch] for one in labels)
            for name, given in _given(some, _encode(model, some, theirs)).items():
                spent: tuple[list[float], list[float]] = ([], [])
                end = time.perf_counter() + SECONDS
                while len(spent[0]) < 3 or time.perf_counter() < end:
                    with _clock(spent[0]):
                        programs[name](*given, *theirs)
                    with _clock(spent[1]):
                        PYTORCH[name](model, *given, *theirs)
                yield Time(name, batch, 1000 * median(spent[0]), 1000 * median(spent[1]))


@contextmanager
def _clock(spent: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent.append(time.perf_counter() - start)
