"""A first map for stationary fields: every wave with variance 1."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .base import per_sample, wide, without_autocast
from .fitted import FittedMap
from .standardize import SMALLEST_STD, sum_of


class SpectralWhitening(FittedMap):
    """y = F⁻¹[F(x − μ)/√P], F the unitary Fourier transform over the grid; log-det −½ Σ_k log P(k).

    μ is the mean of each channel, P(k) the mean of |F(x − μ)|² of each channel and wave. Periodic
    Gaussian fields of one channel whose statistics are the same everywhere become white noise, by
    as many numbers as there are waves; a full covariance would need their square. Any other field
    is mapped invertibly all the same.

    Args:
        shape: channels, height, width; or channels and another grid.
    """

    mean: Tensor
    log_power: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = shape[1:]
        waves = (shape[0], *shape[1:-1], shape[-1] // 2 + 1)  # the others are their conjugates
        self.register_buffer("mean", torch.zeros(shape[0]))
        self.register_buffer("log_power", torch.zeros(waves))

    def extra_repr(self) -> str:
        """The waves, for `print`."""
        return f"{tuple(self.log_power.shape)}"

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return y and −½ Σ log P in nats."""
        y = self._filtered(x - wide(self.mean, x), -0.5)
        return y, per_sample(-self._half_log_powers(), x)

    @without_autocast
    def inverse(
        self, y: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return x and ½ Σ log P in nats."""
        x = self._filtered(y, 0.5) + wide(self.mean, y)
        return x, per_sample(self._half_log_powers(), y)

    def _fit(self, x: Tensor, noise_variance: float) -> None:
        places = len(x) * math.prod(self.grid)
        others = (0, *range(2, x.dim()))
        mean = sum_of(x, lambda part: part.sum(others)) / places
        power = sum_of(x, lambda part: self._waves(part - wide(mean, part)).abs().square().sum(0))
        power = power / len(x) + noise_variance
        largest = power.max()
        if not largest > 0:  # data that never change
            power = torch.ones_like(power)
        else:
            power = power.clamp(min=SMALLEST_STD**2 * largest)
        self.mean.copy_(mean)
        self.log_power.copy_(power.log())

    def _filtered(self, x: Tensor, exponent: float) -> Tensor:
        """F⁻¹[P^exponent F(x)]."""
        axes = tuple(range(2, x.dim()))
        waves = self._waves(x) * (exponent * self.log_power).exp()
        return torch.fft.irfftn(waves, s=self.grid, dim=axes, norm="ortho")

    def _waves(self, x: Tensor) -> Tensor:
        return torch.fft.rfftn(x, dim=tuple(range(2, x.dim())), norm="ortho")

    def _half_log_powers(self) -> Float[Tensor, ""]:
        """½ Σ log P over all waves."""
        last, waves = self.grid[-1], self.log_power.shape[-1]
        alone = [index in (0, last / 2) for index in range(waves)]  # without a conjugate
        counts = torch.tensor([1.0 if one else 2.0 for one in alone]).to(self.log_power)
        return 0.5 * (self.log_power * counts).sum()
