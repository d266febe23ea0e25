"""The convolutions of the coupling networks and the priors, as the official model has them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .bijections.actnorm import LOG_SCALE_FACTOR, set_from_batch

INITIAL_STD = 0.05
"""Standard deviation of the hidden convolutions' weights at the start."""


def edge_conv2d(
    x: Float[Tensor, "batch in height width"],
    weight: Float[Tensor, "out in+1 3 3"],
    bias: Float[Tensor, " out"],
) -> Float[Tensor, "batch out height width"]:
    """3x3 convolution that sees where the image ends.

    The input is zero-padded and gets one more, last channel: 1 on the padding, 0 inside. The
    channel enters where it is cheaper: as an input channel, or through its linearity as a map
    that is the same for the whole batch.
    """
    inside = x.new_zeros(1, 1, x.shape[2], x.shape[3])
    edge = F.pad(inside, (1, 1, 1, 1), value=1.0)
    channels = x.shape[1]
    if channels < weight.shape[0]:
        padded = F.pad(x, (1, 1, 1, 1))
        return F.conv2d(torch.cat((padded, edge.expand(len(x), -1, -1, -1)), 1), weight, bias)
    return F.conv2d(x, weight[:, :channels], padding=1) + F.conv2d(edge, weight[:, channels:], bias)


class ActNormConv2d(nn.Module):
    """A convolution followed by an actnorm, y = (conv(x) + b)·exp(3·logs).

    Both are linear, so they run as one convolution with weight·exp(3·logs) and bias
    b·exp(3·logs). 3x3 kernels get the edge channel of `edge_conv2d`.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        kernel_size: 1 or 3.
    """

    initialized: Tensor

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        super().__init__()
        edge = 1 if kernel_size == 3 else 0
        self.weight = nn.Parameter(
            torch.randn(channels_out, channels_in + edge, kernel_size, kernel_size) * INITIAL_STD
        )
        self.b = nn.Parameter(torch.zeros(channels_out))
        self.logs = nn.Parameter(torch.zeros(channels_out))
        self.register_buffer("initialized", torch.tensor(False))

    def forward(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Return the normalised convolution."""
        scale = torch.exp(LOG_SCALE_FACTOR * self.logs)
        weight = (self.weight * scale[:, None, None, None]).to(x.dtype)
        bias = (self.b * scale).to(x.dtype)
        return edge_conv2d(x, weight, bias) if weight.shape[-1] == 3 else F.conv2d(x, weight, bias)

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Give the output zero mean and unit variance per channel on this batch, once."""
        set_from_batch(self.b, self.logs, self.initialized, self(x))
        return self(x)


class ZeroConv2d(nn.Module):
    """3x3 convolution with the edge channel that starts at zero, y = (conv(x) + b)·exp(3·logs).

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels_out, channels_in + 1, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.logs = nn.Parameter(torch.zeros(channels_out))

    def forward(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Return the scaled convolution."""
        scale = torch.exp(LOG_SCALE_FACTOR * self.logs)
        weight = self.weight * scale[:, None, None, None]
        return edge_conv2d(x, weight.to(x.dtype), (self.bias * scale).to(x.dtype))


class ZeroLinear(nn.Module):
    """Linear map that starts at zero, y = (W x + b)·exp(3·logs).

    Args:
        features_in: features of the input.
        features_out: features of the output.
    """

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features_out, features_in))
        self.bias = nn.Parameter(torch.zeros(features_out))
        self.logs = nn.Parameter(torch.zeros(features_out))

    def forward(self, x: Float[Tensor, "batch in"]) -> Float[Tensor, "batch out"]:
        """Return the scaled linear map."""
        return F.linear(x, self.weight, self.bias) * torch.exp(LOG_SCALE_FACTOR * self.logs)


class CouplingNetwork(nn.Module):
    """conv 3x3 → actnorm → ReLU → conv 1x1 → actnorm → ReLU → zero conv 3x3 (paper, appendix B).

    Args:
        channels_in: channels of the half that conditions.
        channels_out: channels of the shift, or of shift and scale together.
        hidden_channels: channels of the two hidden layers.

    `compute_dtype`, if set, is what the convolutions run in; input, output and weights keep theirs.
    """

    compute_dtype: torch.dtype | None = None

    def __init__(self, channels_in: int, channels_out: int, hidden_channels: int) -> None:
        super().__init__()
        self.first = ActNormConv2d(channels_in, hidden_channels, kernel_size=3)
        self.second = ActNormConv2d(hidden_channels, hidden_channels, kernel_size=1)
        self.last = ZeroConv2d(hidden_channels, channels_out)

    def forward(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Return what the coupling does to the other half; zero at the start."""
        h = x if self.compute_dtype is None else x.to(self.compute_dtype)
        h = F.relu(self.first(h), inplace=True)
        h = F.relu(self.second(h), inplace=True)
        return self.last(h).to(x.dtype)

    @torch.no_grad()
    def initialize(self, x: Float[Tensor, "batch in height width"]) -> None:
        """Initialise the hidden actnorms, one after the other, from the batch `x`."""
        self.second.initialize(F.relu(self.first.initialize(x)))
