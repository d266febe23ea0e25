"""Codes of some images on their principal axes: of the whole code, and of each level."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from ..models.flow import Latents
from .codes import Sizes, flatten, unflatten
from .statistics import RunningPCA


@dataclass(frozen=True)
class Axes:
    """Principal axes of a part of the codes."""

    start: int
    """Where the part begins in a code's row (`codes.flatten`)."""
    mean: Float[Tensor, " d"]
    axes: Float[Tensor, "k d"]
    """Orthonormal, largest variance first."""
    variances: Float[Tensor, " k"]
    shares: Float[Tensor, " k"]
    """Explained variance, as a share of the part's."""

    def coordinates(self, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N k"]:
        """Codes along the axes, in standard deviations from the mean."""
        part = rows[:, self.start : self.start + len(self.mean)].double()
        return (part - self.mean) @ self.axes.T / self.variances.sqrt().clamp_min(1e-12)


@dataclass(frozen=True)
class Chart:
    """The axes, and where the codes that they are of lie on them."""

    parts: tuple[Axes, ...]
    """Of the whole code, then of each level, first level first."""
    coordinates: tuple[Float[Tensor, "N k"], ...]
    """Of each part, in standard deviations."""
    shapes: tuple[tuple[int, int, int], ...]
    """Of the latents."""

    def middle(self) -> Latents:
        """The mean code."""
        return unflatten(self.parts[0].mean[None], self.shapes)

    def moved(self, code: Latents, part: int, axis: int, amount: float) -> Latents:
        """A code, moved along an axis by so many standard deviations.

        Raises:
            InputError: there is no such part or axis.
        """
        if not 0 <= part < len(self.parts) or not 0 <= axis < len(self.parts[part].axes):
            raise InputError(f"There is no axis {axis} of part {part}: choose another one.")
        along = self.parts[part]
        rows = flatten(code).cpu().double()
        step = amount * along.variances[axis].sqrt() * along.axes[axis]
        rows[:, along.start : along.start + len(step)] += step
        return unflatten(rows, self.shapes)


def chart(rows: Float[Tensor, "N D"], shapes: Sizes, components: int) -> Chart:
    """Principal axes of codes, by `RunningPCA` in one batch, which is exact.

    Args:
        rows: codes (`codes.flatten`).
        shapes: of each level's latent.
        components: axes of each part, at most; there are N − 1 of few codes.

    Raises:
        InputError: there are fewer than 3 codes.
    """
    if len(rows) < 3:
        raise InputError(f"Axes need at least 3 pictures, and there are {len(rows)}: add some.")
    sizes = [math.prod(shape) for shape in shapes]
    starts = [sum(sizes[:level]) for level in range(len(sizes))]
    places = [(0, sum(sizes)), *zip(starts, sizes, strict=True)]
    parts = tuple(_axes(rows, start, size, components) for start, size in places)
    known: Sequence[tuple[int, int, int]] = [(s[0], s[1], s[2]) for s in shapes]
    return Chart(parts, tuple(part.coordinates(rows) for part in parts), tuple(known))


def _axes(rows: Tensor, start: int, size: int, components: int) -> Axes:
    pca = RunningPCA(components)
    pca.update(rows[:, start : start + size])
    return Axes(start, pca.mean, pca.components, pca.variances, pca.shares)
