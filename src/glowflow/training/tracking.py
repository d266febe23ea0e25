"""The figures of a run, sent to TensorBoard and to other trackers, through Accelerate."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType, ProjectConfiguration

from ..errors import InputError, in_one_line
from ..processes import on_main_process
from .metrics import Metrics, write_metrics
from .run import Run

FOLDER = "tracking"
"""In a run's folder, for the trackers that write files."""
PACKAGES = {"tensorboard": '"glowflow[track]"', "comet_ml": "comet-ml"}
"""What pip installs, where it is not called as the tracker is."""


def require_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that Accelerate does not know or whose package is not installed.

    Raises:
        InputError: there is one.
    """
    known = sorted(str(kind) for kind in LoggerType if kind != LoggerType.ALL)
    installed = {str(kind) for kind in get_available_trackers()}
    for name in names:
        if name not in known:
            raise InputError(f"There is no tracker {name!r}: choose among {', '.join(known)}.")
        if name not in installed:
            raise InputError(
                f"The tracker {name} is not installed: pip install {PACKAGES.get(name, name)}."
            )


def tracker_options(names: Sequence[str], folder: Path) -> dict[str, Any]:
    """What an Accelerator is made with, so that `tracking` can start these trackers."""
    project = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / FOLDER))
    return {"log_with": list(names) or None, "project_config": project}


@contextmanager
def tracking(accelerator: Accelerator, run: Run) -> Iterator[None]:
    """Start the trackers of the run in process 0, and close them at the end.

    Raises:
        InputError: one does not start; the others are closed.
    """

    def start() -> None:
        try:
            accelerator.init_trackers("glowflow", config=dict(_flat(asdict(run.config))))
        except Exception as error:  # each tracker has its own
            said = in_one_line(error)
            raise InputError(
                f"A tracker of {', '.join(run.config.track)} does not start ({said}): set it up as "
                "its own documentation says, or leave it out of --track."
            ) from error

    try:
        if run.config.track:
            on_main_process(start)
        yield
    finally:
        for tracker in accelerator.trackers:  # end_training would end the process group too
            tracker.finish()


def record_metrics(accelerator: Accelerator, folder: Path, metrics: Metrics) -> None:
    """Write a line of metrics.jsonl, and send it to the trackers; a figure by level as name/level.

    Raises:
        InputError: the file cannot be written.
    """
    write_metrics(folder, metrics)
    if accelerator.trackers:
        accelerator.log(dict(_flat(metrics.to_dict())), step=metrics.step)


def _flat(nested: Mapping[str, Any]) -> Iterator[tuple[str, float | str]]:
    """Numbers and words by name: `model.levels` of a field in a field, `size/1` of a tuple."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", each) for inner, each in _flat(value))
        elif isinstance(value, tuple):
            yield from _flat({f"{name}/{number}": each for number, each in enumerate(value, 1)})
        else:
            yield name, value if isinstance(value, (int, float)) else str(value)
