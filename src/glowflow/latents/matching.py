"""Images of two sides that are alike in everything else."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 1024
"""Patterns of attributes that are compared with all others at once."""


def held_attributes(
    attributes: NDArray[np.bool_], usable: Sequence[int], minimum: int
) -> dict[int, list[int]]:
    """For each usable attribute, the others that vary with it and without it.

    All four combinations of the two occur at least `minimum` times.
    """
    true = attributes.astype(np.float64)
    false = 1 - true
    smallest = np.min([a.T @ b for a in (true, false) for b in (true, false)], axis=0)
    return {a: [b for b in usable if b != a and smallest[a, b] >= minimum] for a in usable}


@dataclass(frozen=True)
class Pairs:
    """Images of two sides, weighted so that the sides are alike."""

    weights: NDArray[np.float64]
    """(N,): the difference of the sides is Σ w_n ε_n; sums to 1 with, to −1 without."""
    imbalance: float
    """Mean number of other attributes in which a pair differs."""


def match(side: NDArray[np.bool_], others: NDArray[np.bool_]) -> Pairs:
    """Pair each image of the smaller side with the most alike ones of the other side.

    Args:
        side: (N,) which side an image is on; each has at least one.
        others: (N, B) what the two of a pair should agree on.
    """
    few = side if side.sum() <= (~side).sum() else ~side
    patterns, of_image = np.unique(others, axis=0, return_inverse=True)
    of_image = of_image.reshape(-1)
    in_few = np.bincount(of_image[few], minlength=len(patterns))
    in_many = np.bincount(of_image[~few], minlength=len(patterns))
    wanted, there = np.flatnonzero(in_few), np.flatnonzero(in_many)
    share = np.zeros(len(patterns))
    differing = 0.0
    values = patterns.astype(np.float32)
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        a, b = values[some], values[there]
        distance = a.sum(1)[:, None] + b.sum(1)[None] - 2 * a @ b.T
        nearest = distance.min(1, keepdims=True)
        close = (distance < nearest + 0.5) * in_many[there]
        share[there] += (in_few[some][:, None] * close / close.sum(1, keepdims=True)).sum(0)
        differing += float((nearest[:, 0] * in_few[some]).sum())
    total = few.sum()
    weights = np.where(few, 1 / total, -(share / np.maximum(in_many, 1) / total)[of_image])
    return Pairs(weights if few is side else -weights, differing / float(total))
