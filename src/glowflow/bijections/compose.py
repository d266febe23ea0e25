"""Composition: maps one after another, log-determinants added."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import Bijection, per_sample


class Chain(Bijection):
    """f = f_n ∘ … ∘ f_1, with log|det df/dx| = Σ_i log|det df_i| (paper, equation 7)."""

    def __init__(self, bijections: Iterable[Bijection]) -> None:
        super().__init__()
        self.bijections = nn.ModuleList(bijections)

    def __iter__(self) -> Iterator[Bijection]:
        return iter(self.bijections)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.bijections)

    def __getitem__(self, index: int) -> Bijection:
        return self.bijections[index]  # type: ignore[return-value]

    def forward(self, x: Any, context: Tensor | None = None) -> tuple[Any, Float[Tensor, " batch"]]:
        """Return f(x) and its log-determinant in nats."""
        total = per_sample(0.0, x)
        for bijection in self:
            x, log_det = bijection(x, context)
            total = total + log_det
        return x, total

    def inverse(self, y: Any, context: Tensor | None = None) -> tuple[Any, Float[Tensor, " batch"]]:
        """Return f⁻¹(y) and its log-determinant in nats."""
        total = per_sample(0.0, y)
        for bijection in reversed(list(self)):
            y, log_det = bijection.inverse(y, context)
            total = total + log_det
        return y, total

    @torch.no_grad()
    def initialize(
        self, x: Any, context: Tensor | None = None
    ) -> tuple[Any, Float[Tensor, " batch"]]:
        """Initialise each map from what the maps before it make of `x`."""
        total = per_sample(0.0, x)
        for bijection in self:
            x, log_det = bijection.initialize(x, context)
            total = total + log_det
        return x, total
