"""A first map for float data: every channel, or every position, with mean 0 and variance 1."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from .base import per_sample, without_autocast
from .fitted import FittedMap

AT_ONCE = 256
"""Images that are float64 at once."""
SMALLEST_STD = 1e-6
"""Relative to the largest one: what never changes is not scaled without end."""


class Standardize(FittedMap):
    """y = (x − μ)/σ with μ and σ of each channel, or of each position; log-det −Σ log σ.

    The sum runs over all values of an image, so that log p(x) is the density in the data's own
    units: data that are a times as large have log p lower by D·log a.

    Args:
        shape: channels, height, width; or channels and another grid.
        positions: one μ and one σ for each position; otherwise for each channel.
    """

    mean: Tensor
    log_std: Tensor

    def __init__(self, shape: tuple[int, ...], positions: bool = False) -> None:
        super().__init__()
        places = shape if positions else (shape[0], *(1 for _ in shape[1:]))
        self.register_buffer("mean", torch.zeros(places))
        self.register_buffer("log_std", torch.zeros(places))

    def extra_repr(self) -> str:
        """What has its own statistics, for `print`."""
        return f"{tuple(self.mean.shape)}"

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return y and −Σ log σ in nats."""
        return (x - self.mean) * (-self.log_std).exp(), -self._log_scale(x)

    @without_autocast
    def inverse(
        self, y: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return x and Σ log σ in nats."""
        return y * self.log_std.exp() + self.mean, self._log_scale(y)

    def _fit(self, x: Tensor, noise_variance: float) -> None:
        shared = x.numel() // self.mean.numel()
        over = (0, *(axis for axis in range(2, x.dim()) if self.mean.shape[axis - 1] == 1))
        mean = sum_of(x, lambda part: part.sum(over, keepdim=True)[0]) / shared
        squares = sum_of(x, lambda part: (part - mean).square().sum(over, keepdim=True)[0])
        variance = squares / shared + noise_variance
        largest = variance.max()
        if not largest > 0:  # one image, or data that never change
            variance = torch.ones_like(variance)
        else:
            variance = variance.clamp(min=SMALLEST_STD**2 * largest)
        self.mean.copy_(mean)
        self.log_std.copy_(0.5 * variance.log())

    def _log_scale(self, x: Tensor) -> Float[Tensor, " batch"]:
        """Σ log σ over all values, for each of the batch."""
        shared = math.prod(x.shape[1:]) // self.mean.numel()
        return per_sample(shared * self.log_std.sum(), x)


def sum_of(x: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum of what is made of some images at a time, in float64."""
    return torch.stack([of(part.double()) for part in torch.split(x, AT_ONCE)]).sum(0)
