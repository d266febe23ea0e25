"""Scores of images that are not strange, made once and kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.types import ImageData
from ..errors import InputError
from ..models.companions import CompanionKind, identity, load_companion, save_companion
from ..models.flow import ImageFlow
from .scoring import LEAST, score

KIND = CompanionKind("calibration", command="glow score")


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
    scores = score(
        model,
        data,
        draws=draws,
        limit=limit,
        batch_size=batch_size,
        seed=seed,
        title="calibrating",
        progress=progress,
    )
    if (overflowed := int((scores.log_prob < LEAST / (2 * draws)).sum())) > 0:
        raise InputError(
            f"log p of {overflowed} of {len(scores)} calibration images is not finite: give images "
            "like those the model was trained on, or another model."
        )
    return Calibration(scores.log_prob, scores.complexity, draws, identity(model), source)


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as safetensors.

    Raises:
        InputError: the folder cannot be written.
    """
    scores = {"log_prob": calibration.log_prob, "complexity": calibration.complexity}
    tensors = {name: torch.tensor(each) for name, each in scores.items() if each is not None}
    facts = {"draws": str(calibration.draws), "source": calibration.source}
    save_companion(path, KIND, calibration.model, tensors, facts)


def load_calibration(path: Path, model: ImageFlow) -> Calibration:
    """Read a calibration of this model.

    Raises:
        InputError: there is no such file, it is damaged or another kind of file, or it is another
            model's.
    """
    return load_companion(path, KIND, model, _parse)


def _parse(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> Calibration:
    log_prob, complexity = tensors["log_prob"], tensors.get("complexity")
    for scores in (log_prob,) if complexity is None else (log_prob, complexity):
        if scores.dtype != torch.float64 or scores.shape != (len(log_prob),) or not len(scores):
            raise ValueError(f"scores are {scores.dtype} {tuple(scores.shape)}")
        if not scores.isfinite().all():
            raise ValueError("a score is not finite")
    if int(facts["draws"]) < 1:
        raise ValueError(f"draws is {facts['draws']}")
    return Calibration(
        log_prob=log_prob.numpy(),
        complexity=None if complexity is None else complexity.numpy(),
        draws=int(facts["draws"]),
        model=facts["model"],
        source=facts["source"],
    )
