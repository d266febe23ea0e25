"""Posterior predictive checks: do data that the posterior predicts look like the observed ones?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from .arrays import Values, require_pairs
from .ranks import SUMMARIES, Summary, sbc_ranks

EXTREME = 0.01
"""A p-value is extreme below it, or above one minus it."""


@dataclass(frozen=True)
class Predictive:
    """Posterior predictive p-values of N observations, for each statistic."""

    p_values: dict[str, Values]
    """(N,) shares of replications whose statistic is above the observed one, ties counted half."""
    replications: int

    def extreme(self) -> dict[str, float]:
        """The share of observations whose p-value is below 0.01 or above 0.99."""
        return {
            name: float(((p < EXTREME) | (p > 1 - EXTREME)).mean())
            for name, p in self.p_values.items()
        }


def predictive_check(
    observed: NDArray[Any],
    replicated: NDArray[Any],
    *,
    statistics: Mapping[str, Summary] | None = None,
    seed: int = 0,
) -> Predictive:
    """p_n = Pr(T(y_rep) > T(y_n)) with y_rep ~ p(y | θ), θ ~ q(θ | y_n).

    A p-value near 0 or 1 says that the model of the data cannot make what was observed. Because the
    observation has been used to fit θ they are not uniform but crowd round 1/2; a share of extreme
    ones above 2 % is a reason to look.

    Args:
        observed: (N, *event).
        replicated: (N, S, *event).
        statistics: functions of the flattened event; by default mean, standard deviation, largest
            and smallest value.
        seed: of how ties are broken.

    Raises:
        InputError: the shapes do not go together, or a value is not finite.

    Source: Gelman, Meng and Stern 1996, "Posterior predictive assessment of model fitness".
    """
    require_pairs(observed, replicated, "replications")
    chosen = SUMMARIES if statistics is None else statistics
    ranks = sbc_ranks(observed, replicated, summaries=chosen, seed=seed)
    share = {name: 1 - (r + 0.5) / (ranks.draws + 1) for name, r in ranks.by_summary.items()}
    return Predictive(share, ranks.draws)
