"""Maps that mix the channels: the invertible 1x1 convolution, and the fixed permutations."""

from abc import abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import InputError
from .base import Bijection, per_sample, pixels


class ChannelMixing(Bijection):
    """A linear map of the channels, y_p = W x_p at every pixel p, log-det h·w·log|det W|.

    In eval mode without gradients W and W⁻¹ are computed once and kept until a weight changes
    (an optimiser step, a loaded state, another device or dtype; a write through `.data` is not
    seen by PyTorch and needs a call of `train()`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, tuple[object, Tensor]] = {}

    @abstractmethod
    def matrix(self) -> Float[Tensor, "channels channels"]:
        """W."""

    @abstractmethod
    def inverse_matrix(self) -> Float[Tensor, "channels channels"]:
        """W⁻¹."""

    @abstractmethod
    def log_abs_det(self) -> Float[Tensor, ""]:
        """log|det W| in nats."""

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return W x at every pixel and h·w·log|det W| in nats."""
        y = F.conv2d(x, self._kept("W", self.matrix)[:, :, None, None])
        return y, per_sample(pixels(x) * self._kept("log_det", self.log_abs_det), x)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return W⁻¹ y at every pixel and −h·w·log|det W| in nats."""
        x = F.conv2d(y, self._kept("W_inverse", self.inverse_matrix)[:, :, None, None])
        return x, per_sample(-pixels(y) * self._kept("log_det", self.log_abs_det), y)

    def train(self, mode: bool = True) -> "ChannelMixing":
        """Switch between training and evaluation, and forget the kept matrices."""
        self._cache.clear()
        return super().train(mode)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cache": {}}

    def _kept(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        if self.training or torch.is_grad_enabled():
            return compute()
        weights = [*self.parameters(), *self.buffers()]
        if any(w.is_inference() for w in weights):
            return compute()
        version = tuple((w.data_ptr(), w._version, w.dtype, w.device) for w in weights)
        kept = self._cache.get(name)
        if kept is None or kept[0] != version:
            kept = self._cache[name] = (version, compute())
        return kept[1]


class Invertible1x1Conv(ChannelMixing):
    """The invertible 1x1 convolution in LU form, W = P L (U + diag(s)) (paper, equation 10).

    P is a fixed permutation, L unit lower triangular, U strictly upper triangular, the signs of s
    are fixed and log|s| is learned, so log|det W| = Σ log|s|. Only the entries below and above
    the diagonal are stored. W starts as a random rotation. Cost in the number of channels c:
    O(c) for the log-determinant, O(c³) to build W, O(c²·h·w) for the convolution.

    Args:
        channels: number of channels c.
    """

    rows: Tensor
    sign_s: Tensor
    below: Tensor
    above: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        below = torch.tril_indices(channels, channels, -1)
        self.lower = nn.Parameter(torch.empty(below.shape[1]))
        self.upper = nn.Parameter(torch.empty(below.shape[1]))
        self.log_s = nn.Parameter(torch.empty(channels))
        self.register_buffer("sign_s", torch.empty(channels))
        self.register_buffer("rows", torch.empty(channels, dtype=torch.int64))
        self.register_buffer("below", below, persistent=False)
        self.register_buffer("above", torch.triu_indices(channels, channels, 1), persistent=False)
        self.set_matrix(random_rotation(channels))

    @torch.no_grad()
    def set_matrix(self, weight: Float[Tensor, "channels channels"]) -> None:
        """Decompose an invertible matrix and take it as W."""
        P, L, U = torch.linalg.lu(precise(weight))
        s = U.diagonal()
        self.lower.copy_(L[self.below[0], self.below[1]])
        self.upper.copy_(U[self.above[0], self.above[1]])
        self.log_s.copy_(s.abs().log())
        self.sign_s.copy_(s.sign())
        self.rows.copy_(P.argmax(dim=1))

    def factors(
        self,
    ) -> tuple[Float[Tensor, "channels channels"], Float[Tensor, "channels channels"]]:
        """L and U + diag(s)."""
        zeros = self.lower.new_zeros(self.channels, self.channels)
        L = zeros.index_put((self.below[0], self.below[1]), self.lower)
        U = zeros.index_put((self.above[0], self.above[1]), self.upper)
        s = self.sign_s * self.log_s.exp()
        return L + torch.diag_embed(torch.ones_like(s)), U + torch.diag_embed(s)

    def matrix(self) -> Float[Tensor, "channels channels"]:
        """W = P L (U + diag(s))."""
        L, U = self.factors()
        return (L @ U)[self.rows]

    def inverse_matrix(self) -> Float[Tensor, "channels channels"]:
        """W⁻¹ = (U + diag(s))⁻¹ L⁻¹ Pᵀ by two triangular solves in float64."""
        L, U = (precise(factor) for factor in self.factors())
        P = torch.eye(self.channels, dtype=L.dtype, device=L.device)[self.rows]
        half = torch.linalg.solve_triangular(L, P.T, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(U, half, upper=True).to(self.lower.dtype)

    def log_abs_det(self) -> Float[Tensor, ""]:
        """log|det W| = Σ log|s| in nats."""
        return self.log_s.sum()


class PlainInvertible1x1Conv(ChannelMixing):
    """The invertible 1x1 convolution with W itself as the parameter (paper, equation 9).

    W starts as a random rotation; log|det W| is by `slogdet` in float64. Cost in the number of
    channels c: O(c³) for the log-determinant and the inverse, O(c²·h·w) for the convolution.

    Args:
        channels: number of channels c.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_rotation(channels).to(torch.get_default_dtype()))

    @torch.no_grad()
    def set_matrix(self, weight: Float[Tensor, "channels channels"]) -> None:
        """Take an invertible matrix as W."""
        self.weight.copy_(weight)

    def matrix(self) -> Float[Tensor, "channels channels"]:
        """W."""
        return self.weight

    def inverse_matrix(self) -> Float[Tensor, "channels channels"]:
        """W⁻¹, computed in float64."""
        return torch.linalg.inv(precise(self.weight)).to(self.weight.dtype)

    def log_abs_det(self) -> Float[Tensor, ""]:
        """log|det W| in nats, computed in float64."""
        return torch.linalg.slogdet(precise(self.weight)).logabsdet.to(self.weight.dtype)


