"""A bar on stderr while a run trains."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..progress import bar_with_time_left
from .metrics import RunningMetrics


@contextmanager
def training_bar(visible: bool) -> Iterator[Callable[[RunningMetrics, float], None]]:
    """A bar that is shown the running and the share of the run that is done, after each step."""
    with bar_with_time_left("training", 1.0, visible=visible) as bar:

        def show(running: RunningMetrics, done: float) -> None:
            figures = f"{running.smoothed:.3f} bits/dim · {running.speed:.0f} images/s"
            bar(done, figures=figures)

        yield show
