"""Composition: maps one after another, log-determinants added."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Bijection, per_sample
from .exact import compute_weights


class Chain(Bijection):
    """f = f_n ∘ … ∘ f_1, with log|det df/dx| = Σ_i log|det df_i| (paper, equation 7).

    Args:
        bijections: f_1 … f_n; with a mapping, each is an attribute of its name, else of its index.
    """

    def __init__(self, bijections: Iterable[Bijection] | Mapping[str, Bijection]) -> None:
        super().__init__()
        if not isinstance(bijections, Mapping):
            bijections = {str(index): bijection for index, bijection in enumerate(bijections)}
        for name, bijection in bijections.items():
            self.add_module(name, bijection)

    def __iter__(self) -> Iterator[Bijection]:
        return iter(self._modules.values())  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Bijection:
        return list(self)[index]

    def forward(self, x: Any, context: Tensor | None = None) -> tuple[Any, Float[Tensor, " batch"]]:
        """Return f(x) and its log-determinant in nats."""
        total = per_sample(0.0, x)
        for bijection in self:
            x, log_det = bijection(x, context)
            total = total + log_det
        return x, total

    def inverse(self, y: Any, context: Tensor | None = None) -> tuple[Any, Float[Tensor, " batch"]]:
        """Return f⁻¹(y) and its log-determinant in nats."""
        total: Any = 0.0
        for bijection in reversed(list(self)):
            compute_weights(bijection)
            y, log_det = bijection.inverse(y, context)
            total = total + log_det
        return y, total if len(self) else per_sample(0.0, y)

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
