"""How the parts of PyTorch ports become those of the official form, with the same function.

All in float64. Each gives weights by their names within the part; `under` puts parts together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..bijections.actnorm import LOG_SCALE_FACTOR
from ..errors import CheckpointError
from .checkpoint import Checkpoint

State = dict[str, Tensor]


def under(**parts: State) -> State:
    """The weights of parts by their names in the whole: `first.weight` is `weight` of `first`."""
    return {f"{part}.{name}": w for part, state in parts.items() for name, w in state.items()}


def step(actnorm: State, permutation: State, network: State) -> State:
    """Actnorm, 1x1 convolution, and a coupling with this network."""
    return under(actnorm=actnorm, permutation=permutation, coupling=under(network=network))


def level(steps: Sequence[State], split: State) -> State:
    """K steps, and the split or, at the last level, the top."""
    numbered = {str(number): state for number, state in enumerate(steps)}
    return under(steps=under(**numbered), split=split)


def model(levels: Sequence[State]) -> State:
    """All levels."""
    return under(levels=under(**{str(number): state for number, state in enumerate(levels)}))


def actnorm(b: Tensor, log_scale: Tensor) -> State:
    """y = (x + b)·exp(log_scale)."""
    return {
        "b": b.flatten(),
        "logs": log_scale.flatten() / LOG_SCALE_FACTOR,
        "initialized": torch.tensor(True),
    }


def hidden(weight: Tensor, b: Tensor, log_scale: Tensor | None = None) -> State:
    """y = (W x + b)·exp(log_scale), zero-padded: a convolution and its actnorm, or its bias."""
    flat = b.flatten()
    scale = torch.zeros_like(flat) if log_scale is None else log_scale
    return {"weight": weight, **_edge(weight, 0.0), **actnorm(flat, scale)}


def zero_conv(weight: Tensor, b: Tensor, logs: Tensor, padding: float = 0.0) -> State:
    """y = (W x + b)·exp(3·logs), x padded with `padding`.

    The edge channel, 1 on the padding and 0 inside, gets padding·Σ_c W_c.
    """
    return {"weight": weight, **_edge(weight, padding), "b": b.flatten(), "logs": logs.flatten()}


def zero_linear(weight: Tensor, b: Tensor, logs: Tensor) -> State:
    """y = (W x + b)·exp(3·logs) of the class, or of the mean over the pixels."""
    return {"weight": weight, "b": b.flatten(), "logs": logs.flatten()}


def no_classifier(classes: int, channels: int) -> State:
    """Of a model that has none: its logits are 0 until it is trained on."""
    zeros = torch.zeros(classes, dtype=torch.float64)
    return under(classifier=zero_linear(zeros.new_zeros(classes, channels), zeros, zeros.clone()))


def network(first: State, second: State, last: State) -> State:
    """conv 3x3 → actnorm → ReLU → conv 1x1 → actnorm → ReLU → zero conv 3x3."""
    return under(first=first, second=second, last=last)


def crossed(conv: State, even: Tensor, odd: Tensor) -> State:
    """A convolution whose even outputs are the outputs `even` of `conv`, its odd ones `odd`."""
    order = torch.stack((even, odd), dim=1).flatten()
    return {name: weight[order] for name, weight in conv.items()}


def chunks_crossed(conv: State, first: str) -> State:
    """A convolution that gave two chunks, of which the `first` becomes the even or odd outputs."""
    low, high = torch.arange(len(conv["b"])).chunk(2)
    return crossed(conv, low, high) if first == "even" else crossed(conv, high, low)


def negated(conv: State, outputs: slice) -> State:
    """A convolution with some outputs of the other sign."""
    sign = torch.ones_like(conv["b"])
    sign[outputs] = -1.0
    signed = {name: weight for name, weight in conv.items() if name in ("weight", "edge", "b")}
    return conv | {n: w * sign.view(-1, *[1] * (w.dim() - 1)) for n, w in signed.items()}


def factored(
    P: Tensor, L: Tensor, U: Tensor, sign_s: Tensor, log_s: Tensor, sign_x: Tensor | None = None
) -> State:
    """W = P L (U + diag(s)) diag(sign_x), of L and U what is below and above the diagonal.

    Args:
        sign_x: signs of the channels of x, folded into U and s.
    """
    channels = len(P)
    below = torch.tril_indices(channels, channels, -1)
    above = torch.triu_indices(channels, channels, 1)
    signs = torch.ones_like(log_s) if sign_x is None else sign_x.flatten()
    return {
        "lower": L[below[0], below[1]],
        "upper": (U * signs)[above[0], above[1]],
        "log_s": log_s,
        "sign_s": sign_s * signs,
        "rows": P.argmax(dim=1),
    }


def plain(W: Tensor, sign_x: Tensor | None = None) -> State:
    """W diag(sign_x)."""
    W = W.flatten(1)
    return {"weight": W if sign_x is None else W * sign_x.flatten()}


def multiplied(lu: State) -> State:
    """The matrix W of a factored one: where steps of both kinds meet, all become plain."""
    channels = len(lu["log_s"])
    L, U = torch.eye(channels).double(), torch.diag(lu["sign_s"] * lu["log_s"].exp())
    below = torch.tril_indices(channels, channels, -1)
    above = torch.triu_indices(channels, channels, 1)
    L[below[0], below[1]], U[above[0], above[1]] = lu["lower"], lu["upper"]
    return {"weight": (L @ U)[lu["rows"]]}


def check_factors(checkpoint: Checkpoint, P: str, sign_s: str) -> None:
    """Refuse fixed factors that are not a permutation and signs.

    Args:
        checkpoint: the weights.
        P: name of P.
        sign_s: name of the signs of s.

    Raises:
        CheckpointError: they are not.
    """
    matrix, signs = checkpoint.weights[P], checkpoint.weights[sign_s]
    checkpoint.require(is_permutation(matrix), P, "is no permutation")
    checkpoint.require((signs.abs() == 1).all(), sign_s, "has other values than 1 and -1")


def is_permutation(P: Tensor) -> bool:
    """Whether a matrix has a 1 in each row and column, and zeros elsewhere."""
    ones = P == 1
    once = (ones.sum(0) == 1).all() and (ones.sum(1) == 1).all()
    return bool(once and (ones | (P == 0)).all())


def check_invertible(checkpoint: Checkpoint, W: str) -> None:
    """Refuse a 1x1 convolution that has no inverse.

    Raises:
        CheckpointError: it has none.
    """
    matrix = checkpoint.weights[W].double().flatten(1)
    log_det = torch.linalg.slogdet(matrix).logabsdet
    checkpoint.require(torch.isfinite(log_det), W, "has no inverse")


def brightened(state: State, black: float) -> State:
    """The weights of a model to whose input black is −½, from one to which it is `black`.

    The first actnorm's b takes the difference: x' + b' = x + b with x' = x − black − ½.
    """
    name = "levels.0.steps.0.actnorm.b"
    return state | {name: state[name] + (black + 0.5)}


def finished(state: State, dtype: torch.dtype, source: str) -> State:
    """The weights in a dtype, that of the file or the one asked for.

    Raises:
        CheckpointError: one is out of the dtype's range.
    """
    cast = {
        name: (weight.to(dtype) if weight.is_floating_point() else weight).contiguous()
        for name, weight in state.items()
    }
    for name, weight in cast.items():
        if not torch.isfinite(weight).all():
            raise CheckpointError(
                f"{source} has weights from which {name} would be infinite in {dtype}: use a "
                "checkpoint from before the training went wrong."
            )
    return cast


def _edge(weight: Tensor, padding: float) -> State:
    if weight.shape[-1] == 1:
        return {}
    return {"edge": padding * weight.sum(dim=1)}
