"""Bars on the terminal for what takes long, on stderr."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def with_bar(
    items: Iterable[Item], title: str, *, visible: bool, count: int | None = None
) -> Iterable[Item]:
    """The items one by one, with a bar that says how many are done; `count` where they cannot."""
    return track(items, title, total=count, disable=not visible, console=Console(stderr=True))


def in_batches(
    indices: NDArray[np.int64], size: int, title: str, *, visible: bool
) -> Iterator[NDArray[np.int64]]:
    """`size` of the indices at once, with a bar."""
    for start in with_bar(range(0, len(indices), size), title, visible=visible):
        yield indices[start : start + size]
