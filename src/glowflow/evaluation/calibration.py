"""Scores of images that are not strange, made once and kept."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..data.types import ImageData
from ..errors import InputError
from ..files import replacing
from ..models.companions import identity
from ..models.flow import ImageFlow
from .scoring import LEAST, score

FORMAT = "1"


@dataclass(frozen=True)
class Calibration:
    """Scores of images that are not strange, to which others are compared."""

    log_prob: NDArray[np.float64]
    """(n,) in nats."""
    complexity: NDArray[np.float64] | None
    """(n,) in bits."""
    draws: int
    """Noise draws of each image."""
    model: str
    """`identity` of the model."""
    source: str = ""
    """The images, in words."""

    def __len__(self) -> int:
        return len(self.log_prob)


def calibrate(
    model: ImageFlow,
    data: ImageData,
    *,
    draws: int = 1,
    limit: int | None = None,
    batch_size: int = 50,
    seed: int = 0,
    source: str = "",
    progress: bool = True,
) -> Calibration:
    """Score images that are not strange, so that others can be compared with them.

    Give images that the model was not trained on, such as the validation images: a model knows
    its training images, and new ones of the same kind look stranger beside them than they are
    (`glow study anomaly` measures both).

    Args as `score`; `source` is what the images are, in words.

    Raises:
        InputError: as `score`, or log p of an image overflows.
    """
    found = score(
        model,
        data,
        draws=draws,
        limit=limit,
        batch_size=batch_size,
        seed=seed,
        title="calibrating",
        progress=progress,
    )
    if (overflowed := int((found.log_prob < LEAST / (2 * draws)).sum())) > 0:
        raise InputError(
            f"log p of {overflowed} of {len(found)} calibration images is not finite: give images "
            "like those the model was trained on, or another model."
        )
    return Calibration(found.log_prob, found.complexity, draws, identity(model), source)


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as safetensors.

    Raises:
        InputError: the folder cannot be written.
    """
    arrays = {"log_prob": calibration.log_prob}
    if calibration.complexity is not None:
        arrays["complexity"] = calibration.complexity
    metadata = {
        "kind": "glowflow calibration",
        "format": FORMAT,
        "model": calibration.model,
        "draws": json.dumps(calibration.draws),
        "source": calibration.source,
    }
    with replacing(path) as temporary:
        save_file(
            {name: np.ascontiguousarray(a) for name, a in arrays.items()}, temporary, metadata
        )


def load_calibration(path: Path, model: ImageFlow) -> Calibration:
    """Read a calibration of this model.

    Raises:
        InputError: there is no such file, it is damaged or another kind of file, or it is another
            model's.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}: leave --calibration out, glow score makes one.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != "glowflow calibration" or metadata.get("format") != FORMAT:
                raise InputError(
                    f"{path} does not hold a calibration of format {FORMAT}: make it with glow "
                    "score."
                )
            if metadata["model"] != identity(model):
                raise InputError(
                    f"The calibration in {path} is of another model: make one for this model with "
                    "glow score."
                )
            names = file.keys()
            found = Calibration(
                log_prob=file.get_tensor("log_prob"),
                complexity=file.get_tensor("complexity") if "complexity" in names else None,
                draws=int(metadata["draws"]),
                model=metadata["model"],
                source=metadata["source"],
            )
        _require_usable([a for a in (found.log_prob, found.complexity) if a is not None])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"Cannot read {path}: it is damaged or not safetensors ({error}); "
            "make it again with glow score."
        ) from error
    return found


def _require_usable(arrays: Sequence[NDArray[Any]]) -> None:
    for array in arrays:
        if array.dtype != np.float64 or array.shape != (len(arrays[0]),) or not len(array):
            raise ValueError(f"scores are {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError("a score is not finite")
