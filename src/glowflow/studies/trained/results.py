"""What trials ended with, over seeds and beside a reference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...evaluation.estimate import Estimate


@dataclass(frozen=True)
class TrialResult:
    """What a trial ended with."""

    name: str
    seed: int
    parameters: int
    images: int
    """That training has seen."""
    seconds: float
    """Of training, with validations and checkpoints."""
    images_per_second: float
    """Median over the lines of metrics.jsonl."""
    valid_bits_per_dim: float | None
    """Of the averaged weights, one noise draw; None if the trial was stopped."""
    test_bits_per_dim: float | None
    """Of the averaged weights; None if the trial was stopped."""
    curve: tuple[tuple[int, float, float], ...]
    """Images, seconds, and training bits/dim since the point before."""
    hardware: str
    stopped: str = ""
    """Why training could not go on; empty if it came to its end."""


def of(results: Sequence[TrialResult], name: str) -> list[TrialResult]:
    """The trials of one configuration."""
    return [result for result in results if result.name == name]


def over_seeds(results: Sequence[TrialResult], measure: str) -> Estimate | None:
    """Mean ± standard error over the trials that came to their end; None if none did."""
    values = [float(getattr(result, measure)) for result in results if not result.stopped]
    return Estimate.of(np.array(values)) if values else None


def difference(
    results: Sequence[TrialResult], name: str, reference: str, measure: str = "test_bits_per_dim"
) -> Estimate | None:
    """Mean ± standard error over seeds of name − reference, seed by seed; None without a pair."""
    ended = {
        (r.name, r.seed): float(getattr(r, measure))
        for r in results
        if r.name in (name, reference) and not r.stopped
    }
    values = [
        value - ended[reference, seed]
        for (whose, seed), value in ended.items()
        if whose == name and (reference, seed) in ended
    ]
    return Estimate.of(np.array(values)) if values else None
