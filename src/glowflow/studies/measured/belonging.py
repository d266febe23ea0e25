"""What belongs to an attribute: changes of other attributes, and pixels, from data alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.inputs import evenly
from ...data.types import ImageData
from ...latents.matching import held_attributes, match
from ...models.config import picture_shape

NEVER = 1e-3
"""A combination of two attributes that is rarer than this among the images of a side."""
VISIBLE = 0.02
"""Difference of two mean images from which a pixel is part of an attribute, of the range."""
MATCHED = 30_000
"""Training images that the pixels of an attribute are found on, at most."""


@dataclass(frozen=True)
class Change:
    """What an attribute's appearing changes by itself."""

    column: int
    """Of the attribute."""
    own: NDArray[np.bool_]
    """(A, 2) as in `own_changes`."""
    pixels: NDArray[np.bool_]
    """(H, W) as in `own_pixels`."""

    @property
    def leaving(self) -> list[int]:
        """Columns of the other attributes that go when it comes."""
        return [b for b in np.flatnonzero(self.own[:, 1]).tolist() if b != self.column]

    def in_words(self, names: Sequence[str]) -> tuple[str, ...]:
        """`+b` and `-b` of the other attributes that come and go with it."""
        others = [b for b in range(len(names)) if b != self.column]
        return (
            *(f"+{names[b]}" for b in others if self.own[b, 0]),
            *(f"-{names[b]}" for b in others if self.own[b, 1]),
        )


def changes_of(data: ImageData, columns: Sequence[int], minimum: int) -> list[Change]:
    """What the attributes of these columns change by themselves."""
    own = own_changes(np.asarray(data.attributes))
    pixels = own_pixels(data, columns, minimum)
    return [Change(column, own[column], pixels[column]) for column in columns]


def own_changes(attributes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which changes of other attributes belong to an attribute's appearing, from data alone.

    b leaves the value u when a appears. That is a's own change if b = u never occurs with a (blond
    hair takes the black away), or if b ≠ u never occurs without a (who is not young has no black
    hair). Never is at most `NEVER` of the images with, or without, a.

    Args:
        attributes: (N, A).

    Returns:
        (A, A, 2): [a, b, u].
    """
    true = attributes.astype(np.float64)
    with_a = true.T @ true / np.maximum(true.sum(0), 1)[:, None]
    without = (1 - true).T @ true / np.maximum((1 - true).sum(0), 1)[:, None]
    leaves_false = (1 - with_a <= NEVER) | (without <= NEVER)
    leaves_true = (with_a <= NEVER) | (1 - without <= NEVER)
    return np.stack([leaves_false, leaves_true], axis=-1)


def own_pixels(data: ImageData, columns: Sequence[int], minimum: int) -> NDArray[np.bool_]:
    """Where an attribute shows: |Σ_n w_n x_n| > `VISIBLE` of the range, in any channel.

    w are the weights of `match`: the difference of the mean images with and without the attribute,
    over pairs that agree in the others (`held_attributes`).

    Returns:
        (A, H, W); false in the rows that are not in `columns`.
    """
    indices = evenly(len(data), MATCHED)
    attributes = np.asarray(data.attributes)[indices]
    sides = np.minimum(attributes.sum(0), (~attributes).sum(0))
    held = held_attributes(attributes, np.flatnonzero(sides >= minimum).tolist(), minimum)
    weights = np.stack([match(attributes[:, a], attributes[:, held[a]]).weights for a in columns])
    channels, height, width = picture_shape(data.image_shape)
    sums = np.zeros((len(columns), channels * height * width))
    for start in range(0, len(indices), 1024):
        some = slice(start, start + 1024)
        images = data.images[indices[some]].reshape(-1, sums.shape[1])
        sums += weights[:, some] @ images.astype(np.float64)
    difference = np.abs(sums).reshape(len(columns), channels, height, width).max(1)
    pixels = np.zeros((attributes.shape[1], height, width), dtype=bool)
    pixels[list(columns)] = difference > VISIBLE * 255
    return pixels
