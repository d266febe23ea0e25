"""What is said to a person on stderr: bars for what takes long, and remarks."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    track,
)

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


class Show(Protocol):
    """What moves a bar."""

    def __call__(
        self, done: float, title: str | None = None, figures: str = "", *, now: bool = True
    ) -> None:
        """Show how much is done, and whether it was done now or by an earlier start."""


@contextmanager
def bar_with_time_left(title: str, total: float, *, visible: bool) -> Iterator[Show]:
    """A bar for work that says by itself how much is done; it adds the minutes that are left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        task = bar.add_task(title, total=total, figures="")
        initial: list[float] = []

        def show(
            done: float, title: str | None = None, figures: str = "", *, now: bool = True
        ) -> None:
            if now:
                initial[:] = initial or [done]
            rate = (done - initial[0]) / (time.monotonic() - start) if initial else 0.0
            left = [f"{(total - done) / rate / 60:.1f} min left"] if rate > 0 else []
            figures = " · ".join([figures, *left] if figures else left)
            bar.update(task, completed=done, description=title, figures=figures)

        yield show


def remark(line: str) -> None:
    """Tell the user, on stderr."""
    Console(stderr=True).print(printable(line), markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """File names that are not UTF-8, with their bytes escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
