"""A coordinate of values in which those are narrow that an image does not have."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class Palette(NamedTuple):
    """T, a CDF of values in [−½, ½), minus ½; linear within bins, and beyond as in the last."""

    starts: Float[Tensor, "batch channels tables*bins"]
    """T where the bins start."""
    widths: Float[Tensor, "batch channels tables*bins"]
    """By how much it rises in each; `starts + widths` is where the next one starts, to the bit."""
    bins: int
    """Of each table."""
    first: Tensor | int = 0
    """(height, width), or of all positions: the place in the tables of a position's first bin."""

    @classmethod
    def of(cls, logits: Float[Tensor, "batch channels bins"]) -> "Palette":
        """The palette of values with these log-probabilities, but for a constant."""
        ends = logits.softmax(-1)
        shift = 1
        while shift < ends.shape[-1]:  # running sums, which `cumsum` has in no fixed order on GPUs
            ends = ends + F.pad(ends[..., :-shift], (shift, 0))
            shift *= 2
        rounding = torch.finfo(ends.dtype).eps / 2  # so that differences are exact
        ends = ends + ((ends / rounding).round() * rounding - ends).detach() - 0.5
        starts = F.pad(ends[..., :-1], (1, 0), value=-0.5)
        return cls(starts, ends - starts, logits.shape[-1])

    @classmethod
    def in_a_row(cls, palettes: Sequence["Palette"], positions: Sequence[int]) -> "Palette":
        """The palette of a row of positions, of which so many have each of these."""
        starts = torch.cat([palette.starts for palette in palettes], dim=-1)
        widths = torch.cat([palette.widths for palette in palettes], dim=-1)
        bins = palettes[0].bins
        device = starts.device
        firsts = [torch.full((1, n), bins * k, device=device) for k, n in enumerate(positions)]
        return cls(starts, widths, bins, torch.cat(firsts, dim=-1))

    def chunk(self, count: int) -> list["Palette"]:
        """Those of so many batches that follow upon each other."""
        tables = zip(self.starts.chunk(count), self.widths.chunk(count), strict=True)
        return [Palette(starts, widths, self.bins) for starts, widths in tables]

    def channel(self, number: int) -> "Palette":
        """That of one channel."""
        some = slice(number, number + 1)
        return self._replace(starts=self.starts[:, some], widths=self.widths[:, some])

    def __call__(
        self, x: Float[Tensor, "batch channels components height width"]
    ) -> Float[Tensor, "batch channels components height width"]:
        """T(x)."""
        value = (x + 0.5) * self.bins
        index = value.detach().floor().nan_to_num().clamp(0, self.bins - 1)
        places = (index.long() + self.first).flatten(2)
        start, width = (table.gather(-1, places).view(x.shape) for table in self[:2])
        return start + width * (value - index)

    def start(
        self, index: Float[Tensor, "*parts batch channels height width"]
    ) -> Float[Tensor, "*parts batch channels height width"]:
        """T where bins of these numbers start."""
        return self._at(self.starts, index)

    def width(
        self, index: Float[Tensor, "*parts batch channels height width"]
    ) -> Float[Tensor, "*parts batch channels height width"]:
        """By how much it rises in bins of these numbers."""
        return self._at(self.widths, index)

    def _at(self, table: Tensor, index: Tensor) -> Tensor:
        places = (index.long() + self.first).flatten(-2)
        return table.expand(*places.shape[:-1], -1).gather(-1, places).view(index.shape)


def counts(
    index: Float[Tensor, "batch channels height width"], bins: int
) -> Float[Tensor, "batch channels bins"]:
    """How often each number of a bin occurs."""
    rows = torch.arange(index.shape[0] * index.shape[1], device=index.device)
    places = (index.long().flatten(2) + bins * rows.view(*index.shape[:2], 1)).flatten()
    zeros = index.new_zeros(len(rows) * bins)
    return zeros.scatter_add(0, places, torch.ones_like(places, dtype=index.dtype)).view(
        *index.shape[:2], bins
    )
