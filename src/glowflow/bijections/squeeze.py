"""Space to channels: the squeeze of the multi-scale architecture."""

from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from .base import Bijection, per_sample


class Squeeze(Bijection):
    """Each 2x2 block of pixels becomes 4 channels, y[4c + 2·dy + dx, i, j] = x[c, 2i+dy, 2j+dx].

    (batch, C, H, W) becomes (batch, 4C, H/2, W/2); log-det 0. Both directions give tensors in
    PyTorch's channels-last memory format, in which convolutions run faster.

    Raises:
        InputError: H or W is odd (forward), or C is not divisible by 4 (inverse).

    Source: paper, section 2 and figure 2b; the channel order is the official code's.
    """

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels*4 height//2 width//2"], Float[Tensor, " batch"]]:
        """Return the squeezed tensor and 0."""
        batch, channels, height, width = x.shape
        if height % 2 or width % 2:
            raise InputError(f"Cannot squeeze {height}x{width}: height and width must be even.")
        blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
        y = blocks.permute(0, 2, 4, 1, 3, 5).reshape(batch, height // 2, width // 2, channels * 4)
        return y.permute(0, 3, 1, 2), per_sample(0.0, x)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels//4 height*2 width*2"], Float[Tensor, " batch"]]:
        """Return the unsqueezed tensor and 0."""
        batch, channels, height, width = y.shape
        if channels % 4:
            raise InputError(f"Cannot unsqueeze {channels} channels: they must be divisible by 4.")
        blocks = y.permute(0, 2, 3, 1).reshape(batch, height, width, channels // 4, 2, 2)
        x = blocks.permute(0, 1, 4, 2, 5, 3).reshape(batch, height * 2, width * 2, channels // 4)
        return x.permute(0, 3, 1, 2), per_sample(0.0, y)
