"""A model as constants and plain operations: what its programs for other software are made from.

Everything that follows from weights alone (W, W⁻¹, log-determinants, scaled kernels, edge channels)
is computed once, in float64, and stands in the copy as a number. What is left are convolutions,
products and a few functions of one value, which every runtime has.
"""

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from ..bijections import AffineCoupling, BatchNorm, Interlaced, Marginals, Squeeze
from ..bijections.exact import has_hooks, is_untouched, kind_of
from ..bijections.linear import ChannelMixing
from ..errors import InputError
from ..fused.steps import Steps
from ..models.config import picture_shape
from ..models.flow import ImageFlow
from ..models.priors import TopPrior
from ..nn.convolutions import GatherConv, PointConv, ScatterConv
from ..nn.coupling_network import CouplingNetwork
from .constants import (
    Affine,
    ConstantSteps,
    ConstantTop,
    Convolution,
    Linear,
    Scaled,
    Shuffle,
    linear_of,
    network_of,
)
from .quantiles import PortableMarginals

Precision = Literal["float32", "float16"]


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
        InputError: the model is not initialised, is of no images, has the first map `interlaced`,
            or has hooks, which no program calls.
    """
    picture_shape(model.config.image_shape)
    if not model.initialized:
        raise InputError(
            "This model has seen no images: train it, or initialise it, before it is exported."
        )
    for name, module in model.named_modules():
        if isinstance(module, Interlaced):
            raise InputError(
                "The first map `interlaced` cannot be exported: other software cannot search its "
                "mixtures. Export a model with another first map, or use this one in Python."
            )
        if has_hooks(module):
            raise InputError(
                f"{name or 'The model'} has hooks, which an exported program does not call: "
                "remove them, and make weights that they compute permanent (prune.remove)."
            )
    own = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    _, height, width = own.latent_shapes[-1]
    _replace(own, (height, width))
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
        return linear_of(part)
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
