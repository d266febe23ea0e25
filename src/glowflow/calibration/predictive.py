"""Posterior predictive checks: do data that the posterior predicts look like the observed ones?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .arrays import Values, in_parts, require_pairs
from .ranks import SUMMARIES, Summary

EXTREME = 0.01
"""A p-value is extreme below it, or above one minus it."""
LEAST = 100
"""Replications of an observation: with fewer, no p-value can be extreme."""


@dataclass(frozen=True)
class Predictive:
    """Posterior predictive p-values of N observations, for each statistic."""

    p_values: dict[str, Values]
    """(N,) shares of replications whose statistic is above the observed one, ties counted half."""
    replications: int

    def extreme(self) -> dict[str, int]:
        """How many observations have a p-value below 0.01 or above 0.99."""
        return {
            name: int(((p < EXTREME) | (p > 1 - EXTREME)).sum())
            for name, p in self.p_values.items()
        }


def predictive_check(
    observed: NDArray[Any],
    replicated: NDArray[Any],
    *,
    statistics: Mapping[str, Summary] | None = None,
) -> Predictive:
    """p_n = Pr(T(y_rep) > T(y_n)) with y_rep ~ p(y | θ), θ ~ q(θ | y_n).

    A p-value near 0 or 1 says that the model of the data cannot make what was observed. Because the
    observation has been used to fit θ they are not uniform but crowd round 1/2; more than 2 % of
    extreme ones are a reason to look.

    Args:
        observed: (N, *event).
        replicated: (N, S, *event).
        statistics: functions of the flattened event; by default mean, standard deviation, largest
            and smallest value.

    Raises:
        InputError: the shapes do not go together, there are fewer than 100 replications, or a value
            is not finite.

    Source: Gelman, Meng and Stern 1996, "Posterior predictive assessment of model fitness".
    """
    require_pairs(observed, replicated, "replications")
    draws = replicated.shape[1]
    if draws < LEAST:
        raise InputError(
            f"There are {draws} replications of an observation: give {LEAST} at least."
        )
    chosen = SUMMARIES if statistics is None else statistics
    p_values = {name: np.empty(len(observed)) for name in chosen}
    for part, some, theirs in in_parts(observed, replicated):
        for name, statistic in chosen.items():
            seen, made = statistic(some)[:, None], statistic(theirs)
            p_values[name][part] = ((made > seen) + 0.5 * (made == seen)).mean(axis=1)
    return Predictive(p_values, draws)
