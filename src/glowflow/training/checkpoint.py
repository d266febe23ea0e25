"""What a run needs to go on exactly where it stopped, in one file, whole or absent."""

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..files import replacing, write_text
from ..models.flow import ImageFlow

FOLDER = "checkpoints"
BEST = "best"
"""Folder, in the run's, of the model with the lowest validation bits/dim."""
BEST_FILE = "validation.json"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` optimiser steps.

    The order of the images, their shifts and flips and the dequantisation noise depend on seed and
    step alone, so there is no generator to save.
    """

    step: int
    seconds: float
    """Seconds of training so far."""
    model: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    """The moving average of the weights; empty if there is none."""
    optimizer: dict[str, Any]
    window: dict[str, Any] = field(default_factory=dict)
    """The steps since the last line of metrics.jsonl; empty in files of earlier versions."""
    images: int | None = None
    """Images seen so far; this and what follows are absent in files of earlier versions."""
    epoch: int | None = None
    image: int | None = None
    """How many of the epoch's images were seen."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `checkpoints/STEP.pt` into the run's folder and drop all but the newest `keep`.

    Raises:
        InputError: the folder cannot be written.
    """
    final = folder / FOLDER / f"{checkpoint.step:09d}.pt"
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    with replacing(final) as path, path.open("wb") as file:
        torch.save(fields, file)
        file.flush()
        os.fsync(file.fileno())  # so that after a power cut the name has its contents
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((folder / FOLDER).glob("[0-9]*.pt"))


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest checkpoint of a run, by the restricted unpickler.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        raise CheckpointError(f"There is no checkpoint in {folder / FOLDER}: give a run's folder.")
    try:
        fields = torch.load(checkpoints[-1], map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(**fields)
        if not isinstance(checkpoint.step, int) or not isinstance(checkpoint.model, dict):
            raise TypeError("its fields are of other types")
        return checkpoint
    except Exception as error:  # what damaged bytes make of zipfile, pickle and the fields
        raise CheckpointError(
            f"Cannot read {checkpoints[-1]}: it is truncated or not a checkpoint; "
            "delete it to go on from the one before."
        ) from error


def optimizer_state_for(model: ImageFlow, checkpoint: Checkpoint) -> dict[str, Any]:
    """The optimiser's state in the order and the memory layout of the model's parameters.

    An optimiser numbers the parameters. A checkpoint names them, in the order in which they were
    numbered when it was written; files of earlier versions have other orders and layouts.
    """
    numbers = {name: number for number, (name, _) in enumerate(model.named_parameters())}
    names = [n for n in model.with_present_names(checkpoint.model) if n in numbers]
    by_number = {
        numbers[names[number]]: {
            key: value.contiguous() if isinstance(value, torch.Tensor) else value
            for key, value in values.items()
        }
        for number, values in checkpoint.optimizer["state"].items()
    }
    return {**checkpoint.optimizer, "state": dict(sorted(by_number.items()))}


def save_best(folder: Path, model: ImageFlow, step: int, bits: float) -> None:
    """Write the model into `best/`, with its step and validation bits/dim.

    Raises:
        InputError: the folder cannot be written.
    """
    model.save_pretrained(folder / BEST)
    text = json.dumps({"step": step, "valid_bits_per_dim": bits})
    write_text(folder / BEST / BEST_FILE, text + "\n")


def best_so_far(folder: Path) -> float:
    """Validation bits/dim of the model in `best/`; infinity if there is none."""
    try:
        validation = json.loads((folder / BEST / BEST_FILE).read_text(encoding="utf-8"))
        return float(validation["valid_bits_per_dim"])
    except (OSError, ValueError, TypeError, LookupError):
        return math.inf
