"""Convolutions of the official model: with an edge channel, and scaled by exp(3·logs)."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..bijections.actnorm import LOG_SCALE_FACTOR, set_from_batch
from ..bijections.base import from_rows, to_rows, without_autocast
from .rows import gather, row_ends, scatter, with_ends

Padding = Literal["zero", "periodic", "reflect"]
"""What a 3x3 kernel sees beyond the image."""
MODES: dict[Padding, str] = {"zero": "constant", "periodic": "circular", "reflect": "reflect"}
"""Their names in `torch.nn.functional.pad`."""
CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
"""By the number of axes of the grid."""
INITIAL_STD = 0.05
"""Standard deviation of the hidden convolutions' weights at the start."""


class ScaledConv(nn.Module):
    """A convolution whose output is shifted and scaled, y = (conv(x) + b)·exp(3·logs).

    The scale is multiplied into the weights and the bias (`folded`), not into the output.

    3x3 kernels see where the image ends: the zero-padded input has one more, last channel, which
    is 1 on the padding and 0 inside, and whose weights are `edge`. A periodic or a reflected image
    has no end, and no such channel.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        kernel_size: 1 or 3.
        actnorm: start with random weights and let `initialize` give the output zero mean and unit
            variance; otherwise all weights start at zero.
        padding: what a 3x3 kernel sees beyond the image.
        axes: of the grid; 2 for images, whose kernels are 3x3, or 1 or 3.
    """

    initialized: Tensor

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int,
        actnorm: bool,
        padding: Padding = "zero",
        axes: int = 2,
    ) -> None:
        super().__init__()
        self.padding: Padding = padding
        self.axes = axes
        kernel = (kernel_size,) * axes
        # Drawn as rows, pixel by pixel, which is what a seed has meant since the first version.
        rows = from_rows(torch.zeros(channels_out, *kernel, channels_in))
        has_edge = kernel_size == 3 and padding == "zero"
        edge = torch.zeros(channels_out, *kernel) if has_edge else None
        if actnorm:
            self.register_buffer("initialized", torch.tensor(False))
            for weight in (rows, edge):
                if weight is not None:
                    nn.init.normal_(weight, std=INITIAL_STD)
        self.weight = nn.Parameter(rows.clone(memory_format=torch.contiguous_format))
        self.edge = None if edge is None else nn.Parameter(edge)
        self.b = nn.Parameter(torch.zeros(channels_out))
        self.logs = nn.Parameter(torch.zeros(channels_out))

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch in *grid"]) -> Float[Tensor, "batch out *grid"]:
        """Return the shifted and scaled convolution."""

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "batch in *grid"], *context: Tensor
    ) -> Float[Tensor, "batch out *grid"]:
        """Normalise the output on this batch, once in the life of the layer."""
        set_from_batch(self, self(x, *context))
        return self(x, *context)

    def scale(self) -> Float[Tensor, " out"]:
        """exp(3·logs)."""
        return torch.exp(LOG_SCALE_FACTOR * self.logs)

    def extra_repr(self) -> str:
        """Channels and kernel, for `print`."""
        channels_out, channels_in, kernel_size, *_ = self.weight.shape
        padding = "" if self.padding == "zero" else f", padding={self.padding!r}"
        axes = "" if self.axes == 2 else f", axes={self.axes}"
        return f"{channels_in}, {channels_out}, kernel_size={kernel_size}{padding}{axes}"

    @property
    def by_rows(self) -> bool:
        """Whether the 3x3 convolution is one of rows: of images, with zeros or their other side
        beyond the edge."""
        return self.axes == 2 and self.padding != "reflect"

    def convolved(self, x: Float[Tensor, "batch in *grid"]) -> Float[Tensor, "batch out *grid"]:
        """The 3x3 convolution as PyTorch's, on any grid, beyond whose edge there is anything."""
        convolve, sides = CONVOLUTIONS[self.axes], (1, 1) * self.axes
        scale = self.scale()
        each = scale.view(-1, *(1 for _ in self.weight.shape[1:]))
        weight, bias = (self.weight * each).to(x.dtype), (self.b * scale).to(x.dtype)
        y = convolve(F.pad(x, sides, MODES[self.padding]), weight, bias)
        if self.edge is None:
            return y
        # The edge channel is the same for every image.
        outside = F.pad(x.new_zeros(1, 1, *x.shape[2:]), sides, value=1.0)
        return y + convolve(outside, (self.edge[:, None] * each).to(x.dtype))

    def row_ends(
        self, height: int, width: int, dtype: torch.dtype
    ) -> Float[Tensor, "1 height width ends"]:
        """How a gathered row ends with this padding."""
        return row_ends(height, width, dtype, self.b.device, self.padding == "periodic")

    def row_end_weights(self) -> Float[Tensor, "out ends"]:
        """The weights of `row_ends`: of the edge channel, if there is one, then the bias."""
        edge = () if self.edge is None else (self.edge.flatten(1),)
        return torch.cat((*edge, self.b[:, None]), dim=1)


