"""The network in Glow's couplings (paper, appendix B)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..bijections.base import from_rows, to_rows, without_autocast
from ..bijections.exact import is_exactly
from ..bijections.kept import Kept
from ..errors import InputError
from .convolutions import GatherConv, Padding, PointConv, ScatterConv, after_context
from .rows import run_network


class CouplingNetwork(Kept):
    """conv 3x3 → actnorm → ReLU → conv 1x1 → actnorm → ReLU → zero conv 3x3 (paper, appendix B).

    Args:
        channels_in: channels of the half that conditions.
        channels_out: channels of the shift, or of shift and scale together.
        hidden_channels: channels of the two hidden layers.
        padding: what the 3x3 kernels see beyond the image.
        axes: of the grid; 2 for images.

    `compute_dtype`, if set, is what the products run in; input, output and weights keep theirs.
    """

    compute_dtype: torch.dtype | None = None

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        hidden_channels: int,
        padding: Padding = "zero",
        axes: int = 2,
    ) -> None:
        super().__init__()
        self.first = GatherConv(
            channels_in, hidden_channels, actnorm=True, padding=padding, axes=axes
        )
        self.second = PointConv(hidden_channels, hidden_channels, actnorm=True, axes=axes)
        self.last = ScatterConv(hidden_channels, channels_out, padding=padding, axes=axes)

    @without_autocast
    def forward(self, x: Float[Tensor, "batch in *grid"]) -> Float[Tensor, "batch out *grid"]:
        """Return what the coupling does to the other half; zero at the start."""
        return self._run(x)

    def _run(self, x: Tensor, *context: Tensor) -> Tensor:
        dtype = self.compute_dtype or x.dtype
        if not self.has_exact_layers() or not self.first.by_rows:
            h = F.relu(self.second(F.relu(self.first(x.to(dtype), *context))))
            return self.last(h).to(x.dtype)
        height, width = x.shape[2:]
        bias, ends, *weights = self.kept(
            (height, width, dtype),
            lambda: (
                self.last.bias_map(height, width),
                self.first.row_ends(height, width, dtype),
                self.first.folded(dtype),
                *self.second.folded(dtype),
                self.last.folded(dtype),
            ),
            lambda: [self.first, self.second, self.last],
        )
        for each in context:
            ends = after_context(each, ends)
        periodic = self.first.padding == "periodic"
        y = run_network(to_rows(x).to(dtype), ends, *weights, periodic=periodic)
        return from_rows(y.to(x.dtype) + bias)

    def has_exact_layers(self) -> bool:
        """Whether the three layers are what they were made as, so that one kernel can run them."""
        return (
            is_exactly(self.first, GatherConv)
            and is_exactly(self.second, PointConv)
            and is_exactly(self.last, ScatterConv)
        )

    @torch.no_grad()
    def initialize(self, x: Float[Tensor, "batch in *grid"]) -> None:
        """Initialise the hidden actnorms, one after the other, from the batch `x`."""
        self._initialize(x)

    def _initialize(self, x: Tensor, *context: Tensor) -> None:
        self.second.initialize(F.relu(self.first.initialize(x, *context)))


class ConditionalCouplingNetwork(CouplingNetwork):
    """`CouplingNetwork` of [x, context]: it sees the feature maps of what the model is given.

    The first convolution sees x with 3x3 pixels and the maps, which know their neighbours, at the
    pixel itself.

    Args:
        channels_in: channels of the half that conditions.
        channels_out: channels of the shift, or of shift and scale together.
        hidden_channels: channels of the two hidden layers.
        context_channels: channels of the feature maps.
        padding: what the 3x3 kernels see beyond the image.
        axes: of the grid; 2 for images.

    Source: Lu & Huang 2020, "Structured output learning with conditional generative flows";
    Winkler et al. 2019, "Learning likelihoods with conditional normalizing flows".
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        hidden_channels: int,
        context_channels: int,
        padding: Padding = "zero",
        axes: int = 2,
    ) -> None:
        super().__init__(channels_in, channels_out, hidden_channels, padding, axes)
        self.first = GatherConv(
            channels_in,
            hidden_channels,
            actnorm=True,
            padding=padding,
            context_channels=context_channels,
            axes=axes,
        )

    @without_autocast
    def forward(
        self,
        x: Float[Tensor, "batch in *grid"],
        context: Float[Tensor, "batch features *grid"] | None = None,
    ) -> Float[Tensor, "batch out *grid"]:
        """Return what the coupling does to the other half; zero at the start.

        Raises:
            InputError: there is no context.
        """
        return self._run(x, _required(context))

    @torch.no_grad()
    def initialize(self, x: Float[Tensor, "batch in *grid"], context: Tensor | None = None) -> None:
        """Initialise the hidden actnorms, one after the other, from the batch `x` and its context.

        Raises:
            InputError: there is no context.
        """
        self._initialize(x, _required(context))


def _required(context: Tensor | None) -> Tensor:
    if context is None:
        raise InputError("This model is conditional: say what it is given.")
    return context
