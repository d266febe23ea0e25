"""A model as constants and plain operations: what its programs for other software are made from.

Everything that follows from weights alone (W, W⁻¹, log-determinants, scaled kernels, edge channels)
is computed once, in float64 where it matters, and stands in the copy as a number. What is left are
convolutions, products and a few functions of one value, which every runtime has.
"""

import copy
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torch.nn.utils.parametrize import remove_parametrizations

from ..bijections import ActNorm, BatchNorm, Bijection, Squeeze
from ..bijections.base import per_sample, pixels
from ..bijections.batchnorm import EPSILON
from ..bijections.exact import has_hooks, is_parametrized, is_untouched, kind_of
from ..bijections.linear import ChannelMixing
from ..errors import InputError
from ..fused.steps import Steps
from ..models.flow import ImageFlow
from ..models.priors import GaussianPrior, TopPrior
from ..nn.convolutions import GatherConv, PointConv, ScaledConv2d, ScatterConv
from ..nn.coupling_network import CouplingNetwork

Precision = Literal["float32", "float16"]


class Convolution(nn.Module):
    """conv2d(x, weight, bias), zero-padded to the size of x; an edge channel is folded into it.

    The edge channel is 1 on the padding and 0 inside. A channel of ones is 0 on the padding and 1
    inside, so that edge weights e are −e on ones, and Σ e in the bias.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: ScaledConv2d) -> None:
        super().__init__()
        scale = layer.scale().double()
        weight, bias = layer.weight.double(), layer.b.double()
        self.has_edge = layer.edge is not None
        if layer.edge is not None:
            edge = layer.edge.double()
            weight = torch.cat((weight, -edge[:, None]), dim=1)
            bias = bias + edge.sum((1, 2))
        dtype = layer.weight.dtype
        self.register_buffer("weight", (weight * scale[:, None, None, None]).to(dtype))
        self.register_buffer("bias", (bias * scale).to(dtype))

    def forward(
        self, x: Float[Tensor, "batch in height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Return the convolution."""
        if self.has_edge:
            x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        weight = self.weight.to(x.dtype)
        return F.conv2d(x, weight, self.bias, padding=weight.shape[2] // 2)


class Network(nn.Sequential):
    """conv 3x3 → ReLU → conv 1x1 → ReLU → conv 3x3."""

    def __init__(self, network: CouplingNetwork) -> None:
        layers = (network.first, network.second, network.last)
        first, second, last = map(Convolution, layers)
        super().__init__(first, nn.ReLU(), second, nn.ReLU(), last)


class Linear(Bijection):
    """y_p = A x_p + c at every pixel p and x_p = A⁻¹ y_p + d, with log|det A| a pixel."""

    def __init__(
        self,
        forward: tuple[Tensor, Tensor | None],
        inverse: tuple[Tensor, Tensor | None],
        log_abs_det: float,
    ) -> None:
        super().__init__()
        for name, (matrix, bias) in (("there", forward), ("back", inverse)):
            self.register_buffer(f"{name}_matrix", matrix[:, :, None, None].contiguous())
            self.register_buffer(f"{name}_bias", bias)
        self.log_abs_det = log_abs_det

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return A x + c and its log-determinant in nats."""
        y = F.conv2d(x, self.there_matrix, self.there_bias)
        return y, per_sample(pixels(x) * self.log_abs_det, x)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return A⁻¹ y + d and its log-determinant in nats."""
        x = F.conv2d(y, self.back_matrix, self.back_bias)
        return x, per_sample(-pixels(y) * self.log_abs_det, y)


class Shuffle(Bijection):
    """`Squeeze`, as PyTorch's pixel unshuffle and shuffle."""

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels*4 height//2 width//2"], Float[Tensor, " batch"]]:
        """Return the squeezed tensor and 0."""
        return F.pixel_unshuffle(x, 2), per_sample(0.0, x)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels//4 height*2 width*2"], Float[Tensor, " batch"]]:
        """Return the unsqueezed tensor and 0."""
        return F.pixel_shuffle(y, 2), per_sample(0.0, y)


class ConstantSteps(Bijection):
    """The steps of a level: a `Linear` and a coupling each."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.linear = nn.ModuleList()
        self.couplings = nn.ModuleList()
        for step in steps:
            self.linear.append(_of_step(step.actnorm, step.permutation))
            self.couplings.append(step.coupling)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return the last step's output and the sum of the log-determinants in nats."""
        total = per_sample(0.0, x)
        for linear, coupling in zip(self.linear, self.couplings, strict=True):
            x, by_linear = linear(x)
            x, by_coupling = coupling(x, context)
            total = total + (by_linear + by_coupling)
        return x, total

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return the first step's input and minus the sum of the log-determinants in nats."""
        total = per_sample(0.0, y)
        steps = list(zip(self.linear, self.couplings, strict=True))
        for linear, coupling in reversed(steps):
            y, by_coupling = coupling.inverse(y, context)
            y, by_linear = linear.inverse(y)
            total = total + (by_linear + by_coupling)
        return y, total


class ConstantTop(GaussianPrior):
    """μ and log σ of the last level: a map, and what each class adds to it."""

    def __init__(self, prior: TopPrior, size: tuple[int, int]) -> None:
        super().__init__()
        dtype = next(prior.parameters(), torch.empty(0)).dtype
        at = torch.zeros(1, 2 * prior.channels, *size, dtype=dtype)
        self.register_buffer("map", at if prior.conv is None else prior.conv(at).contiguous())
        by_class = None
        if prior.classes_map is not None:
            by_class = prior.classes_map(torch.eye(prior.classes, dtype=dtype))
        self.register_buffer("by_class", by_class)

    def forward(
        self, given: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """μ and log σ, for labels (batch,) where there are classes."""
        h = self.map
        if self.by_class is not None:
            h = h + self.by_class.index_select(0, context)[:, :, None, None]
        mean, log_std = h.expand(given.shape[0], -1, -1, -1).chunk(2, dim=1)
        return mean, log_std


class Scaled(Bijection):
    """Batch normalisation by its running averages, y = a·x + b."""

    def __init__(self, norm: BatchNorm) -> None:
        super().__init__()
        std = (norm.var.double() + EPSILON).sqrt()
        self.log_abs_det = -float(std.log().sum())
        wide = {"a": 1 / std, "b": -norm.mean.double() / std, "std": std, "mean": norm.mean}
        for name, value in wide.items():
            self.register_buffer(name, value.to(norm.mean.dtype)[:, None, None])

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return a·x + b and its log-determinant in nats."""
        return x * self.a + self.b, per_sample(pixels(x) * self.log_abs_det, x)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return y·σ + μ and its log-determinant in nats."""
        return y * self.std + self.mean, per_sample(-pixels(y) * self.log_abs_det, y)


@torch.no_grad()
def portable(model: ImageFlow, precision: Precision = "float32") -> ImageFlow:
    """A copy of the model, on the CPU, in eval mode and in float32, in which what follows from
    weights alone is numbers. Parts that are not known here stay as they are.

    Args:
        model: it stays as it is.
        precision: in which the convolutions' weights are kept; they compute in float32, as all
            else, so that the copy is as invertible, and its density as exact, in either.

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
    for part in own.modules():
        if isinstance(part, Convolution) and precision == "float16":
            part.weight = part.weight.half()
    return own


def _replace(module: nn.Module, top: tuple[int, int]) -> None:
    """Put constants in the place of the module's parts, and of their parts."""
    for name, part in module.named_children():
        if is_parametrized(part) and isinstance(part, nn.Conv2d):
            for weight in list(part.parametrizations):
                remove_parametrizations(part, weight)
        made = _constant(part, top)
        setattr(module, name, made)
        _replace(made, top)


def _constant(part: nn.Module, top: tuple[int, int]) -> nn.Module:
    """The part in constants; the part itself, where it is not known."""
    if isinstance(part, Steps) and part._known_steps() is not None:
        return ConstantSteps(part)
    if isinstance(part, ChannelMixing) and _is_only_a_matrix(part):
        return _of_mixing(part)
    if isinstance(part, CouplingNetwork) and not part.has_exact_layers():
        return part
    make = MADE.get(kind_of(part)) if is_untouched(part) else None
    if make is None:
        return part
    return make(part, top) if make is ConstantTop else make(part)


MADE: dict[type[nn.Module], Callable[..., nn.Module]] = {
    BatchNorm: Scaled,
    CouplingNetwork: Network,
    GatherConv: Convolution,
    PointConv: Convolution,
    ScatterConv: Convolution,
    Squeeze: lambda _: Shuffle(),
    TopPrior: ConstantTop,
}
"""What stands for modules of these classes, no subclasses."""


def _is_only_a_matrix(mixing: ChannelMixing) -> bool:
    kind = type(mixing)
    return (
        kind.forward is ChannelMixing.forward
        and kind.inverse is ChannelMixing.inverse
        and is_untouched(mixing)
    )


def _of_mixing(mixing: ChannelMixing) -> Linear:
    W, W_inverse = mixing.matrix(), mixing.inverse_matrix()
    return Linear((W, None), (W_inverse, None), float(mixing.log_abs_det()))


def _of_step(actnorm: ActNorm, mixing: ChannelMixing) -> Linear:
    """W (s·(x + b)) = A x + A b with A = W diag(s), and diag(1/s) W⁻¹ y − b."""
    dtype, b, log_scale = actnorm.b.dtype, actnorm.b.double(), actnorm.log_scale().double()
    A = mixing.matrix().double() * log_scale.exp()
    A_inverse = (-log_scale).exp()[:, None] * mixing.inverse_matrices([mixing])[0].double()
    log_abs_det = mixing.log_abs_det().double() + log_scale.sum()
    return Linear(
        (A.to(dtype), (A @ b).to(dtype)), (A_inverse.to(dtype), -actnorm.b), float(log_abs_det)
    )