class PointConv(ScaledConv):
    """The 1x1 convolution, y = x Wᵀ + b for each pixel's row.

    Args: as of `ScaledConv`.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, actnorm: bool, axes: int = 2
    ) -> None:
        super().__init__(channels_in, channels_out, 1, actnorm, axes=axes)

    @without_autocast
    def forward(self, x: Float[Tensor, "batch in *grid"]) -> Float[Tensor, "batch out *grid"]:
        """Return the shifted and scaled convolution."""
        return from_rows(F.linear(to_rows(x), *self.folded(x.dtype)))

    def folded(self, dtype: torch.dtype) -> tuple[Float[Tensor, "out in"], Float[Tensor, " out"]]:
        """W and b, scaled."""
        scale = self.scale()
        return (self.weight.flatten(1) * scale[:, None]).to(dtype), (self.b * scale).to(dtype)


class GatherConv(ScaledConv):
    """The 3x3 convolution with few input channels: y = gather(x) Wᵀ.

    The edge channel and the bias are further columns of the gathered rows and of W, and so is a
    context, which is seen at the pixel alone.

    Args: as of `ScaledConv`.
        context_channels: of the context; 0 for none.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        actnorm: bool = False,
        padding: Padding = "zero",
        context_channels: int = 0,
        axes: int = 2,
    ) -> None:
        super().__init__(channels_in, channels_out, 3, actnorm, padding, axes)
        self.context_weight = None
        if context_channels:
            weight = torch.zeros(channels_out, context_channels)
            self.context_weight = nn.Parameter(
                nn.init.normal_(weight, std=INITIAL_STD) if actnorm else weight
            )

    @without_autocast
    def forward(
        self,
        x: Float[Tensor, "batch in *grid"],
        context: Float[Tensor, "batch features *grid"] | None = None,
    ) -> Float[Tensor, "batch out *grid"]:
        """Return the shifted and scaled convolution."""
        if not self.by_rows:
            y = self.convolved(x)
            if context is None or self.context_weight is None:
                return y
            weight = (self.context_weight * self.scale()[:, None]).to(x.dtype)
            return y + from_rows(F.linear(to_rows(context).to(x.dtype), weight))
        ends = self.row_ends(x.shape[2], x.shape[3], x.dtype)
        if context is not None:
            ends = after_context(context, ends)
        rows = with_ends(gather(to_rows(x), self.padding == "periodic"), ends)
        return from_rows(rows @ self.folded(x.dtype).T)

    def folded(self, dtype: torch.dtype) -> Float[Tensor, "out columns"]:
        """W, scaled: 9·in columns for the pixels, those of the context, 9 for the edge if there is
        one, one for the bias."""
        pixels = self.weight.permute(0, 2, 3, 1).flatten(1)
        context = () if self.context_weight is None else (self.context_weight,)
        columns = torch.cat((pixels, *context, self.row_end_weights()), dim=1)
        return (columns * self.scale()[:, None]).to(dtype)


def after_context(
    context: Float[Tensor, "batch features height width"], ends: Float[Tensor, "1 height width 10"]
) -> Float[Tensor, "batch height width features+10"]:
    """How each pixel's gathered row ends where there is a context."""
    return torch.cat((to_rows(context).to(ends), ends.expand(context.shape[0], -1, -1, -1)), dim=-1)


class ScatterConv(ScaledConv):
    """The 3x3 convolution with few output channels: y = scatter(x Wᵀ) + bias map.

    The edge channel is the same for every image, so it is a part of the bias map.

    Args: as of `ScaledConv`.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, padding: Padding = "zero", axes: int = 2
    ) -> None:
        super().__init__(channels_in, channels_out, 3, False, padding, axes)

    @without_autocast
    def forward(self, x: Float[Tensor, "batch in *grid"]) -> Float[Tensor, "batch out *grid"]:
        """Return the shifted and scaled convolution."""
        if not self.by_rows:
            return self.convolved(x)
        y = scatter(to_rows(x) @ self.folded(x.dtype).T, self.padding == "periodic")
        return from_rows(y + self.bias_map(x.shape[2], x.shape[3]))

    def folded(self, dtype: torch.dtype) -> Float[Tensor, "columns in"]:
        """W, scaled: for each of the 9 pixels of the kernel, in reverse, a row a channel."""
        weight = self.weight.permute(2, 3, 0, 1).flatten(0, 1).flip(0)
        return (weight * self.scale()[:, None]).flatten(0, 1).to(dtype)

    def bias_map(self, height: int, width: int) -> Float[Tensor, "height width out"]:
        """The bias, and what the edge channel adds to it, scaled."""
        ends = self.row_ends(height, width, self.b.dtype)[0]
        return ends @ self.row_end_weights().T * self.scale()


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

    @without_autocast
    def forward(self, x: Float[Tensor, "batch in"]) -> Float[Tensor, "batch out"]:
        """Return the scaled linear map."""
        return F.linear(x, self.weight, self.b) * torch.exp(LOG_SCALE_FACTOR * self.logs)

    def extra_repr(self) -> str:
        """Features, for `print`."""
        features_out, features_in = self.weight.shape
        return f"{features_in}, {features_out}"
