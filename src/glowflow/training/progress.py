"""A bar on stderr while a run trains."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..models.likelihood import name_of_data, unit_of
from ..progress import bar_with_time_left
from .metrics import RunningMetrics


@contextmanager
def training_bar(
    visible: bool, bits: int | None = 8
) -> Iterator[Callable[[RunningMetrics, float], None]]:
    """A bar that is shown the running and the share of the run that is done, after each step.

    Args:
        visible: whether it is shown.
        bits: of the data's bytes; None for float data, whose figures are in nats.
    """
    (unit, scale), name = unit_of(bits), name_of_data(bits)
    with bar_with_time_left("training", 1.0, visible=visible) as bar:

        def show(running: RunningMetrics, done: float) -> None:
            value = scale * (running.smoothed or 0.0)
            figures = f"{value:.3f} {unit} · {running.speed:.0f} {name}/s"
            bar(done, figures=figures)

        yield show
