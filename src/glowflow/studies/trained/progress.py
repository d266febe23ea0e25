"""One bar over all trials of a study."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...progress import bar_with_time_left
from .study import Trial

Show = Callable[[int, float | None, Trial], None]
"""Takes a trial's number, the share of it that is done (None: it was done before) and the trial."""


@contextmanager
def trials_bar(title: str, count: int, visible: bool) -> Iterator[Show]:
    """A bar that says which trial is under way, and how many minutes are left."""
    with bar_with_time_left(title, count, visible=visible) as bar:

        def show(number: int, share: float | None, trial: Trial) -> None:
            which = f"{title} {min(number + 1, count)} of {count}: {trial.name}"
            bar(
                number + (share or 0.0),
                f"{which}, seed {trial.config.seed}",
                now=share is not None,
            )

        yield show


def note_for(show: Show, number: int, trial: Trial) -> Callable[[object, int], None]:
    """What a trial calls at each validation, with its model and the images seen."""
    start, minutes = time.monotonic(), trial.config.minutes

    def note(model: object, images: int) -> None:
        by_clock = (time.monotonic() - start) / (60 * minutes) if minutes else 0.0
        show(number, min(1.0, max(images / trial.config.images, by_clock)), trial)

    return note
