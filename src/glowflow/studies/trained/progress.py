"""One bar over all trials of a study."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .study import Trial

Show = Callable[[int, float | None, Trial], None]
"""Takes a trial's number, the share of it that is done (None: it was done before) and the trial."""


@contextmanager
def trials_bar(title: str, count: int, visible: bool) -> Iterator[Show]:
    """A bar that says which trial is under way, and how many minutes are left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[left]}"),
        TimeElapsedColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        task = bar.add_task(title, total=count, left="")
        initial: list[float] = []

        def show(number: int, share: float | None, trial: Trial) -> None:
            done = number + (share or 0.0)
            if share is not None:
                initial[:] = initial or [done]
            rate = (done - initial[0]) / (time.monotonic() - start) if initial else 0.0
            left = f"{(count - done) / rate / 60:.1f} min left" if rate > 0 else ""
            which = f"{title} {min(number + 1, count)} of {count}: {trial.name}"
            bar.update(
                task,
                completed=done,
                description=f"{which}, seed {trial.config.seed}",
                left=left,
            )

        yield show


def note_for(show: Show, number: int, trial: Trial) -> Callable[[object, int], None]:
    """What a trial calls at each validation, with its model and the images seen."""
    start, minutes = time.monotonic(), trial.config.minutes

    def note(model: object, images: int) -> None:
        by_clock = (time.monotonic() - start) / (60 * minutes) if minutes else 0.0
        show(number, min(1.0, max(images / trial.config.images, by_clock)), trial)

    return note
