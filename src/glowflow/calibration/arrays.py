"""Truths and draws as the checks take them: finite, of shapes that go together."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Values = NDArray[np.float64]
AT_ONCE = 2**24
"""Values that are held in float64 at once."""


def require_pairs(truths: NDArray[Any], draws: NDArray[Any], of: str = "samples") -> None:
    """Refuse what is not one truth (N, *event) beside S draws of it (N, S, *event).

    Raises:
        InputError: the shapes do not go together, or there is nothing.
    """
    if truths.ndim < 1 or draws.ndim != truths.ndim + 1 or draws.shape[:1] != truths.shape[:1]:
        raise InputError(
            f"The truths are {truths.shape} and the {of} {draws.shape}: give (N, …) and (N, S, …), "
            "S draws for each truth."
        )
    if draws.shape[2:] != truths.shape[1:]:
        raise InputError(
            f"A truth is {truths.shape[1:]} and one of the {of} is {draws.shape[2:]}: they must be "
            "of one shape."
        )
    if 0 in draws.shape:
        raise InputError(f"The {of} are {draws.shape}: there is nothing to check.")


def finite(values: NDArray[Any], what: str, first: int = 0) -> Values:
    """The values in float64.

    Args:
        values: (N, …), of which `first` is the number of the first.

    Raises:
        InputError: they are no numbers, or one is not finite; the message has its place.
    """
    if values.dtype.kind not in "fiub":
        raise InputError(f"The {what} are {values.dtype}: give numbers.")
    wide = np.asarray(values, dtype=np.float64)
    good = np.isfinite(wide)
    if not good.all():
        place = np.argwhere(~good)[0]
        place[0] += first
        raise InputError(
            f"The {what} have a value that is not finite at {tuple(map(int, place))}: leave it "
            "out, or mask it."
        )
    return wide


def in_parts(truths: NDArray[Any], draws: NDArray[Any]) -> Iterator[tuple[slice, Values, Values]]:
    """The pairs as (n, D) and (n, S, D), some at a time, so that arrays on the disk may be large.

    Raises:
        InputError: a value is not finite.
    """
    each = int(np.prod(draws.shape[1:]))
    step = max(1, AT_ONCE // each)
    for start in range(0, len(truths), step):
        part = slice(start, start + step)
        some = finite(truths[part], "truths", start)
        theirs = finite(draws[part], "samples", start)
        yield part, some.reshape(len(some), -1), theirs.reshape(*theirs.shape[:2], -1)


def ranks_among(
    truth: Values, draws: Values, generator: np.random.Generator, axis: int = 1
) -> NDArray[np.int64]:
    """How many draws lie below each truth, 0 … S; ties are broken at random.

    Args:
        truth: the shape of `draws` without `axis`.
        draws: S of them along `axis`.
    """
    beside = np.expand_dims(truth, axis)
    below, equal = (draws < beside).sum(axis), (draws == beside).sum(axis)
    ranks = below.astype(np.int64)
    if equal.any():
        ranks += generator.integers(0, equal + 1)
    return ranks
