"""The convolutions of the coupling networks and the priors, as the official model has them."""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .bijections.actnorm import LOG_SCALE_FACTOR, set_from_batch
from .kept import Kept

INITIAL_STD = 0.05
"""Standard deviation of the hidden convolutions' weights at the start."""


class ScaledConv2d(Kept):
    """A convolution whose output is shifted and scaled, y = (conv(x) + b)·exp(3·logs).

    It runs as one convolution, with the weights weight·exp(3·logs) and the bias b·exp(3·logs).

    3x3 kernels see where the image ends: the zero-padded input has one more, last channel, which
    is 1 on the padding and 0 inside, and whose weights are `edge`. What it adds is the same for
    every image, so it joins the bias as a map of the size of the output.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        kernel_size: 1 or 3.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        super().__init__()
        kernel = (kernel_size, kernel_size)
        weight = torch.zeros(channels_out, channels_in, *kernel)
        self.weight = nn.Parameter(weight.to(memory_format=torch.channels_last))
        self.edge = nn.Parameter(torch.zeros(channels_out, *kernel)) if kernel_size == 3 else None
        self.b = nn.Parameter(torch.zeros(channels_out))
        self.logs = nn.Parameter(torch.zeros(channels_out))

    def forward(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Return the shifted and scaled convolution, in the dtype of `x`."""
        return convolve(x, *self.folded(x.shape[2], x.shape[3], x.dtype))

    def folded(self, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """weight·exp(3·logs), and b·exp(3·logs) as a row (1, out).

        For a 3x3 kernel that is one row a pixel, (height·width, out), with what the edge adds.
        """
        return self.kept(
            (height, width, dtype), lambda: self._fold(height, width, dtype), self.parameters
        )

    def _fold(self, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        scale = torch.exp(LOG_SCALE_FACTOR * self.logs)
        bias = (self.b * scale)[None]
        if self.edge is not None:
            outside = _outside(height, width, bias.dtype, bias.device)
            bias = torch.addmm(bias, outside, (self.edge.flatten(1) * scale[:, None]).T)
        return (self.weight * scale[:, None, None, None]).to(dtype), bias.to(dtype)


def convolve(
    x: Float[Tensor, "batch in height width"],
    weight: Float[Tensor, "out in kernel kernel"],
    bias: Float[Tensor, "rows out"],
) -> Float[Tensor, "batch out height width"]:
    """Zero-padded convolution plus a row of `bias` for each pixel, or the same row for all."""
    padding = weight.shape[-1] // 2
    if len(bias) == 1:
        return F.conv2d(x, weight, bias[0], padding=padding)
    y = F.conv2d(x, weight, padding=padding)
    return y.add_(bias.view(1, *y.shape[2:], -1).permute(0, 3, 1, 2))


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _outside(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "height*width 9"]:
    """For each pixel, which of the nine pixels under a 3x3 kernel lie outside the image."""
    inside = torch.zeros(1, 1, height, width, dtype=dtype, device=device)
    padded = F.pad(inside, (1, 1, 1, 1), value=1.0)
    return F.unfold(padded, 3)[0].T.contiguous()


class ActNormConv2d(ScaledConv2d):
    """A convolution with actnorm: `initialize` gives its output zero mean and unit variance.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        kernel_size: 1 or 3.
    """

    initialized: Tensor

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size)
        for weight in (self.weight, self.edge):
            if weight is not None:
                nn.init.normal_(weight, std=INITIAL_STD)
        self.register_buffer("initialized", torch.tensor(False))

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Normalise the output on this batch, once in the life of the layer."""
        set_from_batch(self.b, self.logs, self.initialized, self(x))
        return self(x)


class ZeroConv2d(ScaledConv2d):
    """A 3x3 convolution that starts at zero.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=3)


class ZeroLinear(nn.Module):
    """Linear map that starts at zero, y = (W x + b)·exp(3·logs).

    Args:
        features_in: features of the input.
        features_out: features of the output.
    """

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features_out, features_in))
        self.b = nn.Parameter(torch.zeros(features_out))
        self.logs = nn.Parameter(torch.zeros(features_out))

    def forward(self, x: Float[Tensor, "batch in"]) -> Float[Tensor, "batch out"]:
        """Return the scaled linear map."""
        return F.linear(x, self.weight, self.b) * torch.exp(LOG_SCALE_FACTOR * self.logs)


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
        dtype = self.compute_dtype or x.dtype
        weights = [
            tensor
            for layer in (self.first, self.second, self.last)
            for tensor in layer.folded(x.shape[2], x.shape[3], dtype)
        ]
        return run_network(x.to(dtype), *weights).to(x.dtype)

    @torch.no_grad()
    def initialize(self, x: Float[Tensor, "batch in height width"]) -> None:
        """Initialise the hidden actnorms, one after the other, from the batch `x`."""
        self.second.initialize(F.relu(self.first.initialize(x)))


def run_network(x: Tensor, *weights: Tensor) -> Tensor:
    """conv → ReLU → conv → ReLU → conv, given weight and bias of each."""
    traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if torch.is_grad_enabled() and not traced:
        y: Tensor = _Network.apply(x, *weights)  # type: ignore[no-untyped-call]
        return y
    return _layers(x, *weights)[-1]


def _layers(x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    w1, b1, w2, b2, w3, b3 = weights
    h1 = F.relu(convolve(x, w1, b1), inplace=True)
    h2 = F.relu(convolve(h1, w2, b2), inplace=True)
    return h1, h2, convolve(h2, w3, b3)


class _Network(torch.autograd.Function):
    """The backward pass of `_layers`, scheduled by hand.

    Autograd would make a new tensor of hidden size for each mask and each sum of a bias's
    gradient; this one masks in place and sums rows. Second derivatives go through `_layers`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        h1, h2, y = _layers(x, *weights)
        ctx.save_for_backward(x, h1, h2, *weights)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, h1, h2, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():
            with torch.enable_grad():
                y = _layers(x, *weights)[-1]
            needed = [t for t in (x, *weights) if t.requires_grad]
            found = iter(torch.autograd.grad(y, needed, grad, create_graph=True))
            return tuple(next(found) if t.requires_grad else None for t in (x, *weights))
        w1, b1, w2, b2, w3, b3 = weights
        gradients: list[Tensor | None] = []
        for h, w, b, below in ((h2, w3, b3, h2), (h1, w2, b2, h1), (x, w1, b1, None)):
            needs_input = below is not None or ctx.needs_input_grad[0]
            padding = w.shape[-1] // 2
            by_bias = grad.permute(0, 2, 3, 1).reshape(-1, *b.shape).sum(0)
            by_input, by_weight, _ = torch.ops.aten.convolution_backward(
                grad, h, w, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1,
                [needs_input, True, False],
            )  # fmt: skip
            gradients[:0] = [by_weight, by_bias]
            if below is not None:
                torch.ops.aten.threshold_backward.grad_input(
                    by_input, below, 0, grad_input=by_input
                )
            grad = by_input
        return grad, *gradients
