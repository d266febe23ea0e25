"""The network that tells an image's values from those that it had before."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WIDTH = 9
"""Of the kernels, in values."""
DILATION = 3
"""Of the second: gaps that come back every dozen of values are seen three times."""
WINDOW = 17
"""Values that one is compared with."""


class PaletteNetwork(nn.Module):
    """Log-probabilities of values, but for a constant, from how often an image has had each.

    Pictures whose contrast was stretched lack values at regular distances, drawings have few. The
    layers are convolutions along the values: conv9 of log(1 + n), of its difference from the mean
    over 17 values, and of the log of 1 + the mean of n over them; relu → conv9, dilated by 3 →
    relu → zero conv9, plus a number for each value.

    Args:
        bins: values.
        hidden: features.
    """

    def __init__(self, bins: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, hidden, WIDTH, padding="same")
        self.second = nn.Conv1d(hidden, hidden, WIDTH, padding="same", dilation=DILATION)
        self.last = nn.Conv1d(hidden, 1, WIDTH, padding="same", bias=False)
        nn.init.zeros_(self.last.weight)
        self.values = nn.Parameter(torch.zeros(bins))

    def forward(
        self, counts: Float[Tensor, "batch channels bins"]
    ) -> Float[Tensor, "batch channels bins"]:
        """Return them, zero at the start."""
        n = counts.flatten(0, 1).unsqueeze(1)
        own, around = torch.log1p(n), torch.log1p(_mean(n))
        h = F.relu(self.first(torch.cat((own, own - _mean(own), around), dim=1)))
        logits: Tensor = self.last(F.relu(self.second(h)))
        return logits.view(counts.shape) + self.values


def _mean(x: Tensor) -> Tensor:
    """Of the `WINDOW` values around each."""
    return F.avg_pool1d(x, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
