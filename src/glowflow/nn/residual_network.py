"""The residual networks in RealNVP's couplings (RealNVP, section 3.7)."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..bijections import BatchNorm


class ResidualNetwork(nn.Module):
    """A 3x3 convolution, residual blocks, and a 1x1 convolution of the sum of their skips.

    The input, and what enters each hidden convolution, is batch-normalised; all convolutions are
    weight-normalised. Each block's output reaches the sum through a 1x1 convolution of its own.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        hidden: feature maps.
        blocks: residual blocks.
        lag: of the batch normalisation; see `BatchNorm`.

    Source: RealNVP, section 3.7; the skips are the official code's.
    """

    compute_dtype: torch.dtype | None = None
    """What the convolutions compute in; None for the dtype of the weights."""

    def __init__(
        self, channels_in: int, channels_out: int, hidden: int, blocks: int, lag: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = ShiftedBatchNorm(channels_in, lag)
        self.first = convolution(channels_in, hidden, 3)
        self.blocks = nn.ModuleList(ResidualBlock(hidden, lag) for _ in range(blocks))
        self.skips = nn.ModuleList(convolution(hidden, hidden, 1) for _ in range(blocks + 1))
        self.last_norm = ShiftedBatchNorm(hidden, lag)
        self.last = convolution(hidden, channels_out, 1)

    def forward(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Return the network's output, in the dtype of x."""
        low = self.compute_dtype
        with _autocast(x.device.type, low):
            h = self.first(self.norm(x))
            total = self.skips[0](h)
            for block, skip in zip(self.blocks, self.skips[1:], strict=True):
                h = block(h)
                total = total + skip(h)
            return self.last(F.relu(self.last_norm(total))).to(x.dtype)


def _autocast(device: str, low: torch.dtype | None) -> AbstractContextManager[None]:
    """`torch.autocast` to this dtype; none for None, with which any device is content."""
    if low is None and not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, dtype=low, enabled=low is not None)


class ResidualBlock(nn.Module):
    """h + conv3x3(relu(norm(conv3x3(relu(norm(h))))))."""

    def __init__(self, channels: int, lag: float) -> None:
        super().__init__()
        self.first_norm = ShiftedBatchNorm(channels, lag)
        self.first = convolution(channels, channels, 3)
        self.second_norm = ShiftedBatchNorm(channels, lag)
        self.second = convolution(channels, channels, 3)

    def forward(
        self, h: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the sum of h and its change."""
        change = self.first(F.relu(self.first_norm(h)))
        return h + self.second(F.relu(self.second_norm(change)))


class ShiftedBatchNorm(nn.Module):
    """BatchNorm(x) + β, with a learned β per channel."""

    def __init__(self, channels: int, lag: float) -> None:
        super().__init__()
        self.norm = BatchNorm(channels, lag)
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the normalised and shifted tensor."""
        return self.norm(x)[0] + self.beta[:, None, None]


def convolution(channels_in: int, channels_out: int, kernel_size: int) -> nn.Module:
    """A zero-padded convolution with weights g·v/‖v‖, g and v learned (Salimans & Kingma 2016)."""
    conv = nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2)
    return weight_norm(conv)
