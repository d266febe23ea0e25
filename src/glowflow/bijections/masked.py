"""Couplings by a mask: what the mask shows decides what happens to the rest (RealNVP)."""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import Bijection, sum_per_sample, without_autocast
from .coupling import conditioned


class MaskedCoupling(Bijection):
    """y = b⊙x + (1 − b)⊙(x⊙exp(s) + t), log-det Σ (1 − b)⊙s, with s and t from b⊙x.

    s = a·tanh(r), with one learned a per channel, zero at the start. The network's first half of
    the channels is t, its second half r. The mask b is 0 or 1; a subclass says where.

    Args:
        network: maps (batch, C, height, width) to (batch, 2C, height, width).
        channels: C.
        parity: 0, or 1 for the opposite mask, 1 − b.

    Source: RealNVP, equation 9 and sections 3.4 and 4.1.
    """

    def __init__(self, network: nn.Module, channels: int, parity: int) -> None:
        super().__init__()
        self.network = network
        self.parity = parity
        self.scale = nn.Parameter(torch.zeros(channels))

    @abstractmethod
    def mask(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        """b, which broadcasts to one sample of x."""

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return y and Σ (1 − b)⊙s in nats."""
        s, t = self._scale_and_shift(x, context)
        return x * s.exp() + t, sum_per_sample(s)

    @without_autocast
    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return x = b⊙y + (1 − b)⊙(y − t)⊙exp(−s) and −Σ (1 − b)⊙s in nats."""
        s, t = self._scale_and_shift(y, context)
        return (y - t) * (-s).exp(), -sum_per_sample(s)

    def _scale_and_shift(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(1 − b)⊙s and (1 − b)⊙t; x and y agree where b is 1."""
        b = self.mask(x)
        h = conditioned(self.network, b * x, context)
        return (1 - b) * self.log_scale(h), (1 - b) * h.chunk(2, dim=1)[0]

    def extra_repr(self) -> str:
        """Channels and parity, for `print`."""
        return f"{len(self.scale)}, parity={self.parity}"

    def log_scale(self, h: Tensor) -> Tensor:
        """s = a·tanh(r), from what the network returned, where the mask hides it too."""
        return self.scale[:, None, None] * torch.tanh(h.chunk(2, dim=1)[1])


class CheckerboardCoupling(MaskedCoupling):
    """b is 1 where row + column is odd, at every channel (parity 0), or where it is even."""

    def mask(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "1 h w"]:
        """b, (1, height, width)."""
        height, width = x.shape[2:]
        row = torch.arange(height, device=x.device)[:, None]
        column = torch.arange(width, device=x.device)
        return ((row + column + self.parity) % 2).to(x.dtype)[None]


class ChannelCoupling(MaskedCoupling):
    """b is 1 at the first half of the channels (parity 0), the larger if odd, or at the second."""

    def mask(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "c 1 1"]:
        """b, (channels, 1, 1)."""
        channels = x.shape[1]
        first = torch.arange(channels, device=x.device) < (channels + 1) // 2
        return (first if self.parity == 0 else ~first).to(x.dtype)[:, None, None]
