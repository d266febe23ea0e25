"""The figures of a run: lines of metrics.jsonl, and a bar on stderr."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ..errors import CheckpointError
from ..files import write_text, writing

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Metrics:
    """One line of metrics.jsonl; bits/dim are means since the line before."""

    step: int
    images: int
    seconds: float
    bits_per_dim: float | None = None
    grad_norm: float | None = None
    lr: float | None = None
    images_per_second: float | None = None
    valid_bits_per_dim: float | None = None
    """Of the averaged weights."""
    valid_bits_per_dim_last: float | None = None
    """Of the weights as they are; absent where there is no average."""
    bits_by_level: tuple[float, ...] | None = None
    """This and what follows: of the averaged weights, as `Health` says."""
    condition_by_level: tuple[float, ...] | None = None
    smallest_scale_by_level: tuple[float, ...] | None = None
    largest_scale_by_level: tuple[float, ...] | None = None
    round_trip_error: float | None = None


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last one that was cut off while being written is left out.

    Raises:
        CheckpointError: another line is not JSON.
    """
    path = run / METRICS_FILE
    if not path.is_file():
        return []
    *lines, last = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        found = [json.loads(line) for line in lines]
    except ValueError as error:
        raise CheckpointError(
            f"A line of {path} is not JSON ({error}): remove that line."
        ) from error
    with suppress(ValueError):
        found.append(json.loads(last))
    return found


def write_metrics(run: Path, metrics: Metrics) -> None:
    """Append a line.

    Raises:
        InputError: the file cannot be written.
    """
    line = {name: value for name, value in asdict(metrics).items() if value is not None}
    path = run / METRICS_FILE
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def keep_metrics_until(run: Path, step: int) -> None:
    """Drop the lines that the steps after the checkpoint will write again."""
    lines = [line for line in read_metrics(run) if line["step"] <= step]
    write_text(run / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in lines))


@dataclass
class Window:
    """The steps since the last line of metrics.jsonl, and a smoothed figure for the bar."""

    since: float
    """Seconds of training at the last line."""
    images: int = 0
    bits: list[float] = field(default_factory=list)
    """Bits/dim of each step."""
    norms: list[float] = field(default_factory=list)
    """Gradient norm of each step."""
    smoothed: float | None = None
    speed: float = 0.0
    norm: float | None = None
    """Mean gradient norm of the newest line."""

    def add(self, bits: float, norm: float, images: int) -> None:
        """Take a step's figures."""
        self.bits.append(bits)
        self.norms.append(norm)
        self.images += images
        self.smoothed = bits if self.smoothed is None else 0.98 * self.smoothed + 0.02 * bits

    def close(self, step: int, images: int, seconds: float, lr: float) -> Metrics:
        """The means of the steps so far, of which the next line knows no more."""
        self.speed = self.images / max(seconds - self.since, 1e-9)
        self.norm = sum(self.norms) / len(self.norms)
        line = Metrics(
            step=step,
            images=images,
            seconds=round(seconds, 2),
            bits_per_dim=sum(self.bits) / len(self.bits),
            grad_norm=self.norm,
            lr=lr,
            images_per_second=round(self.speed, 2),
        )
        self.since, self.bits, self.norms, self.images = seconds, [], [], 0
        return line


@contextmanager
def training_bar(visible: bool) -> Iterator[Callable[[Window, float], None]]:
    """A bar that is shown the window and the share of the run that is done, after each step."""
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

        def show(window: Window, done: float) -> None:
            rate = (done - initial[0]) / (time.monotonic() - start) if initial else 0.0
            initial[:] = initial or [done]
            left = f"{(1 - done) / rate / 60:.1f} min left" if rate > 0 else ""
            figures = f"{window.smoothed:.3f} bits/dim · {window.speed:.0f} images/s · {left}"
            bar.update(task, completed=done, figures=figures)

        yield show
