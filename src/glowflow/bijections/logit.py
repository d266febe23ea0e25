"""From a bounded interval to the real line (RealNVP, section 4.1)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from .base import Bijection, sum_per_sample


class Logit(Bijection):
    """y = logit(p) with p = α + (1 − 2α)(x + ½), log-det Σ [log(1 − 2α) − log p − log(1 − p)].

    x in [−½, ½] gives p in [α, 1 − α]. The map is defined where 0 < p < 1, that is for
    |x| < `limit` = ½ / (1 − 2α); elsewhere y is NaN.

    Args:
        alpha: α, above 0 and below ½: how far the ends of the bytes' range stay from 0 and 1.

    Raises:
        InputError: α is out of range.

    Source: RealNVP, section 4.1, which writes α + (1 − α)x; the official code, like this one,
    keeps α free at both ends.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        super().__init__()
        if not 0.0 < alpha < 0.5:
            raise InputError(f"alpha is {alpha}: give more than 0 and less than 0.5.")
        self.alpha = alpha
        self.limit = 0.5 / (1 - 2 * alpha)

    def forward(
        self, x: Float[Tensor, " batch *shape"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, " batch *shape"], Float[Tensor, " batch"]]:
        """Return logit(p) and its log-determinant in nats."""
        y, by_value = self.by_value(x)
        return y, sum_per_sample(by_value)

    def by_value(
        self, x: Float[Tensor, " batch *shape"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, " batch *shape"], Float[Tensor, " batch *shape"]]:
        """Return logit(p) and each value's part of the log-determinant."""
        y = torch.logit(self.alpha + (1 - 2 * self.alpha) * (x + 0.5))
        return y, self._log_det(y)

    def inverse(
        self, y: Float[Tensor, " batch *shape"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, " batch *shape"], Float[Tensor, " batch"]]:
        """Return (sigmoid(y) − α)/(1 − 2α) − ½ and its log-determinant in nats."""
        x = (torch.sigmoid(y) - self.alpha) / (1 - 2 * self.alpha) - 0.5
        return x, -sum_per_sample(self._log_det(y))

    def extra_repr(self) -> str:
        """Alpha, for `print`."""
        return f"alpha={self.alpha}"

    def _log_det(self, y: Tensor) -> Float[Tensor, " batch *shape"]:
        """−log p = softplus(−y) and −log(1 − p) = softplus(y)."""
        return F.softplus(y) + F.softplus(-y) + math.log(1 - 2 * self.alpha)
