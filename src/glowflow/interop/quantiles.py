"""The first map `marginals` in operations that every runtime has."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..bijections import Bijection, Marginals
from ..bijections.base import sum_per_sample

CENTRE = (3.3871327179, 50.434271938, 159.29113202, 59.109374720)
CENTRE_BELOW = (1.0, 17.895169469, 78.757757664, 67.187563600)
TAILS = (1.4234372777, 2.7568153900, 1.3067284816, 0.17023821103)
TAILS_BELOW = (1.0, 0.73700164250, 0.12021132975)


class PortableMarginals(Bijection):
    """`Marginals` without the normal quantile and the search of PyTorch's own.

    Source of the quantile: Wichura 1988, algorithm AS 241, the routine of seven digits, between
    10⁻⁴ and 1 − 10⁻⁴.
    """

    cdf: Tensor
    starts: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, marginals: Marginals) -> None:
        super().__init__()
        shape = marginals.cdf.shape
        self.bins = shape[-1] - 1
        self.register_buffer("cdf", marginals.cdf.flatten().clone())
        starts = torch.arange(math.prod(shape[:-1])) * shape[-1]
        self.register_buffer("starts", starts.view(1, *shape[:-1]))
        ends = torch.special.ndtri(marginals.cdf[..., [0, -1]].double())
        self.register_buffer("least", ends[..., 0].clone())
        self.register_buffer("most", ends[..., 1].clone())

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return Φ⁻¹(F(x)) and its log-determinant in nats."""
        value = (x + 0.5) * self.bins
        whole = value.floor().clamp(0, self.bins - 1)
        low, mass = self._bin(whole.long())
        inside = (value - whole).clamp(0.0, 1.0)
        y = normal_quantile(low + inside * mass)
        log_slope = self._log_slope(y, mass)
        y = y + (value - whole - inside) / self.bins * log_slope.exp()
        return y, sum_per_sample(log_slope)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return F⁻¹(Φ(y)) and its log-determinant in nats."""
        bounded = torch.minimum(torch.maximum(y, self.least), self.most)
        below = 0.5 + 0.5 * torch.erf(bounded * math.sqrt(0.5))
        index = torch.zeros_like(below, dtype=torch.int64)
        step = self.bins // 2
        while step:  # the last bin that starts at or below it; there are 2^n
            further = index + step
            index = torch.where(self._at(further) <= below, further, index)
            step //= 2
        low, mass = self._bin(index)
        log_slope = self._log_slope(bounded, mass)
        value = index + ((below - low) / mass).clamp(0.0, 1.0)
        x = value / self.bins - 0.5 + (y - bounded) * (-log_slope).exp()
        return x, -sum_per_sample(log_slope)

    def _at(self, index: Tensor) -> Tensor:
        return self.cdf[index + self.starts]

    def _bin(self, index: Tensor) -> tuple[Tensor, Tensor]:
        low = self._at(index)
        return low, self._at(index + 1) - low

    def _log_slope(self, y: Tensor, mass: Tensor) -> Tensor:
        """log(2^n · mass / φ(y))."""
        return 0.5 * y.square() + mass.log() + (math.log(self.bins) + 0.5 * math.log(2 * math.pi))


def normal_quantile(p: Tensor) -> Tensor:
    """Φ⁻¹(p), for p from 10⁻⁴ to 1 − 10⁻⁴."""
    q = p - 0.5
    r = 0.180625 - q * q
    centre = q * _polynomial(r, CENTRE) / _polynomial(r, CENTRE_BELOW)
    tail = torch.minimum(p, 1.0 - p)
    far = (-tail.log()).sqrt() - 1.6
    tails = q.sign() * _polynomial(far, TAILS) / _polynomial(far, TAILS_BELOW)
    return torch.where(q.abs() <= 0.425, centre, tails)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    *lower, total = coefficients
    value = torch.full_like(x, total)
    for coefficient in reversed(lower):
        value = value * x + coefficient
    return value
