"""Coupling layers: half of the channels decides what happens to the other half."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError
from .base import Bijection, per_sample, sum_per_sample

LOG_BOUND = math.log(2.0)
"""The `bounded` scale lies between exp(−LOG_BOUND) and exp(LOG_BOUND)."""


def _sigmoid(raw: Tensor) -> Tensor:
    return F.logsigmoid(raw + 2.0)


def _bounded(raw: Tensor) -> Tensor:
    return LOG_BOUND * torch.tanh(raw / LOG_BOUND)


def _exp(raw: Tensor) -> Tensor:
    return raw


LOG_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": _sigmoid,
    "bounded": _bounded,
    "exp": _exp,
}
"""log of the coupling's scale as a function of the network's output."""


class Rewound(NamedTuple):
    """A coupling's input, recovered from its output, and the graph from one to the other."""

    x1: Tensor
    x2: Tensor
    y2: Tensor
    log_det: Tensor


class Coupling(Bijection):
    """y1 = x1, y2 = g(x2; h) with h = network(x1): one half of the channels conditions the other.

    With an odd number of channels the first half is the larger one. A subclass says what `g` is.

    Args:
        network: maps (batch, ceil(C/2), height, width) to h.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @abstractmethod
    def change(self, x2: Tensor, h: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return y2 = g(x2; h) and log|det dy2/dx2| in nats."""

    @abstractmethod
    def restore(self, y2: Tensor, h: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return x2 = g⁻¹(y2; h) and log|det dx2/dy2| in nats."""

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return (x1, g(x2; network(x1))) and its log-determinant in nats."""
        x1, x2 = halves(x)
        y2, log_det = self.change(x2, self.network(x1))
        return torch.cat((x1, y2), dim=1), log_det

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return (y1, g⁻¹(y2; network(y1))) and its log-determinant in nats."""
        y1, y2 = halves(y)
        x2, log_det = self.restore(y2, self.network(y1))
        return torch.cat((y1, x2), dim=1), log_det

    def rewind(self, y: Float[Tensor, "batch channels height width"]) -> Rewound:
        """Recover x from y and run forward from it, with a single run of the network."""
        y1, y2 = halves(y)
        with torch.enable_grad():
            x1 = y1.detach().requires_grad_()
            h = self.network(x1)
            x2 = self.restore(y2, h.detach())[0].detach().requires_grad_()
            return Rewound(x1, x2, *self.change(x2, h))

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Initialise the network (where it can be) from the first half of `x`."""
        initialize = getattr(self.network, "initialize", None)
        if initialize is not None:
            initialize(halves(x)[0])
        return self(x)


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
    which keeps the inverse tame, `exp` s = exp(r).

    Args:
        network: maps ceil(C/2) channels to 2·floor(C/2).
        scale: `sigmoid`, `bounded` or `exp`.

    Raises:
        InputError: the scale has another name.
    """

    def __init__(self, network: nn.Module, scale: str = "sigmoid") -> None:
        super().__init__(network)
        if scale not in LOG_SCALES:
            raise InputError(f"Coupling scale {scale!r}: choose one of {', '.join(LOG_SCALES)}.")
        self.scale = scale

    def change(self, x2: Tensor, h: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return (x2 + t)·s and Σ log s in nats."""
        log_scale = self.log_scale(h)
        return (x2 + h[:, 0::2]) * log_scale.exp(), sum_per_sample(log_scale)

    def restore(self, y2: Tensor, h: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return y2/s − t and −Σ log s in nats."""
        log_scale = self.log_scale(h)
        return y2 * (-log_scale).exp() - h[:, 0::2], -sum_per_sample(log_scale)

    def log_scale(self, h: Tensor) -> Tensor:
        """log s, from what the network returned."""
        return LOG_SCALES[self.scale](h[:, 1::2])


def halves(
    x: Float[Tensor, "batch channels height width"],
) -> tuple[Float[Tensor, "batch kept height width"], Float[Tensor, "batch changed height width"]]:
    """The first and the second half of the channels, as views."""
    kept = (x.shape[1] + 1) // 2
    return x[:, :kept], x[:, kept:]
