"""Batch normalisation as a bijection (RealNVP, section 3.7 and appendix E)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from .base import Bijection, per_sample, pixels

EPSILON = 1e-4
"""Added to the variance, as in the official code."""
MOMENTUM = 0.9
"""Share of the old running average that a batch leaves, as in the official code."""


class _Mode(threading.local):
    training: bool | None = None


_MODE = _Mode()


@contextmanager
def by_batches(answer: bool) -> Iterator[None]:
    """Whether batch statistics are taken, until the block ends, whatever a module's mode is.

    In this thread alone: another one may train the model meanwhile.
    """
    before, _MODE.training = _MODE.training, answer
    try:
        yield
    finally:
        _MODE.training = before


class BatchNorm(Bijection):
    """Per-channel y = (x − μ) / √(σ² + ε), log-det −½·h·w·Σ_c log(σ_c² + ε).

    In eval mode μ and σ² are the running averages: constants, and the map is an exact bijection.

    In training mode `forward` takes, with batch statistics over batch and pixels (biased),

        μ = lag·μ_running + (1 − lag)·μ_batch, and σ² likewise,

    sends gradients through the batch's share alone, and then moves the running averages a tenth
    of the way to the batch's; the first batch of all sets them. The log-determinant stated is the
    one above, with μ and σ² taken as constants: not that of the batch as a whole, in which they
    depend on x. So a figure of a training step is no density; one of eval mode is.

    `inverse` takes the running averages in either mode.

    Args:
        channels: number of channels C of the (batch, C, height, width) input.
        lag: 0 for plain batch normalisation; `MOMENTUM` makes μ and σ² the running averages
            themselves, this batch included, which is the paper's form for small batches.

    Source: RealNVP, section 3.7 (log-determinant) and appendix E (lag).
    """

    mean: Tensor
    var: Tensor
    initialized: Tensor

    def __init__(self, channels: int, lag: float = 0.0) -> None:
        super().__init__()
        self.lag = lag
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))
        self.register_buffer("initialized", torch.tensor(False))

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return (x − μ)/√(σ² + ε) and its log-determinant in nats."""
        trains = self.training if _MODE.training is None else _MODE.training
        mean, var = self._of_batch(x) if trains and len(x) else (self.mean, self.var)
        y = (x - _wide(mean)) * _wide((var + EPSILON).rsqrt())
        return y.to(x.dtype), self._log_det(x, var)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return y·√(σ² + ε) + μ and its log-determinant in nats, by the running averages."""
        x = y * _wide((self.var + EPSILON).sqrt()) + _wide(self.mean)
        return x, -self._log_det(y, self.var)

    def extra_repr(self) -> str:
        """Channels and lag, for `print`."""
        return f"{len(self.mean)}, lag={self.lag}"

    def _of_batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and σ² of a training step; the running averages move, but not in a checkpoint's second
        run, which is inside the backward pass."""
        again = torch._C._current_graph_task_id() != -1
        if again and self.lag:
            raise InputError(
                "Batch normalisation with a lag cannot be run again for a checkpoint: its running "
                "averages have moved. Leave the checkpoint out, or set batch_norm_lag to 0."
            )
        var, mean = torch.var_mean(x.to(self.mean.dtype), dim=(0, 2, 3), correction=0)
        used = tuple(
            torch.lerp(running, new, self._share(self.lag))
            for running, new in ((self.mean, mean), (self.var, var))
        )
        if again:
            return used[0], used[1]
        with torch.no_grad():
            self.mean.lerp_(mean, self._share(MOMENTUM))
            self.var.lerp_(var, self._share(MOMENTUM))
            self.initialized.fill_(True)
        return used[0], used[1]

    def _share(self, old: float) -> Float[Tensor, ""]:
        """The batch's share beside `old`, the running averages'; 1 if it is the first batch."""
        return torch.where(self.initialized, 1.0 - old, 1.0).to(self.mean.dtype)

    def _log_det(self, x: Tensor, var: Float[Tensor, " channels"]) -> Float[Tensor, " batch"]:
        return per_sample(-0.5 * pixels(x) * (var + EPSILON).log().sum(), x)


def _wide(per_channel: Float[Tensor, " channels"]) -> Float[Tensor, "channels 1 1"]:
    return per_channel[:, None, None]
