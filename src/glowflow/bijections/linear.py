"""Maps that mix the channels: the invertible 1x1 convolution, and the fixed permutations."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import InputError
from .base import Bijection, from_rows, per_sample, pixels, to_rows, without_autocast
from .exact import require_own_weights
from .kept import Kept, is_traced


class ChannelMixing(Bijection, Kept):
    """A linear map of the channels, y_p = W x_p at every pixel p, log-det h·w·log|det W|.

    A subclass gives W, W⁻¹ and log|det W| of several such maps at once, which costs little more
    than one.
    """

    @classmethod
    @abstractmethod
    def matrices(cls, mixings: Sequence[Self]) -> Float[Tensor, "maps channels channels"]:
        """W of each of these maps, which have the same number of channels."""

    @classmethod
    @abstractmethod
    def inverse_matrices(cls, mixings: Sequence[Self]) -> Float[Tensor, "maps channels channels"]:
        """W⁻¹ of each of these maps, in float64 where the device has it."""

    @classmethod
    @abstractmethod
    def log_abs_dets(cls, mixings: Sequence[Self]) -> Float[Tensor, " maps"]:
        """log|det W| of each of these maps, in nats."""

    def matrix(self) -> Float[Tensor, "channels channels"]:
        """W."""
        return self.matrices([self])[0]

    def inverse_matrix(self) -> Float[Tensor, "channels channels"]:
        """W⁻¹, in the dtype of W."""
        return self.inverse_matrices([self])[0].to(self.matrix())

    def log_abs_det(self) -> Float[Tensor, ""]:
        """log|det W| in nats."""
        return self.log_abs_dets([self])[0]

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return W x at every pixel and h·w·log|det W| in nats."""
        W, log_det = self.kept(
            "forward", lambda: (self.matrix(), self.log_abs_det()), lambda: [self]
        )
        return mix(x, W.to(x.dtype)), per_sample(pixels(x) * log_det, x)

    @without_autocast
    def inverse(
        self, y: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return W⁻¹ y at every pixel and −h·w·log|det W| in nats."""
        W_inverse, log_det = self.kept(
            "inverse", lambda: (self.inverse_matrix(), self.log_abs_det()), lambda: [self]
        )
        return mix(y, W_inverse.to(y.dtype)), per_sample(-pixels(y) * log_det, y)


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

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        entries = channels * (channels - 1) // 2
        self.lower = nn.Parameter(torch.empty(entries))
        self.upper = nn.Parameter(torch.empty(entries))
        self.log_s = nn.Parameter(torch.empty(channels))
        self.register_buffer("sign_s", torch.empty(channels))
        self.register_buffer("rows", torch.empty(channels, dtype=torch.int64))
        if not self.log_s.is_meta:
            self.set_matrix(random_rotation(channels))

    @torch.no_grad()
    def set_matrix(self, weight: Float[Tensor, "channels channels"]) -> None:
        """Decompose an invertible matrix and take it as W.

        Raises:
            InputError: a weight is parametrised.
        """
        require_own_weights(self, "lower", "upper", "log_s")
        P, L, U = torch.linalg.lu(precise(weight))
        s = U.diagonal()
        below, above = _triangles(self.channels, weight.device)
        self.lower.copy_(L.flatten()[below])
        self.upper.copy_(U.flatten()[above])
        self.log_s.copy_(s.abs().log())
        self.sign_s.copy_(s.sign())
        self.rows.copy_(P.argmax(dim=1))

    def extra_repr(self) -> str:
        """Channels, for `print`."""
        return str(self.channels)

    @classmethod
    def factors(
        cls, mixings: Sequence[Self]
    ) -> tuple[Float[Tensor, "maps channels channels"], Float[Tensor, "maps channels channels"]]:
        """L and U + diag(s) of each map."""
        one = mixings[0]
        shape = (len(mixings), one.channels, one.channels)
        log_s = torch.stack([m.log_s for m in mixings])
        s = torch.stack([m.sign_s for m in mixings]).to(log_s.dtype) * log_s.exp()
        below, above = _triangles(one.channels, s.device)
        zeros = s.new_zeros(len(mixings), one.channels**2)
        L = zeros.index_copy(1, below, torch.stack([m.lower for m in mixings])).view(shape)
        U = zeros.index_copy(1, above, torch.stack([m.upper for m in mixings])).view(shape)
        return L + torch.diag_embed(torch.ones_like(s)), U + torch.diag_embed(s)

    @classmethod
    def matrices(cls, mixings: Sequence[Self]) -> Float[Tensor, "maps channels channels"]:
        """W = P L (U + diag(s)) of each map."""
        L, U = cls.factors(mixings)
        maps, channels, _ = L.shape
        require_permutations([m.rows for m in mixings])
        rows = torch.cat([m.rows + k * channels for k, m in enumerate(mixings)])
        return (L @ U).reshape(-1, channels).index_select(0, rows).view(maps, channels, channels)

    @classmethod
    def inverse_matrices(cls, mixings: Sequence[Self]) -> Float[Tensor, "maps channels channels"]:
        """W⁻¹ = (U + diag(s))⁻¹ L⁻¹ Pᵀ by two triangular solves in float64."""
        L, U = (precise(factor) for factor in cls.factors(mixings))
        eye = torch.eye(L.shape[1], dtype=L.dtype, device=L.device)
        require_permutations([m.rows for m in mixings])
        P_transposed = torch.stack([eye[m.rows].T for m in mixings])
        half = torch.linalg.solve_triangular(L, P_transposed, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(U, half, upper=True)

    @classmethod
    def log_abs_dets(cls, mixings: Sequence[Self]) -> Float[Tensor, " maps"]:
        """log|det W| = Σ log|s| of each map, in nats."""
        return torch.stack([m.log_s for m in mixings]).sum(dim=1)


class PlainInvertible1x1Conv(ChannelMixing):
    """The invertible 1x1 convolution with W itself as the parameter (paper, equation 9).

    W starts as a random rotation; log|det W| is by `slogdet` in float64. Cost in the number of
    channels c: O(c³) for the log-determinant and the inverse, O(c²·h·w) for the convolution.

    Args:
        channels: number of channels c.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels))
        if not self.weight.is_meta:
            self.set_matrix(random_rotation(channels))

    @torch.no_grad()
    def set_matrix(self, weight: Float[Tensor, "channels channels"]) -> None:
        """Take an invertible matrix as W.

        Raises:
            InputError: the weight is parametrised.
        """
        require_own_weights(self, "weight")
        self.weight.copy_(weight)

    def extra_repr(self) -> str:
        """Channels, for `print`."""
        return str(len(self.weight))

    @classmethod
    def matrices(cls, mixings: Sequence[Self]) -> Float[Tensor, "maps channels channels"]:
        """W of each map."""
        return torch.stack([m.weight for m in mixings])

    @classmethod
    def inverse_matrices(cls, mixings: Sequence[Self]) -> Float[Tensor, "maps channels channels"]:
        """W⁻¹ of each map.

        Raises:
            InputError: a W has none.
        """
        try:
            return torch.linalg.inv(precise(cls.matrices(mixings)))
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise InputError(
                "The matrix of a 1x1 convolution is singular, so that nothing can be decoded: use "
                "another checkpoint."
            ) from error

    @classmethod
    def log_abs_dets(cls, mixings: Sequence[Self]) -> Float[Tensor, " maps"]:
        """log|det W| of each map in nats, computed in float64."""
        W = cls.matrices(mixings)
        return torch.linalg.slogdet(precise(W)).logabsdet.to(W.dtype)


