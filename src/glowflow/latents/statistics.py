"""Statistics of codes, a batch at a time: weighted sums, principal axes, discriminants."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from ..processes import (
    gather_in_order,
    max_over_processes,
    process_count,
)


class WeightedSums:
    """Σ_n w_nᵀ ε_n (K, D), a batch at a time: each direction is such a sum, with known weights.

    Args:
        count: K.
        size: D.
    """

    def __init__(self, count: int, size: int) -> None:
        self.sums = torch.zeros(count, size, dtype=torch.float64)

    def update(self, weights: Float[Tensor, "batch K"], rows: Float[Tensor, "batch D"]) -> None:
        """Add a batch."""
        self.sums += weights.double().T @ rows.double()


class RunningPCA:
    """Mean and principal axes of rows that are seen a batch at a time, in O(components·D) memory.

    Keeps the scatter matrix as S V with V (k, D) orthonormal; a batch X of m rows with mean x̄
    joins n rows with mean μ by the singular vectors of
    [S V; X − x̄; √(nm/(n+m))·(μ − x̄)], cut to 2·components + 16 rows. Exact while the rows seen, or
    D, are not more than that; otherwise what is cut off is the smallest.

    Source: Ross, Lim, Lin & Yang 2008, "Incremental learning for robust visual tracking".

    Args:
        components: axes wanted.

    Raises:
        InputError: components is below 1.
    """

    def __init__(self, components: int) -> None:
        if components < 1:
            raise InputError(f"components is {components}: ask for at least 1.")
        self.requested = components
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.total_scatter = 0.0
        self._scaled = torch.zeros(0, 0, dtype=torch.float64)

    def update(self, rows: Float[Tensor, "batch D"]) -> None:
        """Add a batch."""
        rows = rows.double()
        centred = rows - rows.mean(0)
        self._join(len(rows), rows.mean(0), centred, float(centred.square().sum()))

    def add_up(self) -> None:
        """Join what each process has seen; all of them then know the same."""
        if process_count() == 1:
            return
        size = int(max_over_processes(self._scaled.shape[1])[0])
        mine = torch.zeros(self._capacity + 1, size, dtype=torch.float64)
        if self.count:
            mine[: len(self._scaled)], mine[-1] = self._scaled, self.mean
        facts = torch.tensor([[self.count, self.total_scatter]], dtype=torch.float64)
        rows = gather_in_order(mine, process_count() * len(mine)).view(
            len(mine), process_count(), size
        )
        counts = gather_in_order(facts, process_count())
        self.count, self.total_scatter = 0, 0.0
        for (count, scatter), of_one in zip(counts.tolist(), rows.unbind(1), strict=True):
            if count:
                self._join(int(count), of_one[-1], of_one[:-1], scatter)

    def _join(self, m: int, mean: Tensor, scaled: Tensor, scatter: float) -> None:
        """Add m rows by their mean, and by rows with their scatter matrix and its trace."""
        n = self.count
        parts = [scaled]
        if n:
            between = math.sqrt(n * m / (n + m)) * (self.mean - mean)[None]
            parts = [self._scaled, scaled, between]
            scatter += float(between.square().sum())
            mean = self.mean + (mean - self.mean) * (m / (n + m))
        self.count, self.mean = n + m, mean
        self.total_scatter += scatter
        stacked = torch.cat(parts)
        _, vectors = torch.linalg.eigh(stacked @ stacked.T)
        self._scaled = vectors.flip(1)[:, : self._capacity].T @ stacked

    @property
    def _capacity(self) -> int:
        """Rows that are kept."""
        return 2 * self.requested + 16

    @property
    def scatters(self) -> Float[Tensor, " k"]:
        """Σ of the squares along each axis, largest first."""
        return self._scaled.square().sum(1)[: self._rank]

    @property
    def _rank(self) -> int:
        """Axes that there are."""
        return max(0, min(self.requested, self.count - 1, len(self._scaled)))

    @property
    def components(self) -> Float[Tensor, "k D"]:
        """Orthonormal axes, largest variance first; the largest entry of each is positive."""
        scaled = self._scaled[: self._rank]
        axes = scaled / scaled.norm(dim=1, keepdim=True).clamp_min(1e-300)
        largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
        return axes * torch.sign(largest)

    @property
    def variances(self) -> Float[Tensor, " k"]:
        """Variance along each axis (÷ n − 1)."""
        return self.scatters / max(1, self.count - 1)

    @property
    def total_variance(self) -> float:
        """Sum of the variances of all D coordinates."""
        return self.total_scatter / max(1, self.count - 1)

    @property
    def shares(self) -> Float[Tensor, " k"]:
        """Explained variance of each axis, as a share of all."""
        return self.variances / max(self.total_variance, 1e-300)


def discriminant(differences: Float[Tensor, "A D"], pca: RunningPCA) -> Float[Tensor, "A D"]:
    """w = Σ⁻¹ Δμ: normals of regularised linear discriminants, one a row of Δμ.

    Σ is the covariance along the principal axes, and along all others the mean of what is left, so
    that it can be inverted from fewer images than dimensions. It is the total covariance, which
    gives the same normal as the one within the classes, up to its length.
    """
    axes, variances = pca.components, pca.variances
    rest = max(pca.total_variance - float(variances.sum()), 0.0)
    floor = rest / max(1, differences.shape[1] - len(axes))
    floor = max(floor, 1e-6 * pca.total_variance / differences.shape[1], 1e-12)
    along = differences.double() @ axes.T
    return (
        differences.double() / floor + (along * (1 / variances.clamp_min(floor) - 1 / floor)) @ axes
    )
