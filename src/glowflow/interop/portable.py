"""A model as constants and plain operations: what its programs for other software are made from.

Everything that follows from weights alone (W, W⁻¹, log-determinants, scaled kernels, edge channels)
is computed once, in float64, and stands in the copy as a number. What is left are convolutions,
products and a few functions of one value, which every runtime has.
"""

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..bijections import (
    ActNorm,
    AffineCoupling,
    BatchNorm,
    Bijection,
    Marginals,
    Squeeze,
)
from ..bijections.base import per_sample, pixels, sum_per_sample
from ..bijections.batchnorm import EPSILON
from ..bijections.coupling import LOG_BOUND
from ..bijections.exact import has_hooks, is_untouched, kind_of
from ..bijections.linear import ChannelMixing
from ..errors import InputError
from ..fused.steps import Steps
from ..models.flow import ImageFlow
from ..models.priors import GaussianPrior, TopPrior
from ..nn.convolutions import GatherConv, PointConv, ScaledConv2d, ScatterConv
from ..nn.coupling_network import CouplingNetwork
from .quantiles import PortableMarginals

Precision = Literal["float32", "float16"]

Images = Float[Tensor, "batch channels height width"]


class Convolution(nn.Module):
    """conv2d(x, weight, bias), zero-padded to the size of x; edge weights are folded into it.

    The edge channel is 1 on the padding and 0 inside. A channel of ones is 0 on the padding and 1
    inside, so that edge weights e are −e on ones, and Σ e in the bias.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, edge: Tensor | None = None) -> None:
        super().__init__()
        self.has_edge = edge is not None
        if edge is not None and bias is not None:
            weight = torch.cat((weight, -edge[:, None]), dim=1)
            bias = bias + edge.sum((1, 2))
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", bias)

    @classmethod
    def of(cls, layer: ScaledConv2d) -> "Convolution":
        """The layer's convolution, scaled, in float64."""
        scale = layer.scale().double()[:, None, None]
        edge = None if layer.edge is None else layer.edge * scale
        return cls(layer.weight * scale[..., None], layer.b * scale[:, 0, 0], edge)

    def forward(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Return the convolution."""
        if self.has_edge:
            x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        weight = self.weight.to(x.dtype)
        return F.conv2d(x, weight, self.bias, padding=weight.shape[2] // 2)


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
        if self.kind == "sigmoid":
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
        if self.kind == "sigmoid":
            return F.logsigmoid(raw)
        return LOG_BOUND * torch.tanh(raw) if self.kind == "bounded" else raw


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
    """`Squeeze`, as PyTorch's pixel unshuffle and shuffle."""

    def forward(
        self, x: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return the squeezed tensor and 0."""
        return F.pixel_unshuffle(x, 2), per_sample(0.0, x)

    def inverse(
        self, y: Images, context: Tensor | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return the unsqueezed tensor and 0."""
        return F.pixel_shuffle(y, 2), per_sample(0.0, y)


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


@torch.no_grad()
def portable(model: ImageFlow, precision: Precision = "float32") -> ImageFlow:
    """A copy of the model, on the CPU, in eval mode and in float32, in which what follows from
    weights alone is numbers. Parts that are not known here stay as they are.

    Args:
        model: it stays as it is.
        precision: in which the kernels of 3x3 convolutions and networks are kept. They compute in
            float32, as all else does, so that the copy is as invertible, and its density as
            exact, in either.

    Raises:
        InputError: the model is not initialised, or has hooks, which no program calls.
    """
    if not model.initialized:
        raise InputError(
            "This model has seen no images: train it, or initialise it, before it is exported."
        )
    for name, module in model.named_modules():
        if has_hooks(module):
            raise InputError(
                f"{name or 'The model'} has hooks, which an exported program does not call: "
                "remove them, and make weights that they compute permanent (prune.remove)."
            )
    own = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    _replace(own, own.latent_shapes[-1][1:])
    own.float()
    if precision == "float16":
        matrices = {
            id(part) for m in own.modules() if isinstance(m, Linear) for part in m.children()
        }
        for part in own.modules():
            if isinstance(part, Convolution) and id(part) not in matrices:
                part.weight = part.weight.half()
    return own


def _replace(module: nn.Module, top: tuple[int, int]) -> None:
    """Put constants in the place of the module's parts, and of their parts."""
    for name, part in module.named_children():
        made = _constant(part, top)
        setattr(module, name, made)
        _replace(made, top)


def _constant(part: Any, top: tuple[int, int]) -> nn.Module:
    """The part in constants; the part itself, where it is not known."""
    if isinstance(part, Steps) and part._known_steps() is not None:
        return ConstantSteps(part)
    if isinstance(part, ChannelMixing) and _is_only_a_matrix(part):
        return _of_mixing(part)
    if not is_untouched(part):
        return part
    kind = kind_of(part)
    if kind is TopPrior:
        return ConstantTop(part, top)
    if kind is AffineCoupling and _is_known(part.network):
        return Affine(part)
    if kind is CouplingNetwork and not _is_known(part):
        return part
    if _is_plain_convolution(part):
        return Convolution(part.weight.detach(), part.bias)
    return MADE[kind](part) if kind in MADE else part


MADE: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    BatchNorm: Scaled,
    CouplingNetwork: network_of,
    GatherConv: Convolution.of,
    Marginals: PortableMarginals,
    PointConv: Convolution.of,
    ScatterConv: Convolution.of,
    Squeeze: lambda _: Shuffle(),
}
"""What stands for modules of these classes, no subclasses."""


def _is_known(network: nn.Module) -> bool:
    known = kind_of(network) is CouplingNetwork and is_untouched(network)
    return known and network.has_exact_layers()  # type: ignore[operator]


def _is_only_a_matrix(mixing: ChannelMixing) -> bool:
    kind = type(mixing)
    plain = kind.forward is ChannelMixing.forward and kind.inverse is ChannelMixing.inverse
    return plain and is_untouched(mixing)


def _is_plain_convolution(layer: Any) -> bool:
    """Whether it is an `nn.Conv2d` as `Convolution` is one, however its weights are computed."""
    if kind_of(layer) is not nn.Conv2d or layer.padding_mode != "zeros":
        return False
    size = layer.kernel_size[0]
    usual = layer.stride == layer.dilation == (1, 1) and layer.groups == 1
    return usual and layer.kernel_size == (size, size) and layer.padding == (size // 2, size // 2)


def _of_mixing(mixing: ChannelMixing) -> Linear:
    W, W_inverse = mixing.matrix(), mixing.inverse_matrices([mixing])[0]
    return Linear((W, None), (W_inverse, None), float(mixing.log_abs_det()))


def _of_step(actnorm: ActNorm, mixing: ChannelMixing) -> Linear:
    """W (s·(x + b)) = A x + A b with A = W diag(s), and its inverse diag(1/s) W⁻¹ y − b."""
    b, log_scale = actnorm.b.double(), actnorm.log_scale().double()
    A = mixing.matrix().double() * log_scale.exp()
    A_inverse = (-log_scale).exp()[:, None] * mixing.inverse_matrices([mixing])[0]
    log_abs_det = float(mixing.log_abs_det().double() + log_scale.sum())
    return Linear((A, A @ b), (A_inverse, -b), log_abs_det)
