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
from ..models.config import sides

Operator = Callable[[Tensor], Tensor]
"""From (batch, C, *grid) to (batch, *data), by operations that PyTorch differentiates."""


def identity(x: Tensor) -> Tensor:
    """y = x: only noise was added."""
    return x


@dataclass(frozen=True)
class Mask:
    """y = m·x with m 1 where x was seen and 0 elsewhere.

    Args:
        seen: (*grid) or (C, *grid), true where the field was observed.
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
                f"{tuple(x.shape[2:])} or {tuple(x.shape[1:])}."
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
        kernel = (kernel / kernel.sum())[None, None]
        mode = {"reflect": "reflect", "periodic": "circular", "zero": "constant"}[self.padding]
        for axis in range(2, x.dim()):
            lines = x.movedim(axis, -1)
            padded = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode=mode)
            x = F.conv1d(padded, kernel).reshape(lines.shape).movedim(-1, axis)
        return x


@dataclass(frozen=True)
class Downsample:
    """y = the means of blocks of x that are k values wide on every axis of the grid.

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
            InputError: a side of the field is no multiple of the factor.
        """
        grid = tuple(x.shape[2:])
        if any(side % self.factor for side in grid):
            raise InputError(
                f"A field of {sides(grid)} has no {sides((self.factor,) * len(grid))} blocks: "
                f"give a factor that divides {'both' if len(grid) == 2 else 'every side'}."
            )
        pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(grid)]
        return pool(x, self.factor)


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
