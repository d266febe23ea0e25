"""Which axes of an array are the grid, and which are channels."""

from typing import Any

import numpy as np

from ..errors import InputError
from ..models.config import sides

MOST_CHANNELS = 4
"""With more, or less far along the axis of a series, an axis is likelier one of the grid."""


def with_channels(shape: tuple[int, ...], grid: int | None, what: str) -> tuple[int, ...]:
    """(channels, *grid) of a sample; one channel where the sample has as many axes as the grid.

    Args:
        shape: of a sample.
        grid: axes of the grid; by default 2, but 1 of one axis and 3 of four.
        what: the array, for the message of an error.

    Raises:
        InputError: a sample has no such grid.
    """
    axes = grid or {1: 1, 4: 3}.get(len(shape), 2)
    if len(shape) not in (axes, axes + 1) or 0 in shape:
        raise InputError(
            f"{what} has samples of {sides(shape) or 'no axis'}, which is no grid of {axes} "
            f"{'axis' if axes == 1 else 'axes'}, with or without channels: give (N, H, W) or "
            "(N, C, H, W), floats (N, L) or (N, C, D, H, W), or, with --grid 1 or --grid 3, "
            "(N, C, L) or (N, D, H, W)."
        )
    return shape if len(shape) == axes + 1 else (1, *shape)


def other_grid(shape: tuple[int, ...], grid: int | None, what: str) -> tuple[str, ...]:
    """A note of what else float samples may be, where nobody has said on which grid they are.

    Args:
        shape: of a sample, as it is stored.
        grid: as of `with_channels`.
        what: the array.
    """
    if grid is None and len(shape) == 2 and shape[0] <= MOST_CHANNELS < shape[1]:
        how = f"fields of {sides(shape)}; --grid 1 reads series of {shape[1]}"
    elif grid is None and len(shape) == 3 and shape[0] > MOST_CHANNELS:
        how = f"fields of {sides(shape[1:])} with {shape[0]} channels; --grid 3 reads cubes"
    else:
        return ()
    return (f"{what} is read as {how}.",)


def require_floats(dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> None:
    """Refuse what is neither floats nor an image, (channels, height, width).

    Raises:
        InputError: it is.
    """
    if len(shape) != 3 and dtype.kind != "f":
        raise InputError(
            f"{what} is {dtype} on a grid of {sides(shape[1:])}, and only images are of bytes: "
            "save it as floats."
        )


def end_of(dtype: str) -> str:
    """Where a float's range ends, in words."""
    return f"{dtype} ends at {np.finfo(dtype).max:.1e}".replace("e+", "e")
