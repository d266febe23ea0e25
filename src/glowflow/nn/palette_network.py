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
FEWEST = 16
"""Part of all values that a picture had before its contrast was stretched, at least: a 16th."""
LEAK, COMMON = 0.005, -4.0
"""At the start: share of the pictures' values that are not as they were stretched, and the log-odds
that a picture was stretched from one number of values, against none."""


class PaletteNetwork(nn.Module):
    """Log-probabilities of values, but for a constant, from how often an image has had each.

    Pictures whose contrast was stretched lack values at regular distances, drawings have few. The
    layers are convolutions along the values: conv9 of log(1 + n), of its difference from the mean
    over 17 values, and of the log of 1 + the mean of n over them; relu → conv9, dilated by 3 →
    relu → zero conv9, plus a number for each value, plus what a stretched contrast tells:

        log Σ_m p_m q_m(v),    log p_m = a + b Σ_v log(1 + n_v) log q_m(v) + const

    q_m(v) is, relative to all values being equally likely, the probability of the value v in a
    picture whose m + 1 values were stretched to ⌊(bins − 1) k/m⌋, k = 0 … m, as automatic contrast
    does it, but for a share of others; or one, of a picture that was not stretched. The lowest and
    the highest value tell nothing. a, b and the share are learned.

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
        self.common = nn.Parameter(torch.tensor(COMMON))
        self.told = nn.Parameter(torch.tensor(1.0))
        self.leak = nn.Parameter(torch.tensor(LEAK).logit())

    def forward(
        self, counts: Float[Tensor, "batch channels bins"]
    ) -> Float[Tensor, "batch channels bins"]:
        """Return them; at the start what a stretched contrast tells."""
        n = counts.flatten(0, 1).unsqueeze(1)
        own, around = torch.log1p(n), torch.log1p(_mean(n))
        h = F.relu(self.first(torch.cat((own, own - _mean(own), around), dim=1)))
        logits: Tensor = self.last(F.relu(self.second(h)))
        return (logits + self._of_stretched(own)).view(counts.shape) + self.values

    def _of_stretched(self, own: Tensor) -> Tensor:
        """log Σ_m p_m q_m, (…, 1, bins)."""
        table, leak = stretched(own), torch.sigmoid(self.leak)
        within = table.shape[-1] / table.sum(-1, keepdim=True)
        q = (1 - leak) * within * table + leak
        precise = own.dtype if own.device.type == "mps" else torch.float64
        seen = F.pad(own[..., 1:-1], (1, 1)).to(precise) @ q.log().mT.to(precise)  # large, and tied
        log_odds = self.common + self.told * seen
        p = F.pad(log_odds, (0, 1)).softmax(-1).to(q)  # the last one of a picture as it was
        return torch.log(p[..., :-1] @ q + p[..., -1:])


def stretched(like: Float[Tensor, "... bins"]) -> Float[Tensor, "numbers bins"]:
    """1 where ⌊(bins − 1) k/m⌋ is the value for a k, for m from a `FEWEST`th of the values on."""
    last = like.shape[-1] - 1
    least = max(2, (last + 1) // FEWEST)
    values = torch.arange(last + 1, dtype=like.dtype, device=like.device)
    m = torch.arange(least, max(least, last), dtype=like.dtype, device=like.device).unsqueeze(-1)
    k = (values * m / last).ceil()
    return (k * last / m).floor().eq(values).to(like.dtype)


def _mean(x: Tensor) -> Tensor:
    """Of the `WINDOW` values around each."""
    return F.avg_pool1d(x, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
