"""Ranks that should be uniform: a test, and the band in which their distribution lies."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chi2

from ..errors import InputError
from .arrays import Values

MOST_BINS = 20
LEAST_IN_BIN = 20
"""Expected ranks of a bin: with fewer, small p-values are too small by factors."""
LEAST = 10
"""Simulations, at least, for two bins."""
SIMULATIONS = 4000
"""Sets of uniform ranks from which the width of a band is found."""
MOST_POINTS = 200


def uniformity(ranks: NDArray[np.int64], draws: int) -> Values:
    """p-values of χ² = Σ_bins (n − e)²/e, under ranks that are uniform on 0 … S.

    Bins are whole ranks, with the expected e = N·(ranks of the bin)/(S + 1) of each; at most 20,
    and so few that e is about 20, but two at least.

    Args:
        ranks: (N, Q), of N independent simulations, for each of Q quantities.
        draws: S.

    Returns:
        (Q,) p-values.

    Raises:
        InputError: there are too few simulations for two bins.

    Source: Talts et al. 2018, "Validating Bayesian inference algorithms with simulation-based
    calibration".
    """
    count = len(ranks)
    if count < LEAST or draws < 1:
        raise InputError(
            f"There are {count} simulations of {draws} draws: give {LEAST} simulations at least."
        )
    bins = min(MOST_BINS, draws + 1, max(2, count // LEAST_IN_BIN))
    edges = np.linspace(0, draws + 1, bins + 1).round().astype(np.int64)
    expected = count * np.diff(edges) / (draws + 1)
    places = np.searchsorted(edges, ranks, side="right") - 1
    counts = np.stack([(places == place).sum(axis=0) for place in range(bins)])
    statistic = ((counts - expected[:, None]) ** 2 / expected[:, None]).sum(axis=0)
    return np.asarray(chi2.sf(statistic, bins - 1), dtype=np.float64)


@dataclass(frozen=True)
class Band:
    """Where the shares of ranks below all levels lie together with probability `confidence`."""

    levels: Values
    """(K,) of the ranks' range, 0 to 1."""
    low: Values
    high: Values
    confidence: float


@lru_cache(maxsize=32)
def simultaneous_band(count: int, draws: int, confidence: float = 0.95) -> Band:
    """The band of the empirical distribution of N uniform ranks, simultaneous over all levels.

    At each level z the share of ranks below is binomial(N, z)/N; the pointwise intervals are
    widened until `confidence` of simulated sets of ranks lie within all of them.

    Args:
        count: N.
        draws: S; ranks are 0 … S.
        confidence: of the whole band.

    Source: Säilynoja, Bürkner and Vehtari 2022, "Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison".
    """
    ends = np.unique(np.linspace(1, draws, min(MOST_POINTS, draws)).round().astype(np.int64))
    levels = ends / (draws + 1)
    generator = np.random.default_rng(0)
    smallest = np.empty(SIMULATIONS)
    tails = np.stack([_two_sided(count, level) for level in levels])
    for start in range(0, SIMULATIONS, 200):
        ranks = generator.multinomial(count, np.full(draws + 1, 1 / (draws + 1)), size=200)
        below = ranks.cumsum(axis=1)[:, ends - 1]
        smallest[start : start + 200] = tails[np.arange(len(ends)), below].min(axis=1)
    pointwise = float(np.quantile(smallest, 1 - confidence))
    low = binom.ppf(pointwise / 2, count, levels) / count
    high = binom.ppf(1 - pointwise / 2, count, levels) / count
    return Band(levels, low, high, confidence)


def shares_below(ranks: NDArray[np.int64], draws: int, band: Band) -> Values:
    """The share of these ranks (N,) below each level of a band of theirs."""
    ends = (band.levels * (draws + 1)).round()
    return np.asarray((ranks[:, None] < ends).mean(axis=0))


def is_within(ranks: NDArray[np.int64], draws: int, band: Band) -> bool:
    """Whether the distribution of these ranks (N,) lies in the band everywhere."""
    shares = shares_below(ranks, draws, band)
    return bool(((shares >= band.low - 1e-12) & (shares <= band.high + 1e-12)).all())


def _two_sided(count: int, level: float) -> Values:
    """For 0 … N ranks below a level, twice the smaller tail of the binomial distribution."""
    below = np.arange(count + 1)
    tails = np.minimum(binom.cdf(below, count, level), binom.sf(below - 1, count, level))
    return np.asarray(np.minimum(2 * tails, 1.0))
