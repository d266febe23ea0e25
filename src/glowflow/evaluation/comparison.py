"""How strange images are beside those of the calibration: typicality, and p-values."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from ..errors import InputError
from .calibration import Calibration
from .choices import Score
from .scoring import Scores

RESAMPLES = 1000
"""Batches that are drawn from the calibration images to compare a batch with."""


@dataclass(frozen=True)
class Comparison:
    """Scores of N images beside those of the calibration images; a small p-value is strange."""

    typicality: NDArray[np.float64]
    """(N,) |log p(x) − m| in nats, m the mean over the calibration images."""
    p_log_prob: NDArray[np.float64]
    """(N,) one-sided: an unlikely image is strange, a likely one never."""
    p_typicality: NDArray[np.float64]
    """(N,) both sides: a likely image is as strange as an unlikely one."""
    p_complexity: NDArray[np.float64] | None
    """(N,) one-sided."""


@dataclass(frozen=True)
class Batches:
    """Typicality of batches of successive images."""

    size: int
    """Images of each; the last batch may have fewer."""
    typicality: NDArray[np.float64]
    """(B,) |mean of log p over the batch − m| in nats."""
    p_value: NDArray[np.float64]
    """(B,)."""


def p_values(
    scores: NDArray[np.float64], reference: NDArray[np.float64]
) -> Float[NDArray[np.float64], " N"]:
    """p = (1 + #{r ≥ s}) / (n + 1) of each score s among n reference scores r; large is strange.

    If s and all r are exchangeable, P(p ≤ a) ≤ a for every a, with equality at multiples of
    1/(n + 1) where there are no ties.
    """
    below = np.searchsorted(np.sort(reference), scores, side="left")
    values: NDArray[np.float64] = (1 + len(reference) - below) / (len(reference) + 1)
    return values


def typicality(
    log_prob: NDArray[np.float64], calibration: Calibration
) -> Float[NDArray[np.float64], " N"]:
    """|log p − m| in nats, with m the mean log p of the calibration images."""
    distance: NDArray[np.float64] = np.abs(log_prob - calibration.log_prob.mean())
    return distance


def compare(scores: Scores, calibration: Calibration) -> Comparison:
    """Typicality, and p-values of log p, typicality and complexity."""
    own = typicality(scores.log_prob, calibration)
    p_complexity = None
    if scores.complexity is not None and calibration.complexity is not None:
        p_complexity = p_values(scores.complexity, calibration.complexity)
    return Comparison(
        typicality=own,
        p_log_prob=p_values(-scores.log_prob, -calibration.log_prob),
        p_typicality=p_values(own, typicality(calibration.log_prob, calibration)),
        p_complexity=p_complexity,
    )


def batch_typicality(
    scores: Scores, calibration: Calibration, size: int, *, seed: int = 0
) -> Batches:
    """Typicality of each `size` successive images: |mean of log p − m|.

    The p-value is among `RESAMPLES` batches of the same size, drawn with replacement from the
    calibration images. Their distances from m, the mean of these n, are multiplied by
    √(1 + size/n): that of a new batch has the error of m in it too.

    Source: Nalisnick et al. 2019, "Detecting out-of-distribution inputs to deep generative models
    using typicality", algorithm 1.

    Raises:
        InputError: size is below 1.
    """
    if size < 1:
        raise InputError(f"The size of a batch is {size}: give at least 1.")
    random = np.random.default_rng(seed)
    distances: list[NDArray[np.float64]] = []
    values: list[NDArray[np.float64]] = []
    for count in _batch_sizes(len(scores), size):
        start = len(distances) * size
        some = scores.log_prob[start : start + count]
        drawn = random.choice(calibration.log_prob, (RESAMPLES, count)).mean(1)
        own = typicality(some.mean(keepdims=True), calibration)
        distances.append(own)
        wider = math.sqrt(1 + count / len(calibration))
        values.append(p_values(own, wider * typicality(drawn, calibration)))
    return Batches(size, np.concatenate(distances), np.concatenate(values))


def _batch_sizes(count: int, size: int) -> list[int]:
    whole, rest = divmod(count, size)
    return [size] * whole + [rest] * (rest > 0)


def strangeness(scores: Scores, comparison: Comparison, by: Score) -> NDArray[np.float64]:
    """One score (N,), so that large is strange: −log p, typicality or complexity.

    Raises:
        InputError: there is no complexity.
    """
    if by == "log_prob":
        return -scores.log_prob
    if by == "typicality":
        return comparison.typicality
    if scores.complexity is None:
        raise InputError(
            "No codec takes these images, so there is no complexity: choose typicality or log_prob."
        )
    return scores.complexity


def columns(
    scores: Scores, comparison: Comparison, batches: Batches | None = None
) -> dict[str, NDArray[Any]]:
    """Every score and p-value by name, (N,) each: the columns of scores.csv."""
    by_name: dict[str, NDArray[Any]] = {
        "log_prob": scores.log_prob,
        "bits_per_dim": scores.bits_per_dim,
        "typicality": comparison.typicality,
    }
    if scores.complexity is not None:
        by_name["complexity"] = scores.complexity
    for level, part in enumerate(scores.by_level.T, 1):
        by_name[f"log_prob_level_{level}"] = part
    by_name["p_log_prob"] = comparison.p_log_prob
    by_name["p_typicality"] = comparison.p_typicality
    if comparison.p_complexity is not None:
        by_name["p_complexity"] = comparison.p_complexity
    if batches is not None:
        batch = np.arange(len(scores)) // batches.size
        by_name["batch"] = batch
        by_name["batch_typicality"] = batches.typicality[batch]
        by_name["p_batch_typicality"] = batches.p_value[batch]
    return by_name