class Permutation(Bijection):
    """A fixed permutation of the channels, y_c = x_{order(c)}, log-det 0.

    Args:
        order: the permutation, indices 0..channels-1 (saved with the model).

    Raises:
        InputError: `order` is not a permutation.

    Source: RealNVP reverses the channels; the paper compares with that and with a fixed shuffle.
    """

    order: Tensor
    inverse_order: Tensor

    def __init__(self, order: Int[Tensor, " channels"]) -> None:
        super().__init__()
        if order.sort().values.tolist() != list(range(order.numel())):
            raise InputError(f"{order.tolist()} is not a permutation: give each index once.")
        self.register_buffer("order", order.clone())
        self.register_buffer("inverse_order", order.argsort())

    @classmethod
    def reverse(cls, channels: int) -> "Permutation":
        """Channels in reverse order."""
        return cls(torch.arange(channels - 1, -1, -1))

    @classmethod
    def shuffle(cls, channels: int) -> "Permutation":
        """Channels in a random order, drawn once from PyTorch's global generator."""
        return cls(torch.randperm(channels))

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return the permuted channels and 0."""
        return x.index_select(1, self.order), per_sample(0.0, x)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return the channels in their old order and 0."""
        return y.index_select(1, self.inverse_order), per_sample(0.0, y)


def random_rotation(channels: int) -> Float[Tensor, "channels channels"]:
    """A random matrix, uniform over the rotations (det = +1), in float64.

    QR of a Gaussian matrix with the signs of R's diagonal made positive (Mezzadri 2007).
    """
    Q, R = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
    Q = Q * R.diagonal().sign()
    if torch.linalg.det(Q) < 0:
        Q[:, 0] = -Q[:, 0]
    return Q


def precise(weight: Tensor) -> Tensor:
    """Float64 where the device has it."""
    return weight if weight.device.type == "mps" else weight.double()
