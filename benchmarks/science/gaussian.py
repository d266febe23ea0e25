"""Gaussian random fields, observed blurred, masked and noisy, and their exact posterior."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

Values = NDArray[np.float64]


def spectrum(grid: tuple[int, ...], corner: float = 3.0, slope: float = 3.0) -> Values:
    """P(k) ∝ (1 + (k / corner)²)^(−slope / 2), k in waves a side; each value has variance 1.

    x = F⁻¹(sqrt(P) F(w)), w ~ N(0, I), F the discrete Fourier transform.
    """
    waves = np.meshgrid(*(np.fft.fftfreq(n) * n for n in grid), indexing="ij")
    powers = (1 + sum(k**2 for k in waves) / corner**2) ** (-slope / 2)
    return np.asarray(powers / powers.mean())


def draw(powers: Values, count: int, noise: np.random.Generator) -> Values:
    """Periodic fields of this spectrum, (count, *grid)."""
    return filtered(noise.normal(size=(count, *powers.shape)), np.sqrt(powers))


def filtered(fields: Values, transfer: Values) -> Values:
    """F⁻¹(transfer · F(x)) of fields (N, *grid)."""
    axes = tuple(range(1, fields.ndim))
    return np.fft.ifftn(np.fft.fftn(fields, axes=axes) * transfer, axes=axes).real


@dataclass(frozen=True)
class Observation:
    """y = M (B x) + σ n with x ~ N(0, C): p(x | y) is normal, and known (Wiener's filter).

    Σ = (C⁻¹ + Bᵀ M B / σ²)⁻¹, μ(y) = Σ Bᵀ M y / σ².
    """

    size: int = 32
    blur: float = 1.0
    """Standard deviation of B, a periodic Gaussian, in pixels."""
    sigma: float = 0.3
    """Of the noise; x has 1."""

    @cached_property
    def powers(self) -> Values:
        """The spectrum of x."""
        return spectrum((self.size, self.size))

    @cached_property
    def transfer(self) -> Values:
        """B in Fourier space."""
        k = np.fft.fftfreq(self.size) * 2 * math.pi * self.blur
        return np.exp(-(k[:, None] ** 2 + k[None] ** 2) / 2)

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """M: not within a hole of nearly a third of each side, nor in one column."""
        unit = self.size / 32
        seen = np.ones((self.size, self.size), dtype=bool)
        seen[round(8 * unit) : round(18 * unit), round(12 * unit) : round(22 * unit)] = False
        seen[:, round(27 * unit)] = False
        return seen

    def observe(self, x: Values, noise: np.random.Generator) -> Values:
        """y of fields (N, H, W); NaN where nothing was seen."""
        y = filtered(x, self.transfer) + self.sigma * noise.normal(size=x.shape)
        return np.where(self.seen, y, np.nan)

    @cached_property
    def factor(self) -> Values:
        """U, lower triangular, with Σ⁻¹ = U Uᵀ."""
        eye = np.eye(self.size**2).reshape(-1, self.size, self.size)
        precision = filtered(eye, 1 / self.powers).reshape(len(eye), -1)
        blurred = filtered(eye, self.transfer).reshape(len(eye), -1)  # B is symmetric
        precision += (blurred * self.seen.ravel()) @ blurred / self.sigma**2
        return np.linalg.cholesky((precision + precision.T) / 2)

    def mean(self, y: Values) -> Values:
        """μ(y) of observations (N, H, W)."""
        weighted = filtered(np.where(self.seen, y, 0), self.transfer) / self.sigma**2
        rows = weighted.reshape(len(y), -1).T
        solved = np.linalg.solve(self.factor.T, np.linalg.solve(self.factor, rows))
        return solved.T.reshape(y.shape)

    @cached_property
    def covariance(self) -> Values:
        """Σ, (H·W, H·W), the same whatever y is."""
        half = np.linalg.inv(self.factor)
        return half.T @ half

    @property
    def std(self) -> Values:
        """sqrt(diag Σ), (H, W)."""
        return np.sqrt(np.diag(self.covariance)).reshape(self.size, self.size)

    def sample(self, y: Values, count: int, noise: np.random.Generator) -> Values:
        """Draws of p(x | y), (N, count, H, W)."""
        white = noise.normal(size=(self.size**2, len(y) * count))
        spread = np.linalg.solve(self.factor.T, white).T.reshape(len(y), count, *y.shape[1:])
        return self.mean(y)[:, None] + spread

    def log_prob(self, x: Values, y: Values) -> Values:
        """log N(x; μ(y), Σ) in nats, (N,)."""
        away = (x - self.mean(y)).reshape(len(x), -1) @ self.factor
        return np.asarray(-0.5 * (away**2).sum(1) - self._log_normaliser)

    @property
    def entropy(self) -> float:
        """Of p(x | y), in nats."""
        return self._log_normaliser + self.size**2 / 2

    @cached_property
    def _log_normaliser(self) -> float:
        return self.size**2 / 2 * math.log(2 * math.pi) - float(np.log(np.diag(self.factor)).sum())


def blurred_and_masked(x: torch.Tensor) -> torch.Tensor:
    """M (B x) of fields (N, 1, H, W): an operator for `glow solve`; 0 where nothing is seen."""
    problem = Observation(size=x.shape[-1])
    transfer = torch.from_numpy(problem.transfer).to(x)
    return torch.fft.ifft2(torch.fft.fft2(x) * transfer).real * torch.from_numpy(problem.seen).to(x)
