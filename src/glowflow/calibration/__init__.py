"""Whether a density or a posterior can be trusted: the checks that a statistician asks for.

Example:
    >>> import numpy as np
    >>> from glowflow.calibration import check_posterior
    >>> rng = np.random.default_rng(0)
    >>> truths = rng.normal(size=(400, 2))
    >>> data = truths + rng.normal(size=(400, 2))
    >>> right = data[:, None] / 2 + rng.normal(size=(400, 199, 2)) * np.sqrt(0.5)
    >>> all(verdict.passed for verdict in check_posterior(truths, right).verdicts)
    True
    >>> narrow = data[:, None] / 2 + rng.normal(size=(400, 199, 2)) * 0.4
    >>> [verdict.check for verdict in check_posterior(truths, narrow).verdicts if verdict.passed]
    []
"""

from .coverage import Coverage, interval_coverage, tarp_ranks
from .predictive import Predictive, predictive_check
from .ranks import Ranks, sbc_ranks
from .spectrum import OnePoint, Ratio, Spectrum, one_point, power_spectrum, spectrum_ratio
from .two_sample import TwoSample, c2st
from .uniform import Band, is_within, shares_below, simultaneous_band, uniformity
from .verdicts import (
    PosteriorChecks,
    SampleChecks,
    Verdict,
    all_passed,
    check_posterior,
    check_samples,
)

__all__ = [
    "Band",
    "Coverage",
    "OnePoint",
    "PosteriorChecks",
    "Predictive",
    "Ranks",
    "Ratio",
    "SampleChecks",
    "Spectrum",
    "TwoSample",
    "Verdict",
    "all_passed",
    "c2st",
    "check_posterior",
    "check_samples",
    "interval_coverage",
    "is_within",
    "one_point",
    "power_spectrum",
    "predictive_check",
    "sbc_ranks",
    "shares_below",
    "simultaneous_band",
    "spectrum_ratio",
    "tarp_ranks",
    "uniformity",
]
