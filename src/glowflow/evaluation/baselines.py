"""What a density model has to beat: simple models and image codecs, in bits per dimension.

Every function returns a `Baseline` for the images it is given. Images are uint8 arrays of shape
(N, C, H, W); `bits` below 8 means that they are first quantised to 2^bits values, as the model
sees them. With `bits=None` the data are floats and the figures are differential: they depend on
the unit of the data and can be negative.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from .estimate import mean_and_error

GAUSSIAN_DIMS = 4096
"""Largest number of dimensions `gaussian` accepts by default: its time grows with the cube."""
_SHRINKAGES = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
_CHUNK = 1024


@dataclass(frozen=True)
class Baseline:
    """One figure to compare a model with."""

    name: str
    """What was measured, as it stands in tables."""
    mean: float | None
    """Mean bits per dimension over the images; `None` where the baseline does not apply."""
    standard_error: float | None
    """Standard error of the mean over the images; `None` for fewer than two images."""
    note: str
    """How it was measured, or why it was not."""


def independent_pixels(train: NDArray[Any], images: NDArray[Any], bits: int | None = 8) -> Baseline:
    """Every position has its own histogram, fitted on `train` with one count added to each value.

    −(1/D) Σ_d log2 p_d(x_d), with p_d(v) = (count_d(v) + 1) / (N_train + 2^bits).

    Args:
        train: images to fit, uint8 of shape (N_train, C, H, W).
        images: images to score, uint8 of shape (N, C, H, W).
        bits: bits per value, 1 to 8; `None` for float data, which have no histogram.

    Raises:
        InputError: the shapes of `train` and `images` differ, or one of them is empty.
    """
    name = "Independent-pixel entropy"
    _require_same_shape(train, images)
    if bits is None:
        return Baseline(name, None, None, "float data has no histogram")
    dims, values = math.prod(images.shape[1:]), 2**bits
    offsets = np.arange(dims) * values
    counts = np.zeros(dims * values, dtype=np.uint32)
    for chunk in _chunks(train):
        for row in _integers(chunk, bits):
            counts[offsets + row] += 1
    scores = np.concatenate(
        [
            np.log2(counts[offsets + _integers(chunk, bits)] + 1.0).mean(axis=1)
            for chunk in _chunks(images)
        ]
    )
    note = f"one histogram of {values} values a position, fitted on {len(train):,} images"
    return Baseline(name, *mean_and_error(math.log2(len(train) + values) - scores), note)


def gaussian(
    train: NDArray[Any],
    images: NDArray[Any],
    bits: int | None = 8,
    *,
    seed: int = 0,
    max_dims: int = GAUSSIAN_DIMS,
) -> Baseline:
    """A Gaussian with a full covariance over the dequantised pixels, fitted on `train`.

    −(1/D) log2 N(x + u; μ + 1/2, Σ), with u uniform in [0, 1) on integer values,
    Σ = (1 − a) S + a diag(S) + I/12, S the covariance of the integers and 1/12 the variance of u.
    The shrinkage a is the one of eleven values from 0 to 1 under which every fifth training image
    is most probable given the others. For float data there is no u, no 1/2 and no I/12.

    Args:
        train: images to fit, of shape (N_train, C, H, W).
        images: images to score, of shape (N, C, H, W).
        bits: bits per value, 1 to 8; `None` for float data.
        seed: seed of the uniform noise.
        max_dims: above this many dimensions nothing is computed: it takes O(N_train D² + D³).

    Raises:
        InputError: the shapes of `train` and `images` differ, or one of them is empty.
    """
    name = "Full-covariance Gaussian"
    _require_same_shape(train, images)
    dims = math.prod(images.shape[1:])
    if dims > max_dims:
        return Baseline(name, None, None, f"not fitted above {max_dims:,} dimensions ({dims:,})")
    if len(train) < 10:
        return Baseline(name, None, None, f"{len(train)} training images are too few to fit")

    noise = np.random.default_rng(seed)
    held_out = np.arange(len(train)) % 5 == 4
    kept, others = _moments(train, ~held_out, bits), _moments(train, held_out, bits)
    checked = np.flatnonzero(held_out)[:_CHUNK]
    shrinkage = _best_shrinkage(kept, _dequantised(train[checked], bits, noise), bits)
    factor = _factor(kept.merged(others), shrinkage, bits)
    if factor is None:
        return Baseline(name, None, None, "the covariance is singular: some values never change")
    scores = np.concatenate(
        [factor.score(_dequantised(chunk, bits, noise)) for chunk in _chunks(images)]
    )
    note = f"fitted on {len(train):,} images, shrunk by {shrinkage:g} towards its diagonal"
    return Baseline(name, *mean_and_error(scores / dims / math.log(2)), note)


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
        constant = self.half_log_det + 0.5 * values.shape[1] * math.log(2 * math.pi)
        nats: NDArray[np.float64] = (0.5 * white.square().sum(0) + constant).numpy()
        return nats


def _moments(images: NDArray[Any], chosen: NDArray[np.bool_], bits: int | None) -> _Moments:
    rows = np.flatnonzero(chosen)
    dims = math.prod(images.shape[1:])
    total = np.zeros(dims)
    for start in range(0, len(rows), _CHUNK):
        total += _values(images[rows[start : start + _CHUNK]], bits).sum(axis=0)
    mean = total / len(rows)
    scatter = np.zeros((dims, dims))
    for start in range(0, len(rows), _CHUNK):
        centred = _values(images[rows[start : start + _CHUNK]], bits) - mean
        scatter += centred.T @ centred
    return _Moments(len(rows), mean, scatter)


def _factor(moments: _Moments, shrinkage: float, bits: int | None) -> _Factor | None:
    covariance = torch.from_numpy(moments.scatter * ((1.0 - shrinkage) / moments.count))
    diagonal = torch.from_numpy(moments.scatter.diagonal() / moments.count)
    covariance.diagonal().copy_(diagonal + (0.0 if bits is None else 1.0 / 12.0))
    lower, failed = torch.linalg.cholesky_ex(covariance)
    if int(failed) != 0:
        return None
    mean = torch.from_numpy(moments.mean + (0.0 if bits is None else 0.5))
    return _Factor(mean, lower, float(lower.diagonal().log().sum()))


def _best_shrinkage(moments: _Moments, values: NDArray[np.float64], bits: int | None) -> float:
    """The shrinkage of least mean −log p(values); the search stops once it gets worse."""
    best, lowest = _SHRINKAGES[-1], math.inf
    for shrinkage in _SHRINKAGES:
        factor = _factor(moments, shrinkage, bits)
        score = math.inf if factor is None else float(factor.score(values).mean())
        if score < lowest:
            best, lowest = shrinkage, score
        elif math.isfinite(lowest):
            break
    return best


def _chunks(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(images), _CHUNK):
        yield images[start : start + _CHUNK]


def _integers(images: NDArray[Any], bits: int) -> NDArray[np.intp]:
    """Values 0 .. 2^bits − 1, one row an image."""
    return (images.reshape(len(images), -1) >> (8 - bits)).astype(np.intp)


def _values(images: NDArray[Any], bits: int | None) -> NDArray[np.float64]:
    flat = images.reshape(len(images), -1)
    return (flat if bits is None else flat >> (8 - bits)).astype(np.float64)


def _dequantised(
    images: NDArray[Any], bits: int | None, noise: np.random.Generator
) -> NDArray[np.float64]:
    values = _values(images, bits)
    return values if bits is None else values + noise.random(values.shape)


def _require_same_shape(train: NDArray[Any], images: NDArray[Any]) -> None:
    if train.shape[1:] != images.shape[1:]:
        raise InputError(
            f"The training images are {train.shape[1:]} and the images to score are "
            f"{images.shape[1:]}: give both the same channels, height and width."
        )
    if not len(train) or not len(images):
        raise InputError("There are no images to fit or to score: give at least one of each.")
