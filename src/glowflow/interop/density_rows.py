"""Rows of numbers as images: their shape, and the units of their values."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


def require_rows(X: Any) -> None:
    """Refuse images that are not rows, with how they become some.

    Raises:
        InputError: X has an image for each of its items.
    """
    shape = getattr(X, "shape", ())
    if len(shape) in (3, 4):
        image = tuple(shape[1:]) if len(shape) == 4 else (1, *shape[1:])
        raise InputError(
            f"X has the shape {tuple(shape)}, and rows are asked for: give X.reshape(len(X), -1), "
            f"with image_shape={image} where these are channels, height and width."
        )


def shape_of(values: int, given: Any) -> tuple[int, int, int]:
    """Of a row with so many values.

    Raises:
        InputError: it is no image of the given shape, or of none.
    """
    if given is None:
        side = math.isqrt(values)
        if side * side != values:
            raise InputError(
                f"The rows of X have {values} values, which are no square grey image: give "
                "image_shape, the channels, height and width of a row."
            )
        return 1, side, side
    sizes = tuple(given) if isinstance(given, (tuple, list, np.ndarray)) else ()
    whole = all(isinstance(size, (int, np.integer)) for size in sizes)
    if len(sizes) != 3 or not whole or min(sizes) < 1 or math.prod(sizes) != values:
        raise InputError(
            f"image_shape is {given}, and the rows of X have {values} values: give channels, "
            "height and width, whose product that is."
        )
    return int(sizes[0]), int(sizes[1]), int(sizes[2])


def levels_of(shape: tuple[int, int, int]) -> int:
    """As many as leave two pixels a side, 1 to 3."""
    _, height, width = shape
    halvings = [n for n in (1, 2, 3) if math.gcd(height, width) % 2**n == 0]
    return max([n for n in halvings if min(height, width) >= 2 * 2**n], default=1)


def moments(X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column; 1 for one that never changes, or changes by what
    rounding does, as of `StandardScaler`.

    Raises:
        InputError: the values are too large or too close for floats.
    """
    with np.errstate(all="ignore"):
        mean, scale = X.mean(0, dtype=np.float64), X.std(0, dtype=np.float64)
        rounding = len(X) * np.finfo(np.float64).eps * np.abs(mean)
    scale = np.where((X.min(0) == X.max(0)) | (scale < rounding), 1.0, scale)
    wrong = ~np.isfinite(mean) | ~np.isfinite(scale) | (scale < np.finfo(np.float64).tiny)
    if wrong.any():
        column = int(wrong.argmax())
        raise InputError(
            f"Column {column} of X has the mean {mean[column]:g} and the standard deviation "
            f"{scale[column]:g}: give values in another unit."
        )
    return mean, scale
