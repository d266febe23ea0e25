"""Coupling layers: half of the channels decides what happens to the other half."""

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError
from .base import Bijection, per_sample, sum_per_sample, without_autocast

LOG_BOUND = math.log(2.0)
"""The `bounded` scale lies between exp(−LOG_BOUND) and exp(LOG_BOUND)."""


def _sigmoid(raw: Tensor) -> Tensor:
    return F.logsigmoid(raw + 2.0)


def _bounded(raw: Tensor) -> Tensor:
    return LOG_BOUND * torch.tanh(raw / LOG_BOUND)


def _exp(raw: Tensor) -> Tensor:
    return raw


def _inverse_sigmoid(raw: Tensor) -> Tensor:
    return -F.logsigmoid(raw + 2.0)


LOG_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": _sigmoid,
    "bounded": _bounded,
    "exp": _exp,
    "inverse_sigmoid": _inverse_sigmoid,
}
"""log of the coupling's scale as a function of the network's output."""


class Coupling(Bijection):
    """y1 = x1, y2 = g(x2; h) with h = network(x1): one half of the channels conditions the other.

    With an odd number of channels the first half is the larger one. A subclass says what `g` is.

    Args:
        network: maps (batch, ceil(C/2), *grid) to h; one whose `forward` has a parameter
            `context` is given that too.
    """

    outputs: ClassVar[int] = 1
    """Channels that the network gives for each channel that is changed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @classmethod
    def of(cls, channels: int, network: Callable[[int, int], nn.Module], scale: str) -> Self:
        """A coupling of this many channels, with the network that maps one half to `outputs`.

        Args:
            channels: C.
            network: called with the channels it takes and the channels it gives.
            scale: what the configuration calls the scale, for those that have one.
        """
        changed = channels // 2
        return cls(network(channels - changed, cls.outputs * changed))

    @abstractmethod
    def change(self, x2: Tensor, h: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return y2 = g(x2; h) and log|det dy2/dx2| in nats."""

    @abstractmethod
    def restore(self, y2: Tensor, h: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return x2 = g⁻¹(y2; h) and log|det dx2/dy2| in nats."""

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return (x1, g(x2; network(x1))) and its log-determinant in nats."""
        x1, x2 = halves(x)
        y2, log_det = self.change(x2, conditioned(self.network, x1, context))
        return torch.cat((x1, y2), dim=1), log_det

    @without_autocast
    def inverse(
        self, y: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return (y1, g⁻¹(y2; network(y1))) and its log-determinant in nats."""
        y1, y2 = halves(y)
        x2, log_det = self.restore(y2, conditioned(self.network, y1, context))
        return torch.cat((y1, x2), dim=1), log_det

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Initialise the network (where it can be) from the first half of `x`."""
        initialize = getattr(self.network, "initialize", None)
        if initialize is not None:
            given = {"context": context} if _has_context(initialize) else {}
            initialize(halves(x)[0], **given)
        return self(x, context)


class AdditiveCoupling(Coupling):
    """y1 = x1, y2 = x2 + t with t = network(x1), log-det 0 (paper, table 1 with s = 1).

    Args:
        network: maps ceil(C/2) channels to floor(C/2).
    """

    def change(self, x2: Tensor, h: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return x2 + t and 0."""
        return x2 + h, per_sample(0.0, x2)

    def restore(self, y2: Tensor, h: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return y2 − t and 0."""
        return y2 - h, per_sample(0.0, y2)


class AffineCoupling(Coupling):
    """y1 = x1, y2 = (x2 + t)·s, log-det Σ log s (paper, table 1; shift before scale as official).

    The network's even channels are t, its odd channels r; the scale s is a named choice:
    `sigmoid` s = sigmoid(r + 2) (official), `bounded` s = 2^tanh(r / log 2) between 1/2 and 2,
    which keeps the inverse tame, `exp` s = exp(r), `inverse_sigmoid` s = 1/sigmoid(r + 2).

    Args:
        network: maps ceil(C/2) channels to 2·floor(C/2).
        scale: `sigmoid`, `bounded`, `exp` or `inverse_sigmoid`.

    Raises:
        InputError: the scale has another name.
    """

    outputs = 2

    def __init__(self, network: nn.Module, scale: str = "sigmoid") -> None:
        super().__init__(network)
        if scale not in LOG_SCALES:
            raise InputError(f"Coupling scale {scale!r}: choose one of {', '.join(LOG_SCALES)}.")
        self.scale = scale

    @classmethod
    def of(cls, channels: int, network: Callable[[int, int], nn.Module], scale: str) -> Self:
        """A coupling of this many channels, with this scale."""
        changed = channels // 2
        return cls(network(channels - changed, cls.outputs * changed), scale)

    def change(self, x2: Tensor, h: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return (x2 + t)·s and Σ log s in nats."""
        log_scale = self.log_scale(h)
        return (x2 + h[:, 0::2]) * log_scale.exp(), sum_per_sample(log_scale)

    def restore(self, y2: Tensor, h: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return y2/s − t and −Σ log s in nats."""
        log_scale = self.log_scale(h)
        return y2 * (-log_scale).exp() - h[:, 0::2], -sum_per_sample(log_scale)

    def extra_repr(self) -> str:
        """The kind of scale, for `print`."""
        return f"scale={self.scale!r}"

    def log_scale(self, h: Tensor) -> Tensor:
        """log s, from what the network returned."""
        return LOG_SCALES[self.scale](h[:, 1::2])


def conditioned(network: nn.Module, x: Tensor, context: Tensor | None) -> Tensor:
    """network(x), or network(x, context) where there is a context and the network asks for it."""
    if context is None or not asks_for_context(network):
        h: Tensor = network(x)
        return h
    h = network(x, context=context)
    return h


def asks_for_context(network: nn.Module) -> bool:
    """Whether the network's `forward` has a parameter `context`, or wraps one that has."""
    if _has_context(network.forward):
        return True
    return _takes_whatever(network.forward) and any(map(asks_for_context, network.children()))


def _has_context(forward: Callable[..., Any]) -> bool:
    return any(parameter.name == "context" for parameter in _parameters(forward))


def _takes_whatever(forward: Callable[..., Any]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(forward))


def _parameters(forward: Callable[..., Any]) -> list[inspect.Parameter]:
    return _parameters_of(getattr(forward, "__func__", forward))


@lru_cache(maxsize=256)
def _parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:  # a compiled function's
        return []


def halves(
    x: Float[Tensor, "batch channels *grid"],
) -> tuple[Float[Tensor, "batch kept *grid"], Float[Tensor, "batch changed *grid"]]:
    """The first and the second half of the channels, as views."""
    kept = (x.shape[1] + 1) // 2
    return x[:, :kept], x[:, kept:]
