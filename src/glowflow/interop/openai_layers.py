"""The official variables layer by layer, and the weights that they are here.

Kernels are HWIO, with the border mask as the last input channel of 3x3 ones; a 1x1 convolution acts
as z·W on channels-last images, so that its matrix here is Wᵀ.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..bijections.linear import Invertible1x1Conv, Permutation
from ..models.config import GlowConfig, picture_shape
from .mapping import is_permutation, no_classifier

KINDS = {
    "plain": ("invconv/W",),
    "lu": ("invconv/P", "invconv/L", "invconv/sign_S", "invconv/log_S", "invconv/U"),
    "shuffle": ("shuffle/indices", "shuffle/indices_inverse"),
}
"""Variables of a step's permutation; reversing the channels has none."""


@dataclass(frozen=True)
class Layer:
    """Variables that belong together, and what they are here."""

    shapes: dict[str, tuple[int, ...]]
    """By name; those of vectors are (n,), and have axes of length 1 before it in the file."""
    ours: Callable[..., dict[str, Tensor]]
    """From the variables, in this order, to weights by name."""


class BadLayerError(Exception):
    """What is wrong with variables, without their name."""


def layers_of(config: GlowConfig, with_classifier: bool) -> Iterator[Layer]:
    """Every variable of a model, level by level."""
    channels = 4 * picture_shape(config.image_shape)[0]
    for level in range(config.levels):
        for step in range(config.steps):
            ours, theirs = f"levels.{level}.steps.{step}", f"model/{level}/{step}"
            yield from _step(ours, theirs, channels, config)
        if level < config.levels - 1:
            ours, theirs = f"levels.{level}.split.prior.conv", f"model/pool{level}/conv"
            yield _zero_conv(ours, theirs, channels // 2, channels)
            channels *= 2
    top = f"levels.{config.levels - 1}.split"
    if config.learn_top:
        yield _zero_conv(f"{top}.prior.conv", "model/prior/p", 2 * channels, 2 * channels)
    if config.classes:
        ours, theirs = f"{top}.prior.classes_map", "model/prior/y_emb"
        yield _zero_linear(ours, theirs, config.classes, 2 * channels)
        if with_classifier:
            yield _zero_linear(f"{top}.classifier", "model/classifier", channels, config.classes)
        else:
            yield Layer({}, lambda: _of(top, no_classifier(config.classes, channels)))


def _step(ours: str, theirs: str, channels: int, config: GlowConfig) -> Iterator[Layer]:
    kept, hidden = channels // 2, config.hidden_channels
    out = channels if config.coupling == "affine" else kept
    network = f"{ours}.coupling.network"
    yield _normalised(f"{ours}.actnorm", theirs, channels)
    yield _permutation(f"{ours}.permutation", theirs, channels, config.permutation)
    for layer, name, kernel in (
        ("first", "l_1", (3, 3, kept + 1, hidden)),
        ("second", "l_2", (1, 1, hidden, hidden)),
    ):
        yield Layer({f"{theirs}/f1/{name}/W": kernel}, _kernel_of(f"{network}.{layer}"))
        yield _normalised(f"{network}.{layer}", f"{theirs}/f1/{name}", hidden)
    yield _zero_conv(f"{network}.last", f"{theirs}/f1/l_last", hidden, out)


def _normalised(ours: str, theirs: str, channels: int) -> Layer:
    """y = (x + b)·exp(3·logs), which has seen its first batch."""
    return Layer(
        {f"{theirs}/actnorm_center/b": (channels,), f"{theirs}/actnorm_scale/logs": (channels,)},
        lambda b, logs: {
            f"{ours}.b": b,
            f"{ours}.logs": logs,
            f"{ours}.initialized": torch.tensor(True),
        },
    )


def _zero_conv(ours: str, theirs: str, channels_in: int, channels_out: int) -> Layer:
    kernel = _kernel_of(ours)
    return Layer(
        {
            f"{theirs}/W": (3, 3, channels_in + 1, channels_out),
            f"{theirs}/b": (channels_out,),
            f"{theirs}/logs": (channels_out,),
        },
        lambda W, b, logs: {**kernel(W), f"{ours}.b": b, f"{ours}.logs": logs},
    )


def _zero_linear(ours: str, theirs: str, features_in: int, features_out: int) -> Layer:
    return Layer(
        {
            f"{theirs}/W": (features_in, features_out),
            f"{theirs}/b": (features_out,),
            f"{theirs}/logs": (features_out,),
        },
        lambda W, b, logs: {
            f"{ours}.weight": W.T.contiguous(),
            f"{ours}.b": b,
            f"{ours}.logs": logs,
        },
    )


def _kernel_of(ours: str) -> Callable[[Tensor], dict[str, Tensor]]:
    """A kernel HWIO as OIHW, the mask's channel of a 3x3 one by itself."""

    def split(W: Tensor) -> dict[str, Tensor]:
        kernel = W.permute(3, 2, 0, 1)
        if W.shape[0] == 1:
            return {f"{ours}.weight": kernel.contiguous()}
        return {
            f"{ours}.weight": kernel[:, :-1].contiguous(),
            f"{ours}.edge": kernel[:, -1].contiguous(),
        }

    return split


def _permutation(ours: str, theirs: str, channels: int, kind: str) -> Layer:
    names = [f"{theirs}/{name}" for name in KINDS.get(kind, ())]
    square, vector = (channels, channels), (channels,)
    match kind:
        case "plain":
            return Layer(
                dict.fromkeys(names, square),
                lambda W: {f"{ours}.weight": _invertible(W).T.contiguous()},
            )
        case "lu":
            shapes = (square, square, vector, vector, square)
            return Layer(
                dict(zip(names, shapes, strict=True)),
                lambda *factors: _of(ours, _factored(*factors)),
            )
        case "shuffle":
            return Layer(
                dict.fromkeys(names, vector),
                lambda order, back: {f"{ours}.order": _checked_order(order, back)},
            )
    return Layer({}, lambda: _of(ours, Permutation.reverse(channels).state_dict()))


def _of(ours: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{ours}.{name}": weight for name, weight in state.items()}


def _factored(P: Tensor, L: Tensor, sign_s: Tensor, log_s: Tensor, U: Tensor) -> dict[str, Tensor]:
    """Factors of Wᵀ, in float64, from those of W = P (tril(L, −1) + I)(triu(U, 1) + diag(s))."""
    P, L, U = P.double(), L.double(), U.double()
    if not is_permutation(P):
        raise BadLayerError("has a P that is no permutation")
    if not (sign_s.abs() == 1).all():
        raise BadLayerError("has a sign_S with other values than 1 and -1")
    eye = torch.eye(len(P), dtype=torch.float64)
    s = sign_s.double() * log_s.double().exp()
    W = _invertible(P @ (L.tril(-1) + eye) @ (U.triu(1) + torch.diag(s)))
    mixing = Invertible1x1Conv(len(W)).double()
    mixing.set_matrix(W.T)
    return mixing.state_dict()


def _invertible(W: Tensor) -> Tensor:
    if not torch.linalg.slogdet(W.double()).logabsdet.isfinite():
        raise BadLayerError("has a matrix without inverse")
    return W


def _checked_order(order: Tensor, back: Tensor) -> Tensor:
    order, back = order.long(), back.long()
    ascending = torch.arange(len(order))
    if not torch.equal(order.sort().values, ascending) or not torch.equal(order.argsort(), back):
        raise BadLayerError("is no permutation with its inverse")
    return order
