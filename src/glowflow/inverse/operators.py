"""What was done to a field before it was observed: maps from x to y that can be differentiated."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

Operator = Callable[[Tensor], Tensor]
"""From (batch, C, H, W) to (batch, *data), by operations that PyTorch differentiates."""


def identity(x: Tensor) -> Tensor:
    """y = x: only noise was added."""
    return x


@dataclass(frozen=True)
class Mask:
    """y = m·x with m 1 where x was seen and 0 elsewhere.

    Args:
        seen: (H, W) or (C, H, W), true where the field was observed.
    """

    seen: Tensor

    def __post_init__(self) -> None:
        """Refuse a mask that shows nothing."""
        if not bool(self.seen.any()):
            raise InputError("The mask shows nothing: mark what was seen.")

    def __call__(self, x: Tensor) -> Tensor:
        """Return what was seen, zeros elsewhere.

        Raises:
            InputError: the mask is of another shape than the field.
        """
        if self.seen.shape not in (x.shape[1:], x.shape[2:]):
            raise InputError(
                f"The mask is {tuple(self.seen.shape)} and a field {tuple(x.shape[1:])}: give "
                "(H, W) or (C, H, W)."
            )
        return x * self.seen.to(x)


@dataclass(frozen=True)
class Blur:
    """y = g ∗ x with a Gaussian g of a width of `std` pixels, cut at four of them.

    Args:
        std: standard deviation of g in pixels.
        padding: what is taken to lie outside of the field, `reflect`, `periodic` or `zero`.
    """

    std: float
    padding: str = "reflect"

    def __post_init__(self) -> None:
        """Refuse what is no blur."""
        if not (self.std > 0 and math.isfinite(self.std)):
            raise InputError(f"The blur is {self.std} pixels wide: give more than 0.")
        if self.padding not in ("reflect", "periodic", "zero"):
            raise InputError(f"The padding is {self.padding!r}: choose reflect, periodic or zero.")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the blurred field.

        Raises:
            InputError: the field is smaller than the blur reaches.
        """
        reach = math.ceil(4 * self.std)
        if self.padding != "zero" and reach >= min(x.shape[2:]):
            raise InputError(
                f"A blur of {self.std} pixels reaches {reach} pixels and the field is "
                f"{tuple(x.shape[2:])}: give a narrower one, or padding zero."
            )
        steps = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-0.5 * (steps / self.std) ** 2)
        kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
        mode = {"reflect": "reflect", "periodic": "circular", "zero": "constant"}[self.padding]
        x = F.pad(x, (reach,) * 4, mode=mode)
        along = F.conv2d(x, kernel, groups=x.shape[1])
        return F.conv2d(along, kernel.mT, groups=x.shape[1])


@dataclass(frozen=True)
class Downsample:
    """y = the means of k×k blocks of x.

    Args:
        factor: k.
    """

    factor: int

    def __post_init__(self) -> None:
        """Refuse what is no factor."""
        if self.factor < 1:
            raise InputError(f"The factor is {self.factor}: give 1 or more.")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the means.

        Raises:
            InputError: the field's height or width is no multiple of the factor.
        """
        if x.shape[2] % self.factor or x.shape[3] % self.factor:
            raise InputError(
                f"A field of {x.shape[2]}x{x.shape[3]} has no {self.factor}x{self.factor} blocks: "
                "give a factor that divides both."
            )
        return F.avg_pool2d(x, self.factor)


def own_operator(name: str) -> Operator:
    """The function that MODULE:FUNCTION names; the module is looked for where Python is run too.

    Raises:
        InputError: there is no such function.
    """
    module, colon, function = name.partition(":")
    if not colon or not module or not function:
        raise InputError(
            f"There is no operator {name!r}: choose noise, mask, blur or downsample, or give "
            "MODULE:FUNCTION."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = getattr(import_module(module), function)
    except Exception as error:  # whatever the user's module does
        raise InputError(
            f"Cannot import the operator {name} ({type(error).__name__}, {error}): give "
            "MODULE:FUNCTION."
        ) from error
    if not callable(found):
        raise InputError(f"{name} is no function: give one of a batch of fields.")
    operator: Operator = found
    return operator
