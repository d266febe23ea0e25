"""How well an attribute can be read off a linear score."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray


@dataclass(frozen=True)
class Readout:
    """How well an attribute can be read linearly off the latents of images not fitted to."""

    name: str
    majority: float
    """Share of the held-out images that are on the larger side."""
    accuracy: tuple[float, ...]
    """Of each level, first level first, then of all levels together."""


def read_out(
    name: str,
    choosing: Float[NDArray[np.float64], "levels M"],
    choosing_truth: Bool[NDArray[np.bool_], " M"],
    scores: Float[NDArray[np.float64], "levels N"],
    truth: Bool[NDArray[np.bool_], " N"],
) -> Readout:
    """Accuracy of each level's scores, with thresholds chosen on other images.

    Args:
        name: of the attribute.
        choosing: scores of the images that the thresholds are chosen on.
        choosing_truth: which of them have the attribute.
        scores: of the held-out images.
        truth: which of them have it.
    """
    thresholds = [best_threshold(each, choosing_truth) for each in choosing]
    return Readout(
        name,
        majority=float(max(truth.mean(), 1 - truth.mean())),
        accuracy=tuple(
            float(((each > threshold) == truth).mean())
            for each, threshold in zip(scores, thresholds, strict=True)
        ),
    )


def best_threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The threshold above which to say yes with the fewest errors, in the middle of a gap."""
    order = np.argsort(scores, kind="stable")
    sorted_scores, sorted_truth = scores[order], truth[order]
    missed = np.concatenate([[0], np.cumsum(sorted_truth)])
    wrongly = np.concatenate([np.cumsum(~sorted_truth[::-1])[::-1], [0]])
    edges = np.concatenate([[-np.inf], sorted_scores, [np.inf]])
    possible = np.concatenate([[True], sorted_scores[1:] > sorted_scores[:-1], [True]])
    best = int(np.argmin(np.where(possible, missed + wrongly, len(scores) + 1)))
    return float((edges[best] + edges[best + 1]) / 2)