class Permutation(ChannelMixing):
    """A fixed permutation of the channels, y_c = x_{order(c)}, log-det 0.

    Args:
        order: the permutation, indices 0..channels-1 (saved with the model).

    Raises:
        InputError: `order` is not a permutation.

    Source: RealNVP reverses the channels; the paper compares with that and with a fixed shuffle.
    """

    order: Tensor

    def __init__(self, order: Int[Tensor, " channels"]) -> None:
        super().__init__()
        if not order.is_meta:
            require_permutations([order])
        self.register_buffer("order", order.clone())

    def extra_repr(self) -> str:
        """Channels, for `print`."""
        return str(len(self.order))

    @classmethod
    def reverse(cls, channels: int) -> "Permutation":
        """Channels in reverse order."""
        return cls(torch.arange(channels - 1, -1, -1))

    @classmethod
    def shuffle(cls, channels: int) -> "Permutation":
        """Channels in a random order, drawn once from PyTorch's global generator."""
        return cls(torch.randperm(channels))

    @classmethod
    def matrices(cls, mixings: Sequence[Self]) -> Float[Tensor, "maps channels channels"]:
        """W of each map: row c is 1 at order(c), else 0."""
        order = require_permutations([m.order for m in mixings])
        channels = torch.arange(order.shape[1], device=order.device)
        return (order[..., None] == channels).to(torch.get_default_dtype())

    @classmethod
    def inverse_matrices(cls, mixings: Sequence[Self]) -> Float[Tensor, "maps channels channels"]:
        """W⁻¹ = Wᵀ of each map."""
        return precise(cls.matrices(mixings)).mT

    @classmethod
    def log_abs_dets(cls, mixings: Sequence[Self]) -> Float[Tensor, " maps"]:
        """Zeros."""
        zero = torch.get_default_dtype()
        return torch.stack([m.order.new_zeros((), dtype=zero) for m in mixings])


def mix(
    x: Float[Tensor, "batch channels *grid"],
    weight: Float[Tensor, "channels channels"],
    bias: Float[Tensor, " channels"] | None = None,
) -> Float[Tensor, "batch channels *grid"]:
    """W x + bias at every pixel: a 1x1 convolution, as the matrix product that it is."""
    return from_rows(F.linear(to_rows(x), weight, bias))


def random_rotation(channels: int) -> Float[Tensor, "channels channels"]:
    """A random matrix, uniform over the rotations (det = +1), in float64, on the CPU.

    QR of a Gaussian matrix with the signs of R's diagonal made positive (Mezzadri 2007).
    """
    gaussian = torch.randn(channels, channels, dtype=torch.float64, device="cpu")
    Q, R = torch.linalg.qr(gaussian)
    Q = Q * R.diagonal().sign()
    sign = torch.linalg.det(Q).sign()
    return torch.cat((Q[:, :1] * sign, Q[:, 1:]), dim=1)


def precise(weight: Tensor) -> Tensor:
    """Float64 where the device has it."""
    return weight if weight.device.type == "mps" else weight.double()


def _triangles(channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places, in a flattened square matrix, of what lies below and above the diagonal."""
    i, j = torch.tril_indices(channels, channels, -1, device=device)
    k, m = torch.triu_indices(channels, channels, 1, device=device)
    return i * channels + j, k * channels + m


def require_permutations(orders: Sequence[Tensor]) -> Int[Tensor, "maps channels"]:
    """These orders as one tensor; where a look does not wait for a device, each is looked at.

    Raises:
        InputError: one is not a permutation, as after an average over buffers.
    """
    order = torch.stack(list(orders))
    if order.device.type == "cpu" and not is_traced():
        ascending = torch.arange(order.shape[1]).expand_as(order)
        if not torch.equal(order.sort(dim=1).values, ascending):
            raise InputError(
                f"The order of {order.shape[1]} channels is not a permutation: give each index "
                "once; if buffers were averaged, average the parameters alone."
            )
    return order
