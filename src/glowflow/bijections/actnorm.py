"""Activation normalisation (paper, section 3.1)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import Bijection, per_sample, pixels, wide
from .exact import require_own_weights

LOG_SCALE_FACTOR = 3.0
"""Multiplies every learned log-scale of the official model, and so its learning rate."""

SMALLEST_STD = 1e-4
"""A channel that is constant in the first batch is not scaled by more than 1 / SMALLEST_STD."""


class ActNorm(Bijection):
    """Per-channel affine map, y = (x + b) · exp(3·logs), log-det h·w·Σ_c 3·logs_c.

    `initialize` chooses b and logs so that y has zero mean and unit variance per channel on the
    first batch; `initialized` is a buffer, so a loaded model does not do it again.

    Args:
        channels: number of channels C of the (batch, C, *grid) input.

    Source: paper, section 3.1; the factor 3 is the official code's.
    """

    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(channels))
        self.logs = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialized", torch.tensor(False))

    def extra_repr(self) -> str:
        """Channels, for `print`."""
        return str(len(self.b))

    def log_scale(self) -> Float[Tensor, " channels"]:
        """log of the factor of each channel."""
        return LOG_SCALE_FACTOR * self.logs

    def forward(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return (x + b)·exp(3·logs) and its log-determinant in nats."""
        log_scale = self.log_scale()
        y = (x + wide(self.b, x)) * wide(log_scale.exp(), x)
        return y, per_sample(pixels(x) * log_scale.sum(), x)

    def inverse(
        self, y: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return y·exp(−3·logs) − b and its log-determinant in nats."""
        log_scale = self.log_scale()
        x = y * wide((-log_scale).exp(), y) - wide(self.b, y)
        return x, per_sample(-pixels(y) * log_scale.sum(), y)

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Normalise this batch, unless a batch was normalised before."""
        set_from_batch(self, x)
        return self(x, context)


@torch.no_grad()
def set_from_batch(layer: Any, x: Float[Tensor, "batch channels *grid"]) -> None:
    """Set the layer's b = −mean and logs = −log(std)/3 (biased) of each channel of `x`, once.

    Raises:
        InputError: b or logs is computed from other weights.
    """
    if layer.initialized:
        return
    require_own_weights(layer, "b", "logs")
    precise = x.double() if x.device.type != "mps" else x
    others = (0, *range(2, x.dim()))
    mean = precise.mean(dim=others)
    std = precise.var(dim=others, unbiased=False).sqrt()
    layer.b.copy_(-mean)
    layer.logs.copy_(-(std + 1e-6).clamp(min=SMALLEST_STD).log() / LOG_SCALE_FACTOR)
    layer.initialized.fill_(True)
