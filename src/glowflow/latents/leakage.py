"""What a model's edits were measured to do: the figures of `glow study attributes`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .choices import Estimator

LEAKAGE_FILE = "attributes.json"
"""The `summary.json` of `glow study attributes`, under this name beside the model."""
LARGEST = 10_000_000
"""Bytes of such a file, at most."""


@dataclass(frozen=True)
class Leakage:
    """Of the edits along one direction, by a classifier that has seen no generated image."""

    amount: float
    """How far the images were moved."""
    flip: float
    """Share of the images of which the attribute changed."""
    leakage: float
    """Share of the other attributes that changed too."""
    images: int
    """Held-out images that were moved."""


def read_leakage(path: Path, model: str, estimator: Estimator) -> Mapping[str, Leakage]:
    """The figures by attribute; empty if there is no such file.

    Args:
        path: of the study's summary.
        model: `identity` of the model.
        estimator: of the directions.

    Raises:
        InputError: it is no summary of the study, or of another model.
    """
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        summary = json.loads(path.read_text(encoding="utf-8"))
        measured, rows = summary["model_identity"], summary["rows"]
        figures = {
            row["attribute"]: _of(row["test"]) for row in rows if row["estimator"] == estimator
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is no summary of glow study attributes ({error}): write it again."
        ) from error
    if measured != model:
        raise InputError(
            f"{path} is of another model: measure this one with glow study attributes."
        )
    return figures


def _of(test: Mapping[str, Any]) -> Leakage:
    return Leakage(
        amount=float(test["amount"]),
        flip=float(test["flip"]["mean"]),
        leakage=float(test["leakage"]["mean"]),
        images=int(test["images"]),
    )
