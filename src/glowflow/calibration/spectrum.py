"""Power spectra and one-point statistics of fields, with errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .arrays import AT_ONCE, Values, finite

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
RESAMPLES = 200


@dataclass(frozen=True)
class Spectrum:
    """Mean power by wavenumber, over fields and channels."""

    wavenumber: Values
    """(B,) |k| in cycles across the longest side."""
    power: Values
    """(B,) mean of |x̂_k|² in the shell; the sum over all modes is the fields' mean square."""
    standard_error: Values
    """(B,) over fields."""
    modes: NDArray[np.int64]
    """(B,) of each shell."""


def power_spectrum(fields: NDArray[Any]) -> Spectrum:
    """P(k) = ⟨|x̂_k|²⟩ with x̂_k = (1/n) Σ_p x_p exp(−2πi k·p/n), averaged over shells of |k|.

    By Parseval Σ_k |x̂_k|² is a field's mean square. The discrete Fourier transform takes a field as
    periodic; of others the edges add power at high k, in data and samples alike. Shells are one
    cycle across the longest side wide and go to its Nyquist wavenumber; k = 0 is left out.

    Args:
        fields: (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        InputError: they are of another shape, there are fewer than two, or a value is not finite.
    """
    if fields.ndim not in (3, 4, 5) or len(fields) < 2 or 0 in fields.shape:
        raise InputError(
            f"The fields are {fields.shape}: give two at least, as (N, C, L), (N, C, H, W) or "
            "(N, C, D, H, W)."
        )
    grid = fields.shape[2:]
    axes = tuple(range(2, fields.ndim))
    frequencies = np.meshgrid(*(np.fft.fftfreq(n) for n in grid), indexing="ij")
    across = np.sqrt(sum(f**2 for f in frequencies)) * max(grid)
    shell = np.round(across).astype(np.int64)
    last = max(grid) // 2
    if not last:
        raise InputError(f"The fields are {fields.shape}: give two values along a side at least.")
    modes = np.bincount(shell.ravel(), minlength=last + 1)[1 : last + 1]
    by_field = np.empty((len(fields), last))
    step = max(1, AT_ONCE // int(np.prod(fields.shape[1:])))
    for start in range(0, len(fields), step):
        some = finite(fields[start : start + step], "fields", start)
        power = (np.abs(np.fft.fftn(some, axes=axes, norm="forward")) ** 2).mean(axis=1)
        for index, each in enumerate(power):
            sums = np.bincount(shell.ravel(), each.ravel(), minlength=last + 1)[1 : last + 1]
            by_field[start + index] = sums / np.maximum(modes, 1)
    kept = modes > 0
    error = by_field.std(axis=0, ddof=1) / np.sqrt(len(fields))
    return Spectrum(
        np.arange(1, last + 1)[kept].astype(np.float64),
        by_field.mean(axis=0)[kept],
        error[kept],
        modes[kept],
    )


@dataclass(frozen=True)
class Ratio:
    """Power of samples ÷ power of data."""

    wavenumber: Values
    ratio: Values
    standard_error: Values


def spectrum_ratio(samples: Spectrum, data: Spectrum) -> Ratio:
    """r = P_samples/P_data with error r·√((σ_s/P_s)² + (σ_d/P_d)²), shell by shell.

    Shells without power in both are left out; where the data alone have none, their power counts as
    rounding's share of the largest.

    Raises:
        InputError: the spectra are of different grids, or both are of constant fields.
    """
    if not np.array_equal(samples.modes, data.modes):
        raise InputError("The samples and the data are on different grids: give one grid.")
    least = np.finfo(np.float64).eps * max(samples.power.max(), data.power.max())
    kept = np.maximum(samples.power, data.power) > least
    if not kept.any():
        raise InputError(
            "Every field is constant over its places: there is no spectrum to compare."
        )
    power = np.maximum(data.power[kept], least)
    ratio = samples.power[kept] / power
    relative = (np.where(data.power > least, data.standard_error, 0.0)[kept] / power) ** 2
    of_samples = np.divide(
        samples.standard_error[kept],
        samples.power[kept],
        out=np.zeros(int(kept.sum())),
        where=samples.power[kept] > 0,
    )
    return Ratio(data.wavenumber[kept], ratio, ratio * np.sqrt(relative + of_samples**2))


@dataclass(frozen=True)
class OnePoint:
    """Statistics of the values of fields, whatever their places, with their errors."""

    statistics: dict[str, float]
    standard_errors: dict[str, float]


def one_point(fields: NDArray[Any], *, seed: int = 0) -> OnePoint:
    """Mean, standard deviation, skewness, excess kurtosis and nine quantiles of the values.

    Moments are those of all values together, quantiles the means of the fields' own. Errors are
    standard deviations over 200 resamplings of whole fields, whose values belong together.

    Args:
        fields: (N, *event).
        seed: of the resampling.

    Raises:
        InputError: there are fewer than two fields, or a value is not finite.
    """
    if fields.ndim < 2 or len(fields) < 2:
        raise InputError(f"The fields are {fields.shape}: give two at least, as (N, …).")
    flat = finite(fields.reshape(len(fields), -1), "fields")
    centre = flat.mean()
    powers = np.stack([((flat - centre) ** k).mean(axis=1) for k in (1, 2, 3, 4)])
    quantiles = np.quantile(flat, QUANTILES, axis=1)
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(flat), size=(RESAMPLES, len(flat)))
    resampled = np.stack(
        [_moments(powers[:, d].mean(axis=1), quantiles[:, d].mean(axis=1)) for d in draws]
    )
    values = _moments(powers.mean(axis=1), quantiles.mean(axis=1))
    values[0] += centre
    names = (
        "mean",
        "standard deviation",
        "skewness",
        "excess kurtosis",
        *(f"quantile {100 * q:g} % of a field" for q in QUANTILES),
    )
    return OnePoint(
        dict(zip(names, map(float, values), strict=True)),
        dict(zip(names, map(float, resampled.std(axis=0, ddof=1)), strict=True)),
    )


def _moments(powers: Values, quantiles: Values) -> Values:
    m1, m2, m3, m4 = powers
    variance = m2 - m1**2
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    safe = variance if variance > 0 else np.inf
    shape = [third / safe**1.5, fourth / safe**2 - 3 if variance > 0 else 0.0]
    return np.array([m1, np.sqrt(max(variance, 0.0)), *shape, *quantiles])
