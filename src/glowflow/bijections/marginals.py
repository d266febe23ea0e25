"""A first map that gives every position of an image a normal marginal."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .base import sum_per_sample, without_autocast
from .fitted import FittedMap, require_precision

TAIL = 1e-4
"""Mass of each tail outside of the bins, so that the map is onto the real line."""
FLOOR = 5e-3
"""Share of the mass that is spread evenly over the bins: none is too narrow for float32."""
PRIOR_COUNTS = (3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5)
"""Weights of the histogram of all positions, in images, from which `fit` chooses."""
AT_ONCE = 1024
"""Images that are counted at once."""


class Marginals(FittedMap):
    """y = Φ⁻¹(F_p(x)) at each position p, log-det Σ_p log (F_p'(x) / φ(y)), Φ the normal CDF.

    F_p is piecewise linear over the 2^n bins of n-bit values, x in [−½, ½), which is exact for
    uniform dequantisation noise: values that are frequent, such as a black background or margins,
    get the room that they need. Outside of the range y is linear in x, with the slope at the edge,
    so that the map is onto.

    `fit` sets F_p to the histogram of the images' position p, drawn towards the histogram of
    all positions by as much as makes each image most probable given the others.

    Args:
        shape: channels, height, width.
        bits: n.

    Source: Chen & Gopinath 2000, "Gaussianization" (its first, marginal step).
    """

    cdf: Tensor
    """(channels, height, width, 2^n + 1), from TAIL to 1 − TAIL."""

    def __init__(self, shape: tuple[int, int, int], bits: int) -> None:
        super().__init__()
        even = torch.linspace(TAIL, 1.0 - TAIL, 2**bits + 1).expand(*shape, -1)
        self.register_buffer("cdf", even.clone())

    def extra_repr(self) -> str:
        """Shape and bins, for `print`."""
        return f"{tuple(self.cdf.shape[:3])}, bins={self.cdf.shape[3] - 1}"

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return Φ⁻¹(F(x)) and its log-determinant in nats."""
        y, by_value = self.by_value(x)
        return y, sum_per_sample(by_value)

    @without_autocast
    def by_value(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Tensor, Float[Tensor, "batch channels height width"]]:
        """Return Φ⁻¹(F(x)) and each value's part of the log-determinant."""
        require_precision(x, "The first map `marginals` has a table of probabilities")
        bins = self.cdf.shape[3] - 1
        value = (x + 0.5) * bins
        index = value.detach().floor().nan_to_num().clamp(0, bins - 1).long()
        low, mass = self._bin(index)
        inside = (value - index).clamp(0.0, 1.0)
        y = torch.special.ndtri(low + inside * mass)
        slope = bins * mass * _reciprocal_density(y)
        y = y + (value - index - inside) / bins * slope.detach()
        return y, slope.log()

    @without_autocast
    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return F⁻¹(Φ(y)) and its log-determinant in nats."""
        require_precision(y, "The first map `marginals` has a table of probabilities")
        bins = self.cdf.shape[3] - 1
        ends = torch.special.ndtri(self.cdf[..., [0, -1]])
        bounded = torch.minimum(torch.maximum(y, ends[..., 0]), ends[..., 1])
        mass_below = torch.special.ndtr(bounded)
        by_position = mass_below.detach().movedim(0, -1).contiguous()
        index = torch.searchsorted(self.cdf.contiguous(), by_position, right=True).movedim(-1, 0)
        index = (index - 1).clamp(0, bins - 1)
        low, mass = self._bin(index)
        slope = bins * mass * _reciprocal_density(bounded)
        value = index + ((mass_below - low) / mass).clamp(0.0, 1.0)
        x = value / bins - 0.5 + (y - bounded) / slope.detach()
        return x, -sum_per_sample(slope.log())

    def _fit(self, x: Tensor, noise_variance: float) -> None:
        bins = self.cdf.shape[3] - 1
        counts = torch.zeros(x[0].numel(), bins, dtype=torch.float64, device=x.device)
        for some in torch.split(x, AT_ONCE):
            index = ((some + 0.5) * bins).floor().clamp(0, bins - 1).long().flatten(1).mT
            counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.float64))
        overall = counts.sum(0) + 1.0
        overall = overall / overall.sum()
        weights = torch.tensor(PRIOR_COUNTS, dtype=torch.float64, device=x.device)
        scores = torch.stack([_left_one_out(counts, overall, weight) for weight in weights])
        weight = weights.index_select(0, scores.argmax().view(1))
        mass = (counts + weight * overall) / (len(x) + weight)
        mass = (1.0 - FLOOR) * mass + FLOOR / bins
        upper = TAIL + (1.0 - 2 * TAIL) * mass.cumsum(1)
        cdf = torch.cat((torch.full_like(upper[:, :1], TAIL), upper), dim=1)
        self.cdf.copy_(cdf.view(self.cdf.shape))

    def _bin(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The mass below the bins of these indices (batch, …), and in them."""
        table = self.cdf.flatten(0, 2)
        positions = torch.arange(len(table), device=index.device).view(index.shape[1:])
        low = table[positions, index]
        return low, table[positions, index + 1] - low


def _left_one_out(counts: Tensor, overall: Tensor, weight: Tensor) -> Tensor:
    """Σ log p(value | the other images) of a histogram with a Dirichlet prior."""
    others = (counts - 1).clamp(min=0.0) + weight * overall
    return (counts * others.log()).sum() - counts.sum() * torch.log(counts.sum(1)[0] - 1 + weight)


def _reciprocal_density(y: Tensor) -> Tensor:
    """1/φ(y) = √(2π)·exp(y²/2)."""
    return math.sqrt(2 * math.pi) * (0.5 * y.square()).exp()
