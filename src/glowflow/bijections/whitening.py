"""A first map that gives images the covariance of white noise."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Bijection, per_sample, without_autocast
from .fitted import FittedMap

SMALLEST_VARIANCE = 1e-9
"""Of a direction, relative to the mean variance: what never changes is not scaled without end."""
HELD_OUT = 5
"""Every fifth image tells the variances along the directions that the others gave."""


class Whitening(FittedMap):
    """y = Λ^(−½)-scaled principal components, the rest divided by one σ, in the images' own basis.

    With the mean μ, principal directions U (D × k, orthonormal) and standard deviations s along
    them, c = Uᵀ(x − μ) and

        y = (x − μ − U c)/σ + U g(c / s),    log|det dy/dx| = −Σ log s − (D − k) log σ + log|det g'|

    so that a standard normal y is the Gaussian of probabilistic PCA, and the one of full covariance
    with k = D (then y is the ZCA whitening). g, if given, is a flow of the k components alone.

    `fit` finds U from four fifths of the images, and s and σ as the variances along it of
    the others, made non-increasing by pooling neighbours, so that few images do not look more
    regular than they are. Directions that no image has belong to the rest, and of fewer than ten
    images everything does.

    Args:
        shape: channels, height, width.
        rank: k; at most D.
        components: g, a bijection of (batch, k, 1, 1).

    Source: Tipping & Bishop 1999, "Probabilistic principal component analysis"; variances by
    sample splitting: Lam 2016, "Nonparametric eigenvalue-regularized precision".
    """

    mean: Tensor
    basis: Tensor
    """Uᵀ, (k, D)."""
    log_std: Tensor
    """log s, (k,), and after it log σ."""

    def __init__(
        self, shape: tuple[int, ...], rank: int, components: Bijection | None = None
    ) -> None:
        super().__init__()
        dims = math.prod(shape)
        self.components = components
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("basis", torch.eye(min(rank, dims), dims))
        self.register_buffer("log_std", torch.zeros(min(rank, dims) + 1))

    def extra_repr(self) -> str:
        """Shape and rank, for `print`."""
        return f"{tuple(self.mean.shape)}, rank={len(self.basis)}"

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return y and its log-determinant in nats."""
        centred = (x - self.mean).flatten(1)
        along, rest = self._apart(centred)
        white, log_det = self._transformed(self._white(along), context)
        rest = rest * (-self.log_std[-1]).exp()
        return self._image(rest, white), log_det - self._log_scale(x)

    @without_autocast
    def inverse(
        self, y: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return x and its log-determinant in nats."""
        white, rest = self._apart(y.flatten(1))
        rest = rest * self.log_std[-1].exp()
        log_det = per_sample(0.0, y)
        if self.components is not None:
            back, log_det = self.components.inverse(white[:, :, None, None], context)
            white = back[:, :, 0, 0]
        along = white * self.log_std[:-1].exp()
        return self._image(rest, along) + self.mean, log_det + self._log_scale(y)

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Fit the map, initialise what is between the components, and apply both."""
        self.fit(x)
        if self.components is not None:
            along, _ = self._apart((x - self.mean).flatten(1))
            self.components.initialize(self._white(along)[:, :, None, None], context)
        return self(x, context)

    def _fit(self, x: Tensor, noise_variance: float) -> None:
        rank = len(self.basis)
        flat = x.flatten(1).to(torch.float64, copy=True)
        mean = flat.mean(0)
        flat -= mean
        known, found, checked = 0, flat, flat
        if len(flat) >= 2 * HELD_OUT:
            checked = flat[HELD_OUT - 1 :: HELD_OUT]
            found = torch.cat([flat[start::HELD_OUT] for start in range(HELD_OUT - 1)])
            known = min(rank, len(found))
        basis = principal_directions(found, rank)
        along = (checked @ basis[:known].mT).square().mean(0)
        spread = checked.square().mean(0).sum()
        if len(flat) == 1:  # which does not differ from its mean
            spread = x.double().var(correction=0) * flat.shape[1]
        others = max(1, flat.shape[1] - known)
        rest = (spread - along.sum()).clamp(min=0.0) / others
        variances = torch.cat((_non_increasing(along), rest.expand(rank + 1 - known)))
        variances = variances + noise_variance
        smallest = SMALLEST_VARIANCE * (spread / flat.shape[1] + noise_variance)
        self.mean.copy_(mean.view(self.mean.shape))
        self.basis.copy_(basis)
        self.log_std.copy_(0.5 * variances.clamp(min=smallest).clamp(min=1e-30).log())

    def _white(self, along: Tensor) -> Tensor:
        """The components with unit variance."""
        return along * (-self.log_std[:-1]).exp()

    def _transformed(self, white: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.components is None:
            return white, per_sample(0.0, white)
        y, log_det = self.components(white[:, :, None, None], context)
        return y[:, :, 0, 0], log_det

    def _apart(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """The components, and what is not along the directions: nothing, if those are all.

        The second product is a step of refinement: a basis that is rounded, be it to half
        precision, gives components and rest that add up all the same.
        """
        along = flat @ self.basis.mT
        rest = flat - along @ self.basis
        more = rest @ self.basis.mT
        if len(self.basis) == flat.shape[1]:
            return along + more, torch.zeros_like(flat)
        return along + more, rest - more @ self.basis

    def _image(self, rest: Tensor, along: Tensor) -> Tensor:
        """Both parts together, as images."""
        return (rest + along @ self.basis).view(-1, *self.mean.shape)

    def _log_scale(self, x: Tensor) -> Float[Tensor, " batch"]:
        """Σ log s + (D − k) log σ, for each of the batch."""
        others = self.mean.numel() - len(self.basis)
        return per_sample(self.log_std[:-1].sum() + others * self.log_std[-1], x)


def _non_increasing(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The non-increasing values nearest to these, by squares: min over j ≤ i of the max over k ≥ i
    of the mean of values j to k (isotonic regression, Barlow et al. 1972)."""
    if not len(values):
        return values
    places = torch.arange(len(values), device=values.device)
    sums = torch.cat((values.new_zeros(1), values.cumsum(0)))
    counts = places - places[:, None] + 1
    means = (sums[1:] - sums[:-1, None]) / counts.clamp(min=1)
    means = means.masked_fill(counts < 1, -math.inf)
    largest = means.flip(1).cummax(1).values.flip(1)
    return largest.cummin(0).values.diagonal()


def principal_directions(
    centred: Float[Tensor, "images dims"], rank: int
) -> Float[Tensor, "rank dims"]:
    """The orthonormal directions of largest variance, as rows, in float64.

    Of fewer images than `rank` the remaining directions are any orthonormal ones.
    """
    images, dims = centred.shape
    if dims <= images:
        vectors = torch.linalg.eigh(centred.mT @ centred).eigenvectors
        return vectors.flip(1)[:, :rank].mT
    values, vectors = torch.linalg.eigh(centred @ centred.mT)
    values, vectors = values.flip(0)[:rank], vectors.flip(1)[:, :rank]
    found = centred.mT @ vectors / values.clamp(min=values[0] * 1e-14 + 1e-300).sqrt()
    if len(values) < rank:
        filler = torch.eye(dims, rank - len(values), dtype=centred.dtype, device=centred.device)
        found = torch.cat((found, filler), dim=1)
    return torch.linalg.qr(found).Q.mT
