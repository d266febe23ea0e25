"""The network in couplings between principal components."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..bijections.base import without_autocast

BOUND = 8.0
"""Standard deviations beyond which a component says no more."""


class DenseNetwork(nn.Module):
    """bound → linear → SiLU → residual [linear → SiLU] → zero linear, at every pixel.

    The bound, b·tanh(x/b) with b = 8, leaves what is usual under a standard normal as it is. An
    image unlike the training images has components far outside, and without it each coupling would
    drive the next one farther.

    Args:
        channels_in: values that condition.
        channels_out: values of the shift, or of shift and scale together.
        hidden: values of the two hidden layers.

    `compute_dtype`, if set, is what the products run in; input, output and weights keep theirs.
    """

    compute_dtype: torch.dtype | None = None

    def __init__(self, channels_in: int, channels_out: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(channels_in, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, channels_out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Return what the coupling does to the other components; zero at the start."""
        dtype = self.compute_dtype or x.dtype
        bounded = BOUND * torch.tanh(x.movedim(1, -1) / BOUND)
        h = F.silu(self._linear(self.first, bounded.to(dtype)))
        h = h + F.silu(self._linear(self.second, h))
        return self._linear(self.last, h).to(x.dtype).movedim(-1, 1)

    def _linear(self, layer: nn.Linear, x: Tensor) -> Tensor:
        if type(layer) is not nn.Linear or layer.weight.dtype == x.dtype:
            y: Tensor = layer(x)
            return y
        return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
