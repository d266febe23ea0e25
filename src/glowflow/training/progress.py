"""A bar on stderr while a run trains."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from .metrics import RunningMetrics


@contextmanager
def training_bar(visible: bool) -> Iterator[Callable[[RunningMetrics, float], None]]:
    """A bar that is shown the running and the share of the run that is done, after each step."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        task = bar.add_task("training", total=1.0, figures="")
        initial: list[float] = []

        def show(running: RunningMetrics, done: float) -> None:
            rate = (done - initial[0]) / (time.monotonic() - start) if initial else 0.0
            initial[:] = initial or [done]
            left = f"{(1 - done) / rate / 60:.1f} min left" if rate > 0 else ""
            figures = f"{running.smoothed:.3f} bits/dim · {running.speed:.0f} images/s · {left}"
            bar.update(task, completed=done, figures=figures)

        yield show
