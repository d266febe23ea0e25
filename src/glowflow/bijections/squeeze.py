"""Space to channels: the squeeze of the multi-scale architecture."""

from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from .base import Bijection, from_rows, per_sample, to_rows


class Squeeze(Bijection):
    """Each 2x2 block of pixels becomes 4 channels, y[4c + 2·dy + dx, i, j] = x[c, 2i+dy, 2j+dx].

    (batch, C, H, W) becomes (batch, 4C, H/2, W/2); log-det 0. On a grid of d axes each block of 2^d
    becomes 2^d channels, the last axis fastest. Both directions give tensors in PyTorch's
    channels-last memory format, in which convolutions run faster.

    Raises:
        InputError: a side is odd (forward), or C is not divisible by 2^d (inverse).

    Source: paper, section 2 and figure 2b; the channel order is the official code's.
    """

    def forward(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch squeezed *halved"], Float[Tensor, " batch"]]:
        """Return the squeezed tensor and 0."""
        blocks, axes = _blocks(x), range(2, x.dim())
        order = (0, *(2 * axis - 2 for axis in axes), 1, *(2 * axis - 1 for axis in axes))
        halved = (side // 2 for side in x.shape[2:])
        y = blocks.permute(order).reshape(x.shape[0], *halved, x.shape[1] * 2 ** len(axes))
        return from_rows(y), per_sample(0.0, x)

    def inverse(
        self, y: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch unsqueezed *doubled"], Float[Tensor, " batch"]]:
        """Return the unsqueezed tensor and 0."""
        batch, channels, *grid = y.shape
        axes = len(grid)
        if channels % 2**axes:
            raise InputError(
                f"Cannot unsqueeze {channels} channels: they must be divisible by {2**axes}."
            )
        blocks = to_rows(y).reshape(batch, *grid, channels // 2**axes, *(2,) * axes)
        pairs = (place for axis in range(1, axes + 1) for place in (axis, axes + 1 + axis))
        doubled = (2 * side for side in grid)
        x = blocks.permute(0, *pairs, axes + 1).reshape(batch, *doubled, channels // 2**axes)
        return from_rows(x), per_sample(0.0, y)


def squeezed(x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch squeezed *halved"]:
    """`Squeeze` of x, contiguous: `F.pixel_unshuffle` by 2 on any grid."""
    blocks, axes = _blocks(x), range(2, x.dim())
    order = (0, 1, *(2 * axis - 1 for axis in axes), *(2 * axis - 2 for axis in axes))
    return blocks.permute(order).reshape(
        x.shape[0], x.shape[1] * 2 ** len(axes), *(side // 2 for side in x.shape[2:])
    )


def _blocks(x: Tensor) -> Tensor:
    """(batch, channels, side/2, 2, side/2, 2, …)."""
    batch, channels, *grid = x.shape
    if any(side % 2 for side in grid):
        raise InputError(f"Cannot squeeze {'x'.join(map(str, grid))}: each side must be even.")
    return x.reshape(batch, channels, *(n for side in grid for n in (side // 2, 2)))
