"""How well each anomaly score tells other images from a model's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.types import ImageData, Splits
from ...evaluation.calibration import Calibration, calibrate
from ...evaluation.comparison import Comparison, compare
from ...evaluation.estimate import Estimate
from ...evaluation.scoring import Scores, score
from ...models.config import picture_shape
from ...models.flow import ImageFlow
from .other_images import other_images

RESAMPLES = 100
"""Bootstrap samples of a standard error."""


@dataclass(frozen=True)
class Other:
    """Images of another kind, and how well each score tells them from the model's own."""

    name: str
    how: str
    """What they are and how they got the model's shape."""
    images: int
    bits_per_dim: float
    auroc: Mapping[str, Estimate]
    """Of each score: the chance that a strange image has the larger one; ½ is a guess."""


@dataclass(frozen=True)
class Uniformity:
    """How far p-values of test images are from uniform."""

    ks: float
    """max |share of p ≤ a − a| over a (Kolmogorov and Smirnov): by chance alone about
    0.87·√(1/N + 1/n), with N test and n calibration images."""
    below: float
    """Share of p ≤ 0.05."""


@dataclass(frozen=True)
class Detection:
    """Every score on every kind of images."""

    images: int
    """Test images."""
    bits_per_dim: float
    """Of the test images."""
    calibration_images: Mapping[str, int]
    """Of each part."""
    uniformity: Mapping[str, Mapping[str, Uniformity]]
    """By the part that is calibrated on, and by score."""
    others: tuple[Other, ...]
    left_out: Mapping[str, str]
    """Kinds of images that are not in the table, and why."""


def measure_detection(
    model: ImageFlow,
    splits: Splits,
    *,
    limit: int,
    calibration_images: int,
    fashion: str,
    draws: int = 1,
    batch_size: int = 50,
    seed: int = 0,
    progress: bool = True,
) -> Detection:
    """AUROC of test images against other images, by every score, and the p-values of test images.

    Typicality is the distance from the mean over validation images.

    Args:
        model: in eval mode, for images of bytes.
        splits: the model's data.
        limit: test images, and images of each other kind, at most.
        calibration_images: images of a part to calibrate on, at most.
        fashion: folder of the Fashion-MNIST files.
        draws: dequantisation noise draws of each image.
        batch_size: images at once.
        seed: of the noise, of what is made from test images, and of the bootstrap.
        progress: show bars on stderr.
    """
    options: dict[str, Any] = {
        "draws": draws,
        "batch_size": batch_size,
        "seed": seed,
        "progress": progress,
    }
    test = score(model, splits.test, limit=limit, **options)
    calibrations = {
        name: calibrate(model, part, limit=calibration_images, **options)
        for name, part in (("valid", splits.valid), ("train", splits.train))
    }
    own = _strangeness(test, calibrations["valid"])
    kinds = other_images(
        picture_shape(model.config.image_shape), splits, limit, fashion, seed, progress
    )
    others, left_out = [], {}
    for name, how, images in kinds:
        if isinstance(images, str):
            left_out[name] = images
            continue
        scores = score(model, ImageData(images), title=name, **options)
        theirs = _strangeness(scores, calibrations["valid"])
        by_score = {s: auroc_estimate(own[s], theirs[s], seed) for s in own}
        others.append(Other(name, how, len(scores), float(scores.bits_per_dim.mean()), by_score))
    return Detection(
        images=len(test),
        bits_per_dim=float(test.bits_per_dim.mean()),
        calibration_images={name: len(part) for name, part in calibrations.items()},
        uniformity={name: _uniformity(test, part) for name, part in calibrations.items()},
        others=tuple(others),
        left_out=left_out,
    )


def _strangeness(scores: Scores, calibration: Calibration) -> dict[str, NDArray[np.float64]]:
    """Every score, so that large is strange."""
    by_score = {
        "−log p": -scores.log_prob,
        "typicality": compare(scores, calibration).typicality,
    }
    if scores.complexity is not None:
        by_score["complexity"] = scores.complexity
    for level, part in enumerate(scores.by_level.T, 1):
        by_score[f"level {level}"] = -part
    return by_score


def auroc(own: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """P(t > o) + P(t = o)/2 for o of `own` and t of `theirs`: the area under the ROC curve."""
    ordered = np.sort(own)
    smaller, not_larger = (np.searchsorted(ordered, theirs, side) for side in ("left", "right"))
    return float((smaller + not_larger).mean() / (2 * len(own)))


def auroc_estimate(own: NDArray[np.float64], theirs: NDArray[np.float64], seed: int) -> Estimate:
    """AUROC, and its standard error over bootstrap samples of both sides."""
    random = np.random.default_rng(seed)
    sampled = [
        auroc(random.choice(own, len(own)), random.choice(theirs, len(theirs)))
        for _ in range(RESAMPLES)
    ]
    return Estimate(auroc(own, theirs), float(np.std(sampled, ddof=1)))


def _uniformity(test: Scores, calibration: Calibration) -> dict[str, Uniformity]:
    beside: Comparison = compare(test, calibration)
    p_values = {
        "−log p": beside.p_log_prob,
        "typicality": beside.p_typicality,
        "complexity": beside.p_complexity,
    }
    by_score = {}
    for name, values in p_values.items():
        if values is None:
            continue
        p = np.sort(values)
        steps = np.arange(len(p) + 1) / len(p)
        ks = max(float(np.abs(p - steps[:-1]).max()), float(np.abs(p - steps[1:]).max()))
        by_score[name] = Uniformity(ks, float((p <= 0.05).mean()))
    return by_score
