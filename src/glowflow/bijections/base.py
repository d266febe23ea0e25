"""What every invertible map answers."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Bijection(nn.Module, ABC):
    """An invertible map y = f(x) with a tractable Jacobian determinant.

    `forward` gives `(y, log|det dy/dx|)` and `inverse` gives `(x, log|det dx/dy|)`. Both take
    tensors whose first axis is the batch; image tensors are (batch, channels, height, width).
    The log-determinant is per sample, of shape (batch,), in nats, float32 or better.

    `initialize` is `forward` preceded by the data-dependent initialisation of whatever is inside;
    bijections without one inherit it.

    `context` is what the map is conditioned on; unconditional maps ignore it.
    """

    @abstractmethod
    def forward(self, x: Any, context: Tensor | None = None) -> tuple[Any, Float[Tensor, " batch"]]:
        """Return y = f(x) and log|det dy/dx| in nats."""

    @abstractmethod
    def inverse(self, y: Any, context: Tensor | None = None) -> tuple[Any, Float[Tensor, " batch"]]:
        """Return x = f⁻¹(y) and log|det dx/dy| in nats."""

    @torch.no_grad()
    def initialize(
        self, x: Any, context: Tensor | None = None
    ) -> tuple[Any, Float[Tensor, " batch"]]:
        """Set data-dependent parameters from the batch `x`, then return `forward(x, context)`."""
        return self(x, context)


def per_sample(
    value: Float[Tensor, ""] | float, x: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """Give every sample of `x` the same log-determinant, float32 or better."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.as_tensor(value, dtype=dtype, device=x.device).expand(x.shape[0])


def sum_per_sample(log_det: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """Sum over everything but the batch, in float32 or better."""
    dims = tuple(range(1, log_det.dim()))
    return log_det.sum(dims, dtype=torch.promote_types(log_det.dtype, torch.float32))


def pixels(x: Float[Tensor, "batch channels height width"]) -> int:
    """Positions that share each channel's parameters: height times width."""
    return x.shape[2] * x.shape[3]
