"""Coverage: how often a truth lies where the posterior says."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .arrays import Values, in_parts, ranks_among, require_pairs
from .ranks import Ranks

LEVELS = 10


@dataclass(frozen=True)
class Coverage:
    """Shares of truths within central credible intervals."""

    nominal: Values
    """(L,) probability of each interval."""
    empirical: Values
    """(L,) share of truths in it, over simulations and values."""
    standard_error: Values
    """(L,) over simulations, whose values belong together."""

    @property
    def z_scores(self) -> Values:
        """(empirical − nominal)/error of each level."""
        return (self.empirical - self.nominal) / self.standard_error


def interval_coverage(ranks: Ranks, levels: int = LEVELS) -> Coverage:
    """Coverage of the central intervals between order statistics of the draws.

    The interval from the k-th smallest to the k-th largest of S draws holds a further draw with
    probability (S + 1 − 2k)/(S + 1), whatever the distribution; the truth is in it if its rank r
    has k ≤ r ≤ S − k. The k nearest to ten equally spaced levels are taken.

    Args:
        ranks: of `sbc_ranks`.
        levels: how many, between 0 and 1.

    Raises:
        InputError: there are fewer than two simulations, or too few draws for so many levels.
    """
    draws, count = ranks.draws, len(ranks)
    if count < 2:
        raise InputError(f"There is {count} simulation: give 2 at least.")
    wanted = (np.arange(levels) + 0.5) / levels
    k = np.unique(np.round((draws + 1) * (1 - wanted) / 2).astype(np.int64))
    k = k[(k >= 1) & (draws + 1 - 2 * k > 0)][::-1]
    if len(k) < levels:
        raise InputError(
            f"With {draws} draws there are {len(k)} intervals of different probability: give "
            f"{2 * levels} draws, or fewer levels."
        )
    flat = ranks.by_value.reshape(count, -1)
    inside = np.stack([((flat >= each) & (flat <= draws - each)).mean(axis=1) for each in k])
    nominal = (draws + 1 - 2 * k) / (draws + 1)
    error = inside.std(axis=1, ddof=1) / np.sqrt(count)
    of_independent = np.sqrt(nominal * (1 - nominal) / (count * flat.shape[1]))
    return Coverage(nominal, inside.mean(axis=1), np.maximum(error, of_independent))


def tarp_ranks(
    truths: NDArray[Any], samples: NDArray[Any], *, seed: int = 0
) -> tuple[NDArray[np.int64], int]:
    """For each simulation, how many draws are nearer to a random reference than the truth is.

    With a reference θ_r and the Euclidean distance d, after each value is divided by its standard
    deviation over the truths: f_n = #{s: d(θ_ns, θ_r) < d(θ_n, θ_r)}. The share of simulations with
    f_n/S below α is the expected coverage of the ball round θ_r that has credibility α; it equals α
    for every α if the posterior is right. References are truths of other simulations.

    Args:
        truths: (N, *event), N ≥ 2.
        samples: (N, S, *event).
        seed: of the references.

    Returns:
        (N,) ranks, uniform on 0 … S if the posterior is right, and S.

    Raises:
        InputError: the shapes do not go together, a value is not finite, or N is 1.

    Source: Lemos et al. 2023, "Sampling-based accuracy testing of posterior estimators for general
    inference" (TARP), arXiv:2302.03026.
    """
    require_pairs(truths, samples)
    count = len(truths)
    if count < 2:
        raise InputError("There is 1 simulation: give 2 at least, the others are its references.")
    generator = np.random.default_rng(seed)
    others = (np.arange(count) + generator.integers(1, count, size=count)) % count
    flat = truths.reshape(count, -1).astype(np.float64)
    spread = flat.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    ranks = np.empty(count, dtype=np.int64)
    for part, some, theirs in in_parts(truths, samples):
        reference = flat[others[part]]
        of_truth = (((some - reference) / scale) ** 2).sum(axis=1)
        of_draws = (((theirs - reference[:, None]) / scale) ** 2).sum(axis=2)
        ranks[part] = ranks_among(of_truth, of_draws, generator)
    return ranks, samples.shape[1]
