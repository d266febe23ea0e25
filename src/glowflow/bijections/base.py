"""What every invertible map answers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .kept import frozen

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Bijection(nn.Module, ABC):
    """An invertible map y = f(x) with a tractable Jacobian determinant.

    `forward` gives `(y, log|det dy/dx|)` and `inverse` gives `(x, log|det dx/dy|)`. Both take
    tensors whose first axis is the batch; images are (batch, channels, height, width), and fields
    (batch, channels, *grid) with one, two or three axes of the grid.
    The log-determinant is per sample, of shape (batch,), in nats, float32 or better.

    `initialize` is `forward` preceded by the data-dependent initialisation of whatever is inside;
    bijections without one inherit it.

    `context` is what the map is conditioned on; unconditional maps ignore it.

    Inside `with bijection.frozen():` what is computed from weights alone, such as W⁻¹, is computed
    once; see `kept.frozen`.
    """

    @abstractmethod
    def forward(self, x: Any, context: Tensor | None = None) -> tuple[Any, Float[Tensor, " batch"]]:
        """Return y = f(x) and log|det dy/dx| in nats."""

    @abstractmethod
    def inverse(self, y: Any, context: Tensor | None = None) -> tuple[Any, Float[Tensor, " batch"]]:
        """Return x = f⁻¹(y) and log|det dx/dy| in nats."""

    @torch.no_grad()
    def initialize(
        self, x: Any, context: Tensor | None = None
    ) -> tuple[Any, Float[Tensor, " batch"]]:
        """Set data-dependent parameters from the batch `x`, then return `forward(x, context)`."""
        return self(x, context)

    def frozen(self) -> AbstractContextManager[None]:
        """Keep what is computed from weights alone until the block ends; they must not change."""
        return frozen(self)


def without_autocast(call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a method compute in the dtypes of its tensors, whatever `torch.autocast` is in force.

    A flow in half precision is not invertible: latents, log-determinants and matrices keep theirs.
    """

    @wraps(call)
    def wrapper(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        if not torch._C._is_any_autocast_enabled():
            return call(*arguments, **named)
        device = _device_of((*arguments, *named.values()))
        if device is None or not torch.amp.is_autocast_available(device):
            return call(*arguments, **named)
        with torch.autocast(device, enabled=False):
            return call(*arguments, **named)

    return wrapper


def _device_of(arguments: Iterable[Any]) -> str | None:
    for argument in arguments:
        if isinstance(argument, Tensor):
            return argument.device.type
        if isinstance(argument, tuple) and (device := _device_of(argument)):
            return device
    return None


def per_sample(
    value: Float[Tensor, ""] | float, x: Float[Tensor, " batch *shape"]
) -> Float[Tensor, " batch"]:
    """Give every sample of `x` the same log-determinant, float32 or better."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.as_tensor(value, dtype=dtype, device=x.device).expand(x.shape[0])


def sum_per_sample(log_det: Float[Tensor, " batch *shape"]) -> Float[Tensor, " batch"]:
    """Sum over everything but the batch, in float32 or better."""
    dtype = torch.promote_types(log_det.dtype, torch.float32)
    return (
        log_det.sum(tuple(range(1, log_det.dim())), dtype=dtype)
        if log_det.dim() > 1
        else log_det.to(dtype)
    )


def pixels(x: Float[Tensor, "batch channels *grid"]) -> int:
    """Positions that share each channel's parameters: height times width."""
    return math.prod(x.shape[2:])


def wide(per_channel: Float[Tensor, "*batch channels"], x: Tensor) -> Tensor:
    """One value a channel, as it is multiplied with or added to x: (channels, 1, 1) for images."""
    return per_channel[(..., *(None,) * (x.dim() - 2))]


def to_rows(x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch *grid channels"]:
    """A row a pixel, as a view."""
    return x.movedim(1, -1)


def from_rows(rows: Float[Tensor, "batch *grid channels"]) -> Float[Tensor, "batch channels *grid"]:
    """The inverse of `to_rows`."""
    return rows.movedim(-1, 1)
