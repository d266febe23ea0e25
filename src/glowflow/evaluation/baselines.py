"""What a density model has to beat: simple models and image codecs, in bits per dimension.

Every function returns a `Baseline` for the images it is given. Images are uint8 arrays of shape
(N, C, H, W); `bits` below 8 means that they are first quantised to 2^bits values, as the model
sees them. With `bits=None` the data are floats and the figures are differential: they depend on
the unit of the data and can be negative.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .estimate import mean_and_error

AT_ONCE = 1024
"""Images that are held as 64-bit numbers at once."""


@dataclass(frozen=True)
class Baseline:
    """One figure to compare a model with."""

    name: str
    """What was measured, as it stands in tables."""
    mean: float | None
    """Mean bits per dimension over the images; `None` where the baseline does not apply."""
    standard_error: float | None
    """Standard error of the mean over the images; `None` for fewer than two images."""
    note: str
    """How it was measured, or why it was not."""
    mean_inside: float | None = None
    """Mean bits per value of the source, where `--fit pad` put margins around it."""
    standard_error_inside: float | None = None

    @classmethod
    def of(
        cls,
        name: str,
        figures: NDArray[np.float64],
        note: str,
        margins: NDArray[Any] | None,
        groups: NDArray[Any] | None = None,
    ) -> "Baseline":
        """Of one figure an image, in bits/dim.

        Args:
            name: of what was measured.
            figures: (N,).
            note: how.
            margins: (N,) values of the frame for each of the source, 1 or more.
            groups: (N,) as in `mean_and_error`.
        """
        inside = (None, None) if margins is None else mean_and_error(figures * margins, groups)
        return cls(name, *mean_and_error(figures, groups), note, *inside)


def independent_pixels(
    train: NDArray[Any],
    images: NDArray[Any],
    bits: int | None = 8,
    margins: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
) -> Baseline:
    """Every position has its own histogram, fitted on `train` with one count added to each value.

    −(1/D) Σ_d log2 p_d(x_d), with p_d(v) = (count_d(v) + 1) / (N_train + 2^bits).

    Args:
        train: images to fit, uint8 of shape (N_train, C, H, W).
        images: images to score, uint8 of shape (N, C, H, W).
        bits: bits per value, 1 to 8; `None` for float data, which have no histogram.
        margins: as in `Baseline.of`.
        groups: as in `Baseline.of`.

    Raises:
        InputError: the shapes of `train` and `images` differ, or one of them is empty.
    """
    name = "Independent-pixel entropy"
    require_same_shape(train, images)
    if bits is None:
        return Baseline(name, None, None, "float data has no histogram")
    dims, values = math.prod(images.shape[1:]), 2**bits
    offsets = np.arange(dims) * values
    counts = np.zeros(dims * values, dtype=np.uint32)
    for some in in_parts(train):
        for row in _integers(some, bits):
            counts[offsets + row] += 1
    scores = np.concatenate(
        [
            np.log2(counts[offsets + _integers(some, bits)] + 1.0).mean(axis=1)
            for some in in_parts(images)
        ]
    )
    note = f"one histogram of {values} values a position, fitted on {len(train):,} images"
    return Baseline.of(name, math.log2(len(train) + values) - scores, note, margins, groups)


def require_same_shape(train: NDArray[Any], images: NDArray[Any]) -> None:
    """Refuse a baseline that cannot be fitted to `train` or cannot score `images`.

    Raises:
        InputError: their shapes differ, or one of them is empty.
    """
    if train.shape[1:] != images.shape[1:]:
        raise InputError(
            f"The training images are {train.shape[1:]} and the images to score are "
            f"{images.shape[1:]}: give both the same channels, height and width."
        )
    if not len(train) or not len(images):
        raise InputError("There are no images to fit or to score: give at least one of each.")


def in_parts(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """`AT_ONCE` of the rows at once."""
    for start in range(0, len(images), AT_ONCE):
        yield images[start : start + AT_ONCE]


def _integers(images: NDArray[Any], bits: int) -> NDArray[np.intp]:
    """Values 0 .. 2^bits − 1, one row an image."""
    return (images.reshape(len(images), -1) >> (8 - bits)).astype(np.intp)
