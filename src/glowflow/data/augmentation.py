"""Training images, changed at random."""

import torch
from jaxtyping import Float
from torch import Tensor


def shift_some(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Each of (batch, C, H, W) moved by −pixels to pixels in height and width, edges repeated.

    For bytes, before they are dequantised: a repeated edge gets noise of its own.
    """
    count, _, height, width = images.shape
    device = images.device
    by = torch.randint(-pixels, pixels + 1, (2, count, 1), generator=generator, device=device)
    rows = (torch.arange(height, device=device) + by[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + by[1]).clamp(0, width - 1)
    image = torch.arange(count, device=device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()


def flip_some(
    x: Float[Tensor, "batch channels height width"], generator: torch.Generator
) -> Float[Tensor, "batch channels height width"]:
    """Each image as it is or mirrored left to right, with equal chances."""
    chosen = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    return torch.where(chosen[:, None, None, None], x.flip(-1), x)
