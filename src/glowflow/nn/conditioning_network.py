"""From what a model is given to one feature map a level."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..bijections.base import wide, without_autocast
from ..bijections.squeeze import squeezed
from .convolutions import Padding

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
PADDING_MODES: dict[Padding, PaddingMode] = {
    "zero": "zeros", "periodic": "circular", "reflect": "reflect"
}  # fmt: skip
"""What `nn.Conv2d` calls them."""
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
"""By the number of axes of the grid."""
SMALLEST_STD = 1e-6
"""A value that never changes is not scaled by its standard deviation."""


class ConditioningNetwork(nn.Module):
    """Feature maps (batch, channels, H/2^l, W/2^l) of the levels l = 1 … L, first level first; on
    grids of one or three axes likewise.

        h_1 = conv 3x3 (squeeze of the fields),    h_l+1 = conv 1x1 (squeeze of the map of level l),
        map_l = r(h_l + W_l e),    r(h) = h + conv 3x3 (SiLU (conv 3x3 (SiLU h)))

    Fields are standardised by channel, vectors by entry, by statistics that `fit` sets once. A
    coarser field has its values repeated, so that nothing is interpolated. e is what a network of
    two layers makes of the vectors, plus a learned embedding of each class.

    Args:
        fields: channels and grid, height and width for images, of each field.
        vectors: entries of each vector.
        classes: number of classes of each class.
        grid: H and W, multiples of the fields' sides and of 2^L.
        levels: L.
        channels: of each map.
        padding: what the 3x3 kernels see beyond a map.
        masks: values of fields and vectors may be NaN: they count as the mean, and beside each
            channel or entry stands a mask, 1 where it is missing.

    Source: Ardizzone et al. 2019, "Guided image generation with conditional invertible neural
    networks"; the residual block is that of He et al. 2016, pre-activated.
    """

    initialized: Tensor
    mean: Tensor
    """Of the fields' channels, then of the vectors' entries."""
    std: Tensor

    def __init__(
        self,
        fields: Sequence[tuple[int, ...]],
        vectors: Sequence[int],
        classes: Sequence[int],
        grid: tuple[int, ...],
        levels: int,
        channels: int,
        padding: Padding = "zero",
        masks: bool = False,
    ) -> None:
        super().__init__()
        self.masks = masks
        self.grid, self.channels = grid, channels
        self.field_channels = sum(field[0] for field in fields)
        values = self.field_channels + sum(vectors)
        self.register_buffer("initialized", torch.tensor(False))
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("std", torch.ones(values))
        mode = PADDING_MODES[padding]
        copies = 2 if masks else 1
        conv, block = CONVOLUTIONS[len(grid)], 2 ** len(grid)
        first = block * copies * self.field_channels
        self.first = conv(first, channels, 3, padding=1, padding_mode=mode) if fields else None
        self.dense = (
            nn.Sequential(
                nn.Linear(copies * sum(vectors), channels), nn.SiLU(), nn.Linear(channels, channels)
            )
            if vectors
            else None
        )
        self.embeddings = nn.ModuleList(nn.Embedding(count, channels) for count in classes)
        self.down = nn.ModuleList(conv(block * channels, channels, 1) for _ in range(levels - 1))
        self.everywhere = nn.ModuleList(nn.Linear(channels, channels) for _ in range(levels))
        self.blocks = nn.ModuleList(_Residual(channels, mode, len(grid)) for _ in range(levels))

    @torch.no_grad()
    def fit(self, fields: Sequence[Tensor], vectors: Sequence[Tensor]) -> None:
        """Take means and standard deviations from these conditions, once in the network's life."""
        if self.initialized:
            return
        columns = [f.double().transpose(0, 1).flatten(1) for f in fields]
        columns += [v.double().T for v in vectors]
        if columns:
            means = [c.nanmean(1, keepdim=True).nan_to_num() for c in columns]
            self.mean.copy_(torch.cat(means)[:, 0])
            squares = [(c - m).square().nanmean(1) for c, m in zip(columns, means, strict=True)]
            std = torch.cat(squares).nan_to_num().sqrt()
            constant = std <= SMALLEST_STD * self.mean.double().abs()
            self.std.copy_(torch.where(constant, torch.ones_like(std), std))
        self.initialized.fill_(True)

    @without_autocast
    def forward(
        self,
        fields: Sequence[Float[Tensor, "batch channels *grid"]],
        vectors: Sequence[Float[Tensor, "batch entries"]],
        classes: Sequence[Int[Tensor, " batch"]],
    ) -> tuple[Float[Tensor, "batch features *grid"], ...]:
        """Return the map of each level."""
        batch = (*fields, *vectors, *classes)[0].shape[0]
        split = self.field_channels
        e = self.mean.new_zeros(batch, self.channels)
        if self.dense is not None:
            given = (torch.cat(list(vectors), dim=1) - self.mean[split:]) / self.std[split:]
            e = e + self.dense(self._with_masks(given))
        for embedding, numbers in zip(self.embeddings, classes, strict=True):
            e = e + embedding(numbers)
        h = self.mean.new_zeros(batch, self.channels, *(side // 2 for side in self.grid))
        if self.first is not None:
            seen = torch.cat([repeated(field, self.grid) for field in fields], dim=1)
            seen = (seen - wide(self.mean[:split], seen)) / wide(self.std[:split], seen)
            h = self.first(squeezed(self._with_masks(seen)))
        maps: list[Tensor] = []
        for level, (everywhere, block) in enumerate(zip(self.everywhere, self.blocks, strict=True)):
            if level:
                h = self.down[level - 1](squeezed(maps[-1]))
            maps.append(block(h + wide(everywhere(F.silu(e)), h)))
        return tuple(maps)

    def _with_masks(self, values: Tensor) -> Tensor:
        """Standardised values, of which the missing ones are 0, and where they are."""
        if not self.masks:
            return values
        missing = values.isnan()
        return torch.cat((values.masked_fill(missing, 0.0), missing.to(values)), dim=1)


class _Residual(nn.Module):
    def __init__(self, channels: int, mode: PaddingMode, axes: int) -> None:
        super().__init__()
        self.first, self.last = (
            CONVOLUTIONS[axes](channels, channels, 3, padding=1, padding_mode=mode)
            for _ in range(2)
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.last(F.silu(self.first(F.silu(h))))


def repeated(
    field: Float[Tensor, "batch channels *coarse"], grid: tuple[int, ...]
) -> Float[Tensor, "batch channels *grid"]:
    """A field on a finer grid, each value repeated."""
    for axis, side in enumerate(grid, start=2):
        if side > field.shape[axis]:
            field = field.repeat_interleave(side // field.shape[axis], dim=axis)
    return field
