"""A Gaussian over the pixels, the strongest of the simple models."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.likelihood import name_of_data
from .baselines import AT_ONCE, Baseline, in_parts, require_same_shape

LARGEST = 4096
"""Dimensions that `gaussian` accepts by default: its time grows with the cube."""
SHRINKAGES = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)


def gaussian(
    train: NDArray[Any],
    images: NDArray[Any],
    bits: int | None = 8,
    margins: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
    *,
    seed: int = 0,
    max_dims: int = LARGEST,
) -> Baseline:
    """A Gaussian with a full covariance over the dequantised pixels, fitted on `train`.

    −(1/D) log2 N(x + u; μ + 1/2, Σ), with u uniform in [0, 1) on integer values,
    Σ = (1 − a) S + a diag(S) + I/12, S the covariance of the integers and 1/12 the variance of u.
    The shrinkage a is the one of eleven values from 0 to 1 under which every fifth training image,
    the first 1,024 of them at most, is most probable given the others. For float data there is no
    u, no 1/2 and no I/12.

    Args:
        train: images to fit, of shape (N_train, C, H, W).
        images: images to score, of shape (N, C, H, W).
        bits: bits per value, 1 to 8; `None` for float data.
        margins: as in `Baseline.of`.
        groups: as in `Baseline.of`.
        seed: seed of the uniform noise.
        max_dims: above this many dimensions nothing is computed: it takes O(N_train D² + D³), and
            O(N_train² D) with fewer images than dimensions.

    Raises:
        InputError: the shapes of `train` and `images` differ, or one of them is empty.
    """
    name = "Full-covariance Gaussian"
    require_same_shape(train, images)
    scores, note = _scores(train, images, bits, seed, max_dims)
    if scores is None:
        return Baseline(name, None, None, note)
    figures = scores / math.prod(images.shape[1:]) / math.log(2)
    return Baseline.of(name, figures, note, margins, groups)


def gaussian_given(
    train: tuple[NDArray[Any], NDArray[Any]],
    data: tuple[NDArray[Any], NDArray[Any]],
    *,
    max_dims: int = LARGEST,
) -> Baseline:
    """A Gaussian over float data x and its conditions c together, given c, fitted on `train`.

    −(1/D) log2 [N(x, c) / N(c)], each fitted as by `gaussian`; classes count as numbers.

    Args:
        train: x (N_train, C, H, W) and c (N_train, V) to fit.
        data: x (N, C, H, W) and c (N, V) to score.
        max_dims: largest D + V.

    Raises:
        InputError: the shapes of x differ, or there are no samples.
    """
    name = "Full-covariance Gaussian, given the same"
    (known, known_given), (images, given) = train, data
    require_same_shape(known, images)
    if not (np.isfinite(given).all() and np.isfinite(known_given).all()):
        return Baseline(name, None, None, "not fitted where conditions are missing")
    both, note = _scores(_joined(known, known_given), _joined(images, given), None, 0, max_dims)
    alone, why = _scores(_joined(known_given), _joined(given), None, 0, max_dims)
    if both is None or alone is None:
        return Baseline(name, None, None, note if both is None else why)
    dims = math.prod(images.shape[1:])
    return Baseline.of(name, (both - alone) / dims / math.log(2), note, None)


def _joined(*parts: NDArray[Any]) -> NDArray[Any]:
    """Rows side by side, (N, values, 1, 1)."""
    rows = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    return rows[:, :, None, None]


def _scores(
    train: NDArray[Any], images: NDArray[Any], bits: int | None, seed: int, max_dims: int
) -> tuple[NDArray[np.float64] | None, str]:
    """−log p (N,) in nats, and how it was fitted; None, and why not."""
    dims = math.prod(images.shape[1:])
    if dims > max_dims:
        return None, f"not fitted above {max_dims:,} dimensions ({dims:,})"
    if len(train) < 10:
        return None, f"{len(train)} training {name_of_data(bits)} are too few to fit"

    noise = np.random.default_rng(seed)
    held_out = np.arange(len(train)) % 5 == 4
    checked = _dequantised(train[np.flatnonzero(held_out)[:AT_ONCE]], bits, noise)
    factor: _Factor | _LowRankFactor | None
    if len(train) < dims:  # N by N matrices instead of D by D
        kept = _Rows.of(_values(train[~held_out], bits))
        shrinkage = _best_shrinkage(kept, checked, bits)
        factor = _Rows.of(_values(train, bits)).factor(shrinkage, bits)
    else:
        moments = _moments(train, ~held_out, bits)
        shrinkage = _best_shrinkage(moments, checked, bits)
        factor = moments.merged(_moments(train, held_out, bits)).factor(shrinkage, bits)
    if factor is None:
        return None, "the covariance is singular: some values never change"
    scores = np.concatenate(
        [factor.score(_dequantised(some, bits, noise)) for some in in_parts(images)]
    )
    note = (
        f"fitted on {len(train):,} {name_of_data(bits)}, shrunk by {shrinkage:g} towards its "
        "diagonal"
    )
    return scores, note


@dataclass(frozen=True)
class _Moments:
    """Count, mean (D,) and sum of centred outer products (D, D), float64."""

    count: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    def merged(self, other: "_Moments") -> "_Moments":
        count = self.count + other.count
        step = other.mean - self.mean
        between = np.outer(step, step) * (self.count * other.count / count)
        mean = self.mean + step * (other.count / count)
        return _Moments(count, mean, self.scatter + other.scatter + between)

    def factor(self, shrinkage: float, bits: int | None) -> "_Factor | None":
        covariance = torch.from_numpy(self.scatter * ((1.0 - shrinkage) / self.count))
        variance = torch.from_numpy(self.scatter.diagonal() / self.count)
        covariance.diagonal().copy_(variance + _noise_variance(bits))
        lower, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed) != 0:
            return None
        mean = torch.from_numpy(self.mean + _noise_mean(bits))
        return _Factor(mean, lower, float(lower.diagonal().log().sum()))


@dataclass(frozen=True)
class _Factor:
    """Mean (D,), lower Cholesky factor (D, D) of the covariance, and half its log-determinant."""

    mean: torch.Tensor
    lower: torch.Tensor
    half_log_det: float

    def score(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """−log N(values; mean, lower lowerᵀ) in nats: (N, D) to (N,)."""
        centred = torch.from_numpy(values) - self.mean
        white = torch.linalg.solve_triangular(self.lower, centred.T, upper=False)
        return _nats(white.square().sum(0), self.half_log_det, values.shape[1])


@dataclass(frozen=True)
class _Rows:
    """Mean (D,) and the centred images (N, D), N < D, float64."""

    mean: torch.Tensor
    centred: torch.Tensor

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "_Rows":
        rows = torch.from_numpy(values)
        mean = rows.mean(0)
        return cls(mean, rows - mean)

    def factor(self, shrinkage: float, bits: int | None) -> "_LowRankFactor | None":
        variance = shrinkage * self.centred.square().mean(0) + _noise_variance(bits)
        if not bool((variance > 0).all()):
            return None
        deviation = variance.sqrt()
        rows = self.centred / deviation * math.sqrt((1.0 - shrinkage) / len(self.centred))
        lower = torch.linalg.cholesky(torch.eye(len(rows), dtype=rows.dtype) + rows @ rows.T)
        half_log_det = float(deviation.log().sum() + lower.diagonal().log().sum())
        return _LowRankFactor(self.mean + _noise_mean(bits), deviation, rows, lower, half_log_det)


@dataclass(frozen=True)
class _LowRankFactor:
    """The covariance diag(d) (I + WᵀW) diag(d), with lower lowerᵀ = I + W Wᵀ.

    Shapes: mean and d (D,), W (N, D), lower (N, N). Its determinant and inverse are those of the
    small matrix (Sylvester's and Woodbury's identities).
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    rows: torch.Tensor
    lower: torch.Tensor
    half_log_det: float

    def score(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """−log N(values; mean, covariance) in nats: (N, D) to (N,)."""
        scaled = (torch.from_numpy(values) - self.mean) / self.deviation
        explained = torch.linalg.solve_triangular(self.lower, self.rows @ scaled.T, upper=False)
        distance = scaled.square().sum(1) - explained.square().sum(0)
        return _nats(distance, self.half_log_det, values.shape[1])


def _moments(images: NDArray[Any], chosen: NDArray[np.bool_], bits: int | None) -> _Moments:
    rows = np.flatnonzero(chosen)
    dims = math.prod(images.shape[1:])
    total, scatter = np.zeros(dims), np.zeros((dims, dims))
    for some in in_parts(rows):
        total += _values(images[some], bits).sum(axis=0)
    mean = total / len(rows)
    for some in in_parts(rows):
        centred = _values(images[some], bits) - mean
        scatter += centred.T @ centred
    return _Moments(len(rows), mean, scatter)


def _nats(distance: torch.Tensor, half_log_det: float, dims: int) -> NDArray[np.float64]:
    """−log N of squared Mahalanobis distances (N,)."""
    nats: NDArray[np.float64] = (
        0.5 * distance + half_log_det + 0.5 * dims * math.log(2 * math.pi)
    ).numpy()
    return nats


def _noise_mean(bits: int | None) -> float:
    return 0.0 if bits is None else 0.5


def _noise_variance(bits: int | None) -> float:
    return 0.0 if bits is None else 1.0 / 12.0


def _best_shrinkage(
    fitted: _Moments | _Rows, values: NDArray[np.float64], bits: int | None
) -> float:
    """The shrinkage of least mean −log p(values); the search stops once it gets worse."""
    best, lowest = SHRINKAGES[-1], math.inf
    for shrinkage in SHRINKAGES:
        factor = fitted.factor(shrinkage, bits)
        score = math.inf if factor is None else float(factor.score(values).mean())
        if score < lowest:
            best, lowest = shrinkage, score
        elif math.isfinite(lowest):
            break
    return best


def _values(images: NDArray[Any], bits: int | None) -> NDArray[np.float64]:
    flat = images.reshape(len(images), -1)
    return (flat if bits is None else flat >> (8 - bits)).astype(np.float64)


def _dequantised(
    images: NDArray[Any], bits: int | None, noise: np.random.Generator
) -> NDArray[np.float64]:
    values = _values(images, bits)
    return values if bits is None else values + noise.random(values.shape)
