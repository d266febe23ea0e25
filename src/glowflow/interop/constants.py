"""What stands for the parts of a model in its portable copy: constants and plain operations."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..bijections import ActNorm, AffineCoupling, BatchNorm, Bijection
from ..bijections.base import per_sample, pixels, sum_per_sample
from ..bijections.batchnorm import EPSILON
from ..bijections.coupling import LOG_BOUND
from ..bijections.linear import ChannelMixing
from ..errors import InputError
from ..fused.steps import Steps
from ..models.priors import GaussianPrior, TopPrior
from ..nn.convolutions import Padding, ScaledConv
from ..nn.coupling_network import CouplingNetwork
from ..nn.rows import wrapped

Images = Float[Tensor, "batch channels height width"]


class Convolution(nn.Module):
    """conv2d(x, weight, bias) of the size of x; edge weights are folded into it.

    The edge channel is 1 on the padding and 0 inside. A channel of ones is 0 on the padding and 1
    inside, so that edge weights e are −e on ones, and Σ e in the bias.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        edge: Tensor | None = None,
        padding: Padding = "zero",
    ) -> None:
        super().__init__()
        self.padding: Padding = padding
        self.has_edge = edge is not None
        if edge is not None and bias is not None:
            weight = torch.cat((weight, -edge[:, None]), dim=1)
            bias = bias + edge.sum((1, 2))
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", bias)

    @classmethod
    def of(cls, layer: ScaledConv) -> "Convolution":
        """The layer's convolution, scaled, in float64."""
        scale = layer.scale().double()[:, None, None]
        edge = None if layer.edge is None else layer.edge * scale
        bias = layer.b * scale[:, 0, 0]
        return cls(layer.weight * scale[..., None], bias, edge, layer.padding)

    def forward(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Return the convolution."""
        if self.has_edge:
            x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        weight = self.weight.to(x.dtype)
        beyond = weight.shape[2] // 2
        if beyond and self.padding == "periodic":  # ONNX pads so from opset 19 on
            x, beyond = wrapped(x, (2, 3)), 0
        elif beyond and self.padding == "reflect":
            x, beyond = F.pad(x, (1, 1, 1, 1), mode="reflect"), 0
        return F.conv2d(x, weight, self.bias, padding=beyond)


def network_of(network: CouplingNetwork) -> nn.Sequential:
    """conv 3x3 → ReLU → conv 1x1 → ReLU → conv 3x3."""
    first, second, last = map(Convolution.of, (network.first, network.second, network.last))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)


class Affine(Bijection):
    """`AffineCoupling` whose network gives all shifts, then all that the scales are made of."""

    def __init__(self, coupling: AffineCoupling) -> None:
        super().__init__()
        self.kind = coupling.scale
        self.network = network_of(coupling.network)  # type: ignore[arg-type]
        last: Any = self.network[-1]
        rows = torch.arange(len(last.bias))
        order = torch.cat((rows[0::2], rows[1::2]))
        last.weight, last.bias = last.weight[order].contiguous(), last.bias[order]
        if self.kind == "bounded":
            last.weight[len(rows) // 2 :] /= LOG_BOUND
            last.bias[len(rows) // 2 :] /= LOG_BOUND
        if self.kind in ("sigmoid", "inverse_sigmoid"):
            last.bias[len(rows) // 2 :] += 2.0

    def forward(
        self, x: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return (x1, (x2 + t)·s) and Σ log s in nats."""
        x1, x2 = _halves(x)
        shift, raw = self.network(x1).chunk(2, dim=1)
        log_scale = self._log_scale(raw)
        y2 = (x2 + shift) * log_scale.exp()
        return torch.cat((x1, y2), dim=1), sum_per_sample(log_scale)

    def inverse(
        self, y: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return (y1, y2/s − t) and −Σ log s in nats."""
        y1, y2 = _halves(y)
        shift, raw = self.network(y1).chunk(2, dim=1)
        log_scale = self._log_scale(raw)
        x2 = y2 * (-log_scale).exp() - shift
        return torch.cat((y1, x2), dim=1), -sum_per_sample(log_scale)

    def _log_scale(self, raw: Tensor) -> Tensor:
        match self.kind:
            case "sigmoid":
                return F.logsigmoid(raw)
            case "inverse_sigmoid":
                return -F.logsigmoid(raw)
            case "bounded":
                return LOG_BOUND * torch.tanh(raw)
        return raw


def _halves(x: Tensor) -> tuple[Tensor, ...]:
    changed = x.shape[1] // 2
    return torch.split(x, (x.shape[1] - changed, changed), dim=1)  # type: ignore[arg-type]


class Linear(Bijection):
    """y_p = A x_p + c at every pixel p and x_p = A⁻¹ y_p + d, with log|det A| a pixel."""

    def __init__(
        self,
        forward: tuple[Tensor, Tensor | None],
        inverse: tuple[Tensor, Tensor | None],
        log_abs_det: float,
    ) -> None:
        super().__init__()
        self.there, self.back = (
            Convolution(matrix[:, :, None, None], bias) for matrix, bias in (forward, inverse)
        )
        self.log_abs_det = log_abs_det

    def forward(
        self, x: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return A x + c and its log-determinant in nats."""
        return self.there(x), per_sample(pixels(x) * self.log_abs_det, x)

    def inverse(
        self, y: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return A⁻¹ y + d and its log-determinant in nats."""
        return self.back(y), per_sample(-pixels(y) * self.log_abs_det, y)


class Shuffle(Bijection):
    """`Squeeze` in PyTorch's usual memory format; its own unshuffle does not take empty batches."""

    def forward(
        self, x: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return the squeezed tensor and 0."""
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
        y = blocks.permute(0, 1, 3, 5, 2, 4)
        return y.reshape(batch, 4 * channels, height // 2, width // 2), per_sample(0.0, x)

    def inverse(
        self, y: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return the unsqueezed tensor and 0."""
        batch, channels, height, width = y.shape
        blocks = y.reshape(batch, channels // 4, 2, 2, height, width)
        x = blocks.permute(0, 1, 4, 2, 5, 3)
        return x.reshape(batch, channels // 4, 2 * height, 2 * width), per_sample(0.0, y)


class ConstantSteps(Bijection):
    """The steps of a level: a `Linear` and a coupling each."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        parts: list[Any] = list(steps)
        linear = [_of_step(step.actnorm, step.permutation) for step in parts]
        self.log_abs_det = sum(one.log_abs_det for one in linear)
        self.linear = nn.ModuleList(linear)
        self.couplings = nn.ModuleList(step.coupling for step in parts)

    def forward(
        self, x: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return the last step's output and the sum of the log-determinants in nats."""
        total = per_sample(pixels(x) * self.log_abs_det, x)
        for linear, coupling in self._pairs():
            x, by_coupling = coupling(linear.there(x), context)
            total = total + by_coupling
        return x, total

    def inverse(
        self, y: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return the first step's input and minus the sum of the log-determinants in nats."""
        total = per_sample(-pixels(y) * self.log_abs_det, y)
        for linear, coupling in reversed(self._pairs()):
            y, by_coupling = coupling.inverse(y, context)
            y, total = linear.back(y), total + by_coupling
        return y, total

    def _pairs(self) -> list[tuple[Any, Any]]:
        return list(zip(self.linear, self.couplings, strict=True))


class ConstantTop(GaussianPrior):
    """μ and log σ of the last level: a map, and what each class adds to it."""

    map: Tensor
    by_class: Tensor | None

    def __init__(self, prior: TopPrior, size: tuple[int, int]) -> None:
        super().__init__()
        dtype = next(prior.parameters(), torch.empty(0)).dtype
        at = torch.zeros(1, 2 * prior.channels, *size, dtype=dtype)
        self.register_buffer("map", at if prior.conv is None else prior.conv(at).contiguous())
        by_class = None
        if prior.classes_map is not None:
            by_class = prior.classes_map(torch.eye(prior.classes, dtype=dtype))
        self.register_buffer("by_class", by_class)

    def forward(self, given: Images, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """μ and log σ, for labels (batch,) where there are classes."""
        h = self.map
        if self.by_class is not None:
            if context is None:
                raise InputError("This model has classes: its programs take labels.")
            h = h + self.by_class.index_select(0, context)[:, :, None, None]
        mean, log_std = h.expand(given.shape[0], -1, -1, -1).chunk(2, dim=1)
        return mean, log_std


class Scaled(Bijection):
    """Batch normalisation by its running averages, y = (x − μ)·(1/σ)."""

    mean: Tensor
    std: Tensor
    reciprocal: Tensor

    def __init__(self, norm: BatchNorm) -> None:
        super().__init__()
        std = (norm.var.double() + EPSILON).sqrt()
        self.log_abs_det = -float(std.log().sum())
        for name, value in {"mean": norm.mean, "std": std, "reciprocal": 1 / std}.items():
            self.register_buffer(name, value[:, None, None].clone())

    def forward(
        self, x: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return (x − μ)/σ and its log-determinant in nats."""
        y = (x - self.mean) * self.reciprocal
        return y, per_sample(pixels(x) * self.log_abs_det, x)

    def inverse(
        self, y: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return y·σ + μ and its log-determinant in nats."""
        return y * self.std + self.mean, per_sample(-pixels(y) * self.log_abs_det, y)


def linear_of(mixing: ChannelMixing) -> Linear:
    """The mixing's W and W⁻¹."""
    W, W_inverse = mixing.matrix(), mixing.inverse_matrices([mixing])[0]
    return Linear((W, None), (W_inverse, None), float(mixing.log_abs_det()))


def _of_step(actnorm: ActNorm, mixing: ChannelMixing) -> Linear:
    """W (s·(x + b)) = A x + A b with A = W diag(s), and its inverse diag(1/s) W⁻¹ y − b."""
    b, log_scale = actnorm.b.double(), actnorm.log_scale().double()
    A = mixing.matrix().double() * log_scale.exp()
    A_inverse = (-log_scale).exp()[:, None] * mixing.inverse_matrices([mixing])[0]
    log_abs_det = float(mixing.log_abs_det().double() + log_scale.sum())
    return Linear((A, A @ b), (A_inverse, -b), log_abs_det)
