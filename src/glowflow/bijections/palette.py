"""A coordinate of values in which those are narrow that an image does not have."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class Palette(NamedTuple):
    """T, a CDF of values in [−½, ½), minus ½; linear within bins, and beyond as in the last."""

    starts: Float[Tensor, "batch channels bins"]
    """T where the bins start."""
    widths: Float[Tensor, "batch channels bins"]
    """By how much it rises in each; `starts + widths` is where the next one starts, to the bit."""

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
        return cls(starts, ends - starts)

    def channel(self, number: int) -> "Palette":
        """That of one channel."""
        return Palette(*(part[:, number : number + 1] for part in self))

    def __call__(
        self, x: Float[Tensor, "batch channels components height width"]
    ) -> Float[Tensor, "batch channels components height width"]:
        """T(x)."""
        bins = self.widths.shape[-1]
        value = (x + 0.5) * bins
        index = value.detach().floor().nan_to_num().clamp(0, bins - 1)
        places = index.long().flatten(2)
        start, width = (part.gather(-1, places).view(x.shape) for part in self)
        return start + width * (value - index)


def at(
    table: Float[Tensor, "batch channels bins"],
    index: Float[Tensor, "*parts batch channels height width"],
) -> Float[Tensor, "*parts batch channels height width"]:
    """What a table has for bins of these numbers."""
    places = index.long().flatten(-2)
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
