"""What a run needs to go on exactly where it stopped, in one file, whole or absent."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from .atomic import replacing
from .errors import CheckpointError

FOLDER = "checkpoints"
KEPT = 2
"""The newest so many checkpoints are kept."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` optimiser steps.

    The order of the images and the dequantisation noise depend on seed and step alone, so there
    is no generator to save.
    """

    step: int
    seconds: float
    """Seconds of training so far."""
    model: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    """The moving average of the weights; empty if there is none."""
    optimizer: dict[str, Any]


def save_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Write `checkpoints/STEP.pt` into the run's folder and drop the oldest ones.

    Raises:
        InputError: the folder cannot be written.
    """
    final = run / FOLDER / f"{checkpoint.step:09d}.pt"
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    with replacing(final) as path:
        torch.save(fields, path)
    for old in list_checkpoints(run)[:-KEPT]:
        old.unlink()
    return final


def list_checkpoints(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((run / FOLDER).glob("[0-9]*.pt"))


def load_checkpoint(run: Path) -> Checkpoint:
    """Read the newest checkpoint of a run, by the restricted unpickler.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    found = list_checkpoints(run)
    if not found:
        raise CheckpointError(f"There is no checkpoint in {run / FOLDER}: give a run's folder.")
    try:
        return Checkpoint(**torch.load(found[-1], map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, TypeError, UnpicklingError) as error:
        raise CheckpointError(
            f"Cannot read {found[-1]}: it is truncated or not a checkpoint; "
            "delete it to go on from the one before."
        ) from error
