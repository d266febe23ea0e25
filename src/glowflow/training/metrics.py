"""The figures of a run: lines of metrics.jsonl."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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
    samples_not_finite: int | None = None
    samples_far: int | None = None
    samples: int | None = None
    round_trip_error: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures that there are, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last one that was cut off while being written is left out.

    Raises:
        CheckpointError: it is a folder, or another line is not JSON or no line of figures.
    """
    path = folder / METRICS_FILE
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder and not a file of figures: remove it.")
    if not path.is_file():
        return []
    *lines, last = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        figures = [json.loads(line) for line in lines]
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"A line of {path} is not JSON ({error}): remove that line."
        ) from error
    with suppress(ValueError):
        figures.append(json.loads(last))
    for number, line in enumerate(figures, 1):
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise CheckpointError(
                f"Line {number} of {path} has no step ({json.dumps(line)[:40]}): remove that line."
            )
    return figures


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Append a line.

    Raises:
        InputError: the file cannot be written.
    """
    path = folder / METRICS_FILE
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics.to_dict()) + "\n")


def keep_metrics_until(folder: Path, step: int) -> None:
    """Drop the lines that the steps after the checkpoint will write again."""
    lines = [line for line in read_metrics(folder) if line["step"] <= step]
    write_text(folder / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in lines))


@dataclass
class RunningMetrics:
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
