"""Coupling layers: half of the channels decides what happens to the other half."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError
from .base import Bijection, per_sample

BOUND = 2.0
"""The `bounded` scale lies between 1 / BOUND and BOUND."""


def _sigmoid(raw: Tensor) -> Tensor:
    return F.logsigmoid(raw + 2.0)


def _bounded(raw: Tensor) -> Tensor:
    limit = torch.log(torch.as_tensor(BOUND, dtype=raw.dtype, device=raw.device))
    return limit * torch.tanh(raw / limit)


def _exp(raw: Tensor) -> Tensor:
    return raw


LOG_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": _sigmoid,
    "bounded": _bounded,
    "exp": _exp,
}
"""log of the coupling's scale as a function of the network's output."""


class Coupling(Bijection):
    """y1 = x1, y2 = g(x2; network(x1)): the first half of the channels conditions the second.

    With an odd number of channels the first half is the larger one.

    Args:
        network: maps (batch, ceil(C/2), height, width) to what `g` needs.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

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

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return (x1, x2 + t) and 0."""
        x1, x2 = halves(x)
        return torch.cat((x1, x2 + self.network(x1)), dim=1), per_sample(0.0, x)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return (y1, y2 − t) and 0."""
        y1, y2 = halves(y)
        return torch.cat((y1, y2 - self.network(y1)), dim=1), per_sample(0.0, y)


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

    def shift_and_log_scale(
        self, conditioning: Float[Tensor, "batch kept height width"]
    ) -> tuple[
        Float[Tensor, "batch changed height width"], Float[Tensor, "batch changed height width"]
    ]:
        """t and log s from the half that stays."""
        h = self.network(conditioning)
        return h[:, 0::2], LOG_SCALES[self.scale](h[:, 1::2])

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return (x1, (x2 + t)·s) and Σ log s in nats."""
        x1, x2 = halves(x)
        shift, log_scale = self.shift_and_log_scale(x1)
        y2 = (x2 + shift) * log_scale.exp()
        return torch.cat((x1, y2), dim=1), log_scale.flatten(1).sum(1)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return (y1, y2/s − t) and −Σ log s in nats."""
        y1, y2 = halves(y)
        shift, log_scale = self.shift_and_log_scale(y1)
        x2 = y2 * (-log_scale).exp() - shift
        return torch.cat((y1, x2), dim=1), -log_scale.flatten(1).sum(1)


def halves(
    x: Float[Tensor, "batch channels height width"],
) -> tuple[Float[Tensor, "batch kept height width"], Float[Tensor, "batch changed height width"]]:
    """The first and the second half of the channels, as views."""
    kept = (x.shape[1] + 1) // 2
    return x[:, :kept], x[:, kept:]
