"""A run that goes on: what may change, what may not, and whether there is anything left to do."""

import json
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..data.config import DataConfig
from ..data.open import open_splits
from ..data.record import Changes
from ..data.types import Splits
from ..errors import InputError
from ..files import path_of, writing
from .checkpoint import BEST, BEST_FILE, Checkpoint, load_checkpoint
from .config import CONFIG_FILE, TrainConfig, read_run_config, write_run_config
from .optimisation import Schedule

HISTORY_FILE = "resumed.jsonl"
"""In a run's folder: a line each time that it went on with another setting."""
MAY_CHANGE = frozenset(
    (
        "images", "minutes", "batch_size", "accumulate", "lr", "warmup_images", "decay", "clip",
        "ema", "precision", "memory", "compile", "deterministic", "log_every", "validate_every",
        "validation_images", "evaluation_images", "keep", "track", "data.data", "data.strict",
    )
)  # fmt: skip
"""Settings that change neither the model nor its images. `data.data` may be another place of the
same images."""


def check_resumed(folder: Path, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """What is other than in the run's own configuration: old and new value by name.

    Raises:
        CheckpointError: the folder is not a run's.
        InputError: one of them would change the model or its data.
    """
    old, new = dict(_flat(read_run_config(folder))), dict(_flat(config))
    names = [*old, *(name for name in new if name not in old)]
    changes = {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}
    for name, (before, after) in changes.items():
        if name not in MAY_CHANGE:
            flag = f"--{name.rpartition('.')[2].replace('_', '-')}"
            raise InputError(
                f"The run in {folder} has {flag} {_word(before)}, and {_word(after)} would change "
                f"its model or its data: leave {flag} out, or start a new run (glow train … --from "
                f"{folder} takes the weights along)."
            )
    return changes


def record_resumed(
    folder: Path,
    config: TrainConfig,
    changes: dict[str, tuple[Any, Any]],
    checkpoint: Checkpoint,
    images: Changes | None,
) -> None:
    """Write the configuration that the run goes on with, and a line of what changed.

    Where the images have changed, or how many validate, the best model so far is no longer called
    that: its figure is of other validation images.

    Raises:
        InputError: the folder cannot be written.
    """
    other_images = images is not None and images.any
    if not changes and not other_images:
        return
    if other_images or "validation_images" in changes:
        (folder / BEST / BEST_FILE).unlink(missing_ok=True)
    write_run_config(folder, config)
    line = {
        "time": f"{datetime.now():%Y-%m-%dT%H:%M:%S}",
        "step": checkpoint.step,
        "images": checkpoint.images,
        "changes": {name: list(values) for name, values in changes.items()},
    }
    if images is not None and other_images:
        line["data"] = {n: v for n, v in asdict(images).items() if v or n != "renamed"}
    path = folder / HISTORY_FILE
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def nothing_to_do(folder: Path, config: TrainConfig) -> str:
    """Why a run that has ended does not go on; empty if it does.

    Raises:
        CheckpointError: there is no usable checkpoint.
        InputError: fewer images are asked for than it has seen.
    """
    old, checkpoint = read_run_config(folder), load_checkpoint(folder)
    images = images_of(checkpoint, old)
    if Schedule.of(config).done(images, checkpoint.seconds) < 1.0:
        return ""
    if config.images < min(old.images, images):
        raise InputError(
            f"The run in {folder} has seen {images:,} images, and --images is {config.images:,}: "
            "give more."
        )
    if not all((folder / name).is_file() for name in ("evaluation.json", "model.safetensors")):
        return ""  # its evaluation was cut off
    end = f"{images:,} of {config.images:,} images"
    if config.minutes:
        end += f" and {checkpoint.seconds / 60:.1f} of {config.minutes:g} minutes"
    more = "--images or --minutes" if config.minutes else "--images"
    return f"Nothing to do: the run in {folder} has ended ({end}); give more {more} to go on."


def images_of(checkpoint: Checkpoint, config: TrainConfig) -> int:
    """Images that a run had seen; an earlier version counted steps alone."""
    if checkpoint.images is not None:
        return checkpoint.images
    return checkpoint.step * config.batch_size


def open_own(folder: Path | None, config: DataConfig, ways_out: str, *, progress: bool) -> Splits:
    """The images that a run's configuration names.

    Args:
        folder: of the run; None where there is none.
        config: what it names, or what it was changed to.
        ways_out: what to do where the images have moved, for the message of the error.
        progress: as `open_splits`.

    Raises:
        InputError: as `open_splits`; where they have moved, it says which line names them.
    """
    try:
        return open_splits(config, progress=progress)
    except InputError as error:
        named = "" if folder is None else _where_data_are_named(folder)
        if not named or path_of(config.data).exists():
            raise
        raise InputError(f"{str(error).split(':')[0]}, which {named} names: {ways_out}.") from error


def _where_data_are_named(folder: Path) -> str:
    """The line of the run's configuration that says where its images are, in words."""
    try:
        lines = (folder / CONFIG_FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for number, line in enumerate(lines, 1):
        if line.strip().startswith("data:") and line != "data:":
            return f"line {number} of {folder / CONFIG_FILE} ({line.strip()})"
    return ""


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if hasattr(config, "family"):
        yield f"{prefix}family", config.family
    for name in asdict(config):
        value = getattr(config, name)
        if is_dataclass(value):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
