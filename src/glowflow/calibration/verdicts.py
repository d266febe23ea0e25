"""What the checks say together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from ..errors import InputError
from .coverage import Coverage, interval_coverage, tarp_ranks
from .predictive import EXTREME, Predictive, predictive_check
from .ranks import Ranks, sbc_ranks
from .spectrum import OnePoint, Ratio, Spectrum, one_point, power_spectrum, spectrum_ratio
from .two_sample import TwoSample, c2st
from .uniform import uniformity

SIGNIFICANCE = 0.01
"""Probability with which a check fails where nothing is wrong."""
TOLERATED_ACCURACY = 0.55
TOLERATED_POWER = 0.02
"""Of the ratio of power spectra from 1, beside three standard errors."""


@dataclass(frozen=True)
class Verdict:
    """What one check found."""

    check: str
    found: str
    """The figures, in words."""
    expected: str
    passed: bool


@dataclass(frozen=True)
class PosteriorChecks:
    """Checks of posterior draws against the truths that the data were made from."""

    ranks: Ranks
    coverage: Coverage
    tarp: NDArray[np.int64]
    verdicts: tuple[Verdict, ...]
    two_sample: TwoSample | None = None
    predictive: Predictive | None = None


@dataclass(frozen=True)
class SampleChecks:
    """Checks of samples against data of the same distribution."""

    spectra: tuple[Spectrum, Spectrum]
    """Of the samples, and of the data."""
    ratio: Ratio
    one_point: tuple[OnePoint, OnePoint]
    two_sample: TwoSample
    verdicts: tuple[Verdict, ...] = field(default_factory=tuple)


def all_passed(verdicts: Sequence[Verdict]) -> bool:
    """Whether no check failed."""
    return all(verdict.passed for verdict in verdicts)


def check_posterior(
    truths: NDArray[Any],
    samples: NDArray[Any],
    *,
    reference: NDArray[Any] | None = None,
    observed: NDArray[Any] | None = None,
    replicated: NDArray[Any] | None = None,
    seed: int = 0,
) -> PosteriorChecks:
    """Simulation-based calibration, coverage at ten levels and TARP; a two-sample test and
    predictive checks where there are data for them.

    Args:
        truths: (N, *event), each the parameters or the field that an observation was made from.
        samples: (N, S, *event), draws of the posterior of each observation.
        reference: (N, R, *event), draws of the right posterior, if it is known.
        observed: (N, *data), what was observed.
        replicated: (N, S, *data), data drawn from the posterior's draws.
        seed: of what is random in the checks.

    Raises:
        InputError: shapes do not go together, there is too little, or a value is not finite.
    """
    for name, others in (("reference draws", reference), ("observations", observed)):
        if others is not None and len(others) != len(truths):
            raise InputError(
                f"There are {len(others)} {name} and {len(truths)} truths: give one for each."
            )
    if reference is not None and reference.shape[2:] != samples.shape[2:]:
        raise InputError(
            f"A reference draw is {reference.shape[2:]} and a sample {samples.shape[2:]}: they "
            "must be of one shape."
        )
    ranks = sbc_ranks(truths, samples, seed=seed)
    coverage = interval_coverage(ranks)
    tarp, draws = tarp_ranks(truths, samples, seed=seed)
    verdicts = [*_of_ranks(ranks), _of_coverage(coverage), _of_tarp(tarp, draws)]
    two_sample = predictive = None
    if reference is not None:
        two_sample = _against_reference(samples, reference, seed)
        verdicts.append(_of_two_sample(two_sample))
    if observed is not None and replicated is not None:
        predictive = predictive_check(observed, replicated)
        verdicts.append(_of_predictive(predictive))
    return PosteriorChecks(ranks, coverage, tarp, tuple(verdicts), two_sample, predictive)


def check_samples(samples: NDArray[Any], data: NDArray[Any], *, seed: int = 0) -> SampleChecks:
    """Power spectrum, one-point statistics and a two-sample test.

    Args:
        samples: (M, C, *grid).
        data: (N, C, *grid).
        seed: of what is random in the checks.

    Raises:
        InputError: they are on different grids, there are too few, or a value is not finite.
    """
    spectra = power_spectrum(samples), power_spectrum(data)
    ratio = spectrum_ratio(*spectra)
    points = one_point(samples, seed=seed), one_point(data, seed=seed + 1)
    two_sample = c2st(samples, data, seed=seed)
    verdicts = (_of_ratio(ratio), _of_points(*points), _of_two_sample(two_sample))
    return SampleChecks(spectra, ratio, points, two_sample, verdicts)


def _of_ranks(ranks: Ranks) -> list[Verdict]:
    p = np.sort(ranks.p_values().ravel())
    smallest = min(
        1.0, float(p[0]) * len(p)
    )  # Bonferroni, which holds for values that belong together
    verdicts = [
        Verdict(
            "ranks of each value",
            f"smallest p of {len(p):,}, corrected for so many: {smallest:.3g}",
            f"at least {SIGNIFICANCE:g}",
            smallest >= SIGNIFICANCE,
        )
    ]
    by_summary = ranks.summary_p_values()
    least = SIGNIFICANCE / max(1, len(by_summary))
    verdicts += [
        Verdict(
            f"ranks of the {name}", f"p = {p_value:.3g}", f"at least {least:.3g}", p_value >= least
        )
        for name, p_value in by_summary.items()
    ]
    return verdicts


def _of_coverage(coverage: Coverage) -> Verdict:
    worst = int(np.abs(coverage.z_scores).argmax())
    limit = float(norm.isf(SIGNIFICANCE / 2 / len(coverage.nominal)))
    return Verdict(
        "coverage of central intervals",
        f"worst of {len(coverage.nominal)} levels: {coverage.empirical[worst]:.3f} ± "
        f"{coverage.standard_error[worst]:.3f} of {coverage.nominal[worst]:.3f}",
        f"within {limit:.1f} standard errors",
        bool(abs(coverage.z_scores[worst]) <= limit),
    )


def _of_tarp(tarp: NDArray[np.int64], draws: int) -> Verdict:
    p = float(uniformity(tarp[:, None], draws)[0])
    return Verdict(
        "expected coverage (TARP)", f"p = {p:.3g}", f"at least {SIGNIFICANCE:g}", p >= SIGNIFICANCE
    )


def _against_reference(samples: NDArray[Any], reference: NDArray[Any], seed: int) -> TwoSample:
    """The test for each observation, averaged: draws of different observations are not alike."""
    tests = [
        c2st(some, right, seed=seed + index)
        for index, (some, right) in enumerate(zip(samples, reference, strict=True))
    ]
    accuracy = float(np.mean([test.accuracy for test in tests]))
    errors = np.array([test.standard_error for test in tests])
    return TwoSample(accuracy, float(np.sqrt((errors**2).sum()) / len(errors)))


def _of_two_sample(test: TwoSample) -> Verdict:
    return Verdict(
        "two-sample test by a classifier",
        f"accuracy {test.accuracy:.3f} ± {test.standard_error:.3f}",
        f"at most {TOLERATED_ACCURACY:g}, where 0.5 is chance, within 3 standard errors",
        test.accuracy <= TOLERATED_ACCURACY + 3 * test.standard_error,
    )


def _of_predictive(predictive: Predictive) -> Verdict:
    extreme = predictive.extreme()
    name = max(extreme, key=extreme.__getitem__)
    count = len(predictive.p_values[name])
    most = int(binom.isf(SIGNIFICANCE / len(extreme), count, 2 * EXTREME))
    return Verdict(
        "posterior predictive checks",
        f"most p-values beyond {EXTREME:g}: {extreme[name]} of {count}, of the {name}",
        f"at most {most}",
        extreme[name] <= most,
    )


def _of_ratio(ratio: Ratio) -> Verdict:
    excess = np.abs(ratio.ratio - 1) - 3 * ratio.standard_error
    worst = int(excess.argmax())
    return Verdict(
        "power spectrum",
        f"samples ÷ data is farthest from 1 at k = {ratio.wavenumber[worst]:g}: "
        f"{ratio.ratio[worst]:.3f} ± {ratio.standard_error[worst]:.3f}",
        f"1 ± {TOLERATED_POWER:g}, within 3 standard errors",
        bool(excess[worst] <= TOLERATED_POWER),
    )


def _of_points(samples: OnePoint, data: OnePoint) -> Verdict:
    scores = {}
    for name, value in data.statistics.items():
        error = np.hypot(samples.standard_errors[name], data.standard_errors[name])
        difference = samples.statistics[name] - value
        same = error == 0 and difference == 0
        scores[name] = 0.0 if same else float(np.divide(difference, error or np.finfo(float).tiny))
    worst = max(scores, key=lambda name: abs(scores[name]))
    limit = float(norm.isf(SIGNIFICANCE / 2 / len(scores)))
    return Verdict(
        "one-point statistics",
        f"largest difference: {worst}, {samples.statistics[worst]:.4g} for "
        f"{data.statistics[worst]:.4g}, {abs(scores[worst]):.1f} standard errors",
        f"within {limit:.1f} standard errors",
        abs(scores[worst]) <= limit,
    )
