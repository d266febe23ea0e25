"""Simulation-based calibration: where a truth lies among the draws of its posterior."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Values, in_parts, ranks_among, require_pairs
from .uniform import uniformity

Summary = Callable[[Values], Values]
"""From (…, D) to (…): a number that is of interest."""


def _mean(x: Values) -> Values:
    return np.asarray(x.mean(axis=-1))


def _spread(x: Values) -> Values:
    return np.asarray(x.std(axis=-1))


def _largest(x: Values) -> Values:
    return np.asarray(x.max(axis=-1))


def _smallest(x: Values) -> Values:
    return np.asarray(x.min(axis=-1))


SUMMARIES: dict[str, Summary] = {
    "mean": _mean,
    "standard deviation": _spread,
    "largest value": _largest,
    "smallest value": _smallest,
}
"""Of a field's values; with one value a truth, only the mean says anything."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of N truths among S draws each; uniform on 0 … S if the posterior is right."""

    draws: int
    """S."""
    by_value: NDArray[np.int64]
    """(N, *event): of each value of the truth, such as each pixel of a field."""
    by_summary: dict[str, NDArray[np.int64]]
    """(N,) of each summary."""

    def __len__(self) -> int:
        return len(self.by_value)

    def p_values(self) -> Values:
        """(*event): that of each value's uniformity; under a right posterior they are uniform."""
        flat = self.by_value.reshape(len(self), -1)
        return uniformity(flat, self.draws).reshape(self.by_value.shape[1:])

    def summary_p_values(self) -> dict[str, float]:
        """That of each summary's uniformity."""
        return {
            name: float(uniformity(ranks[:, None], self.draws)[0])
            for name, ranks in self.by_summary.items()
        }


def sbc_ranks(
    truths: NDArray[Any],
    samples: NDArray[Any],
    *,
    summaries: Mapping[str, Summary] | None = None,
    seed: int = 0,
) -> Ranks:
    """Rank each truth among the draws of its posterior.

    Truths θ_n ~ p(θ), data y_n ~ p(y | θ_n), draws θ_ns ~ q(θ | y_n): if q is the posterior, the
    rank of θ_n among its draws is uniform on 0 … S, and so is that of f(θ_n) among f(θ_ns). Too
    narrow a posterior piles ranks up at both ends, too wide a one in the middle, a shifted one at
    one end.

    Args:
        truths: (N, *event).
        samples: (N, S, *event), independent draws (thin a chain first).
        summaries: functions f of the flattened event; by default mean, standard deviation, largest
            and smallest value.
        seed: of how ties are broken.

    Raises:
        InputError: the shapes do not go together, or a value is not finite.

    Source: Talts et al. 2018, arXiv:1804.06788.
    """
    require_pairs(truths, samples)
    values = int(np.prod(truths.shape[1:]))
    chosen = dict(SUMMARIES if summaries is None else summaries)
    if summaries is None and values == 1:
        chosen = {"mean": _mean}
    generator = np.random.default_rng(seed)
    by_value = np.empty((len(truths), values), dtype=np.int64)
    by_summary = {name: np.empty(len(truths), dtype=np.int64) for name in chosen}
    for part, some, theirs in in_parts(truths, samples):
        by_value[part] = ranks_among(some, theirs, generator)
        for name, summary in chosen.items():
            by_summary[name][part] = ranks_among(summary(some), summary(theirs), generator)
    return Ranks(samples.shape[1], by_value.reshape(truths.shape), by_summary)
