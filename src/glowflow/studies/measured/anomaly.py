"""Anomaly scores, measured: which of them tell a model's own images from others?"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checks import require_at_least
from ...data.config import DataConfig
from ...data.inputs import evenly, require_shape
from ...data.open import open_splits
from ...data.types import ImageData, Splits
from ...errors import InputError
from ...evaluation.calibration import Calibration, calibrate
from ...evaluation.comparison import Comparison, compare
from ...evaluation.scoring import Scores, score
from ...models.companions import identity
from ...models.flow import ImageFlow
from .. import Figure, Findings, markdown_table

FASHION = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package dataset-fashion-mnist puts it."""
RESAMPLES = 100
"""Bootstrap samples of a standard error."""
FAILS = "✗"
"""Marks an AUROC below ½: the score takes the strange images for the usual ones."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class AnomalySettings:
    """What is measured, on how many images."""

    images: int = 500
    """Test images, and images of each other kind, at most."""
    calibration_images: int = 1000
    """Images of the training and of the validation part to calibrate on, at most."""
    fashion: str = FASHION
    """Folder of the Fashion-MNIST files; left out of the table where there is none."""
    draws: int = 1
    """Dequantisation noise draws of each image."""
    batch_size: int = 50
    """Images at once."""
    seed: int = 0
    """Of the noise, of what is made from test images, and of the bootstrap."""


@dataclass(frozen=True)
class Other:
    """Images of another kind, and how well each score tells them from the model's own."""

    name: str
    how: str
    """What they are and how they got the model's shape."""
    images: int
    bits_per_dim: float
    auroc: Mapping[str, Figure]
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
class AnomalyStudy:
    """All that was measured."""

    model: str
    """`identity` of the model."""
    source: str
    checksum: str
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


def study_anomaly(
    model: ImageFlow, splits: Splits, settings: AnomalySettings, *, progress: bool = True
) -> AnomalyStudy:
    """AUROC of test images against other images, by every score, and the p-values of test images.

    Typicality is the distance from the mean over validation images.

    Args:
        model: in eval mode, for images of bytes.
        splits: the model's data.
        settings: how much of it.
        progress: show bars on stderr.

    Raises:
        InputError: `check` refuses it.
    """
    check(model, splits, settings)
    options: dict[str, Any] = {
        "draws": settings.draws,
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "progress": progress,
    }
    test = score(model, splits.test, limit=settings.images, **options)
    calibrations = {
        name: calibrate(model, part, limit=settings.calibration_images, **options)
        for name, part in (("valid", splits.valid), ("train", splits.train))
    }
    own = _strangeness(test, calibrations["valid"])
    others, left_out = [], {}
    for name, how, images in _others(model, splits, settings, progress):
        if isinstance(images, str):
            left_out[name] = images
            continue
        found = score(model, ImageData(images), title=name, **options)
        theirs = _strangeness(found, calibrations["valid"])
        auroc = {s: auroc_figure(own[s], theirs[s], settings.seed) for s in own}
        others.append(Other(name, how, len(found), float(found.bits_per_dim.mean()), auroc))
    return AnomalyStudy(
        model=identity(model),
        source=splits.source,
        checksum=splits.checksum,
        images=len(test),
        bits_per_dim=float(test.bits_per_dim.mean()),
        calibration_images={name: len(found) for name, found in calibrations.items()},
        uniformity={name: _uniformity(test, found) for name, found in calibrations.items()},
        others=tuple(others),
        left_out=left_out,
    )


def check(model: ImageFlow, splits: Splits, settings: AnomalySettings) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: the model is for float data or for other images, or a number is below 1.
    """
    require_at_least(settings, 1, "images", "calibration_images", "draws", "batch_size")
    if model.config.bits is None:
        raise InputError("This model is for float data: there are no other images like them.")
    if model.config.image_shape[0] not in (1, 3, 4):
        raise InputError(
            f"The model's images have {model.config.image_shape[0]} channels: other images have "
            "1, 3 or 4."
        )
    require_shape(model, splits.test)


def _strangeness(scores: Scores, calibration: Calibration) -> dict[str, NDArray[np.float64]]:
    """Every score, so that large is strange."""
    found = {
        "−log p": -scores.log_prob,
        "typicality": compare(scores, calibration).typicality,
    }
    if scores.complexity is not None:
        found["complexity"] = scores.complexity
    for level, part in enumerate(scores.by_level.T, 1):
        found[f"level {level}"] = -part
    return found


def auroc(own: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """P(t > o) + P(t = o)/2 for o of `own` and t of `theirs`: the area under the ROC curve."""
    ordered = np.sort(own)
    smaller, not_larger = (np.searchsorted(ordered, theirs, side) for side in ("left", "right"))
    return float((smaller + not_larger).mean() / (2 * len(own)))


def auroc_figure(own: NDArray[np.float64], theirs: NDArray[np.float64], seed: int) -> Figure:
    """AUROC, and its standard error over bootstrap samples of both sides."""
    random = np.random.default_rng(seed)
    sampled = [
        auroc(random.choice(own, len(own)), random.choice(theirs, len(theirs)))
        for _ in range(RESAMPLES)
    ]
    return Figure(auroc(own, theirs), float(np.std(sampled, ddof=1)))


def _uniformity(test: Scores, calibration: Calibration) -> dict[str, Uniformity]:
    found: Comparison = compare(test, calibration)
    columns = {"−log p": found.p_log_prob, "typicality": found.p_typicality}
    if found.p_complexity is not None:
        columns["complexity"] = found.p_complexity
    made = {}
    for name, values in columns.items():
        p = np.sort(values)
        steps = np.arange(len(p) + 1) / len(p)
        ks = max(float(np.abs(p - steps[:-1]).max()), float(np.abs(p - steps[1:]).max()))
        made[name] = Uniformity(ks, float((p <= 0.05).mean()))
    return made


def _others(
    model: ImageFlow, splits: Splits, settings: AnomalySettings, progress: bool
) -> Iterator[tuple[str, str, Bytes | str]]:
    """Name, description, and images (N, C, H, W) of each other kind; or why there are none."""
    for name, (how, config) in _sources(model, settings).items():
        try:
            images: Bytes | str = _read(config, splits, settings.images, progress)
        except InputError as error:
            images = str(error)
        yield name, how, images
    test = np.array(splits.test.images[evenly(len(splits.test), settings.images)])
    for name, (how, make) in MADE.items():
        yield name, how, make(test, np.random.default_rng(settings.seed))


def _sources(model: ImageFlow, settings: AnomalySettings) -> Mapping[str, tuple[str, DataConfig]]:
    """Other data sets, brought to the model's shape by the data layer."""
    channels, height, width = model.config.image_shape
    shape: dict[str, Any] = {"size": (height, width), "channels": channels, "upscale": True}
    size = f"{height}x{width}"
    colour = "" if channels == 1 else ", the same grey in every channel"
    drawn = max(10, settings.images)
    return {
        "digits": (
            f"scikit-learn's 8x8 digits in the middle of black{colour}",
            DataConfig(data="digits", **shape),
        ),
        "faces": (
            f"drawn faces, resized to {size}",
            DataConfig(data="faces", faces=drawn, **shape),
        ),
        "Fashion-MNIST": (
            f"28x28 clothes, resized to {size}{colour}",
            DataConfig(data=settings.fashion, **shape),
        ),
    }


def _read(config: DataConfig, own: Splits, count: int, progress: bool) -> Bytes:
    """`count` images at most, test images first.

    Raises:
        InputError: they cannot be read, or are the model's own data.
    """
    found = open_splits(config, progress=progress)
    if found.source.split(":")[0] == own.source.split(":")[0]:
        raise InputError("They are the model's own data.")
    parts = (found.test, found.valid, found.train)
    return np.concatenate([part.images[:count] for part in parts])[:count]


def _shuffled(images: Bytes, random: np.random.Generator) -> Bytes:
    flat = images.reshape(*images.shape[:2], -1)
    orders = np.argsort(random.random((len(flat), 1, flat.shape[2])), axis=2)
    return np.take_along_axis(flat, orders, axis=2).reshape(images.shape)


def _half_contrast(images: Bytes, random: np.random.Generator) -> Bytes:
    return (64 + images // 2).astype(np.uint8)


def _upside_down(images: Bytes, random: np.random.Generator) -> Bytes:
    return images[:, :, ::-1].copy()


def _noise(images: Bytes, random: np.random.Generator) -> Bytes:
    return random.integers(0, 256, images.shape, dtype=np.uint8)


def _constants(images: Bytes, random: np.random.Generator) -> Bytes:
    colours = random.integers(0, 256, (*images.shape[:2], 1, 1), dtype=np.uint8)
    return np.broadcast_to(colours, images.shape).copy()


MADE: Mapping[str, tuple[str, Callable[[Bytes, np.random.Generator], Bytes]]] = {
    "upside down": ("the test images upside down", _upside_down),
    "pixels shuffled": ("the test images, the pixels of each in a random order", _shuffled),
    "half contrast": ("the test images, bytes v as 64 + v/2", _half_contrast),
    "noise": ("independent uniform bytes", _noise),
    "constants": ("one random colour an image", _constants),
}


def report(
    model: ImageFlow, splits: Splits, settings: AnomalySettings, *, progress: bool = True
) -> Findings:
    """Measure (`study_anomaly`), and report."""
    return findings(study_anomaly(model, splits, settings, progress=progress))


def findings(study: AnomalyStudy) -> Findings:
    """The study in a line, as JSON, and as anomaly.md."""
    return Findings(
        sentence=sentence(study),
        facts={
            "model_identity": study.model,
            "source": study.source,
            "checksum": study.checksum,
            "images": study.images,
            "bits_per_dim": study.bits_per_dim,
            "calibration_images": dict(study.calibration_images),
            "uniformity": {
                part: {name: asdict(found) for name, found in by_score.items()}
                for part, by_score in study.uniformity.items()
            },
            "others": [asdict(other) for other in study.others],
            "left_out": dict(study.left_out),
            "fails": failures(study),
        },
        files={"anomaly.md": _markdown(study).encode()},
    )


def failures(study: AnomalyStudy) -> dict[str, list[str]]:
    """The kinds of images for which each score is worse than a guess."""
    found: dict[str, list[str]] = {}
    for other in study.others:
        for name, figure in other.auroc.items():
            if figure.mean < 0.5:
                found.setdefault(name, []).append(other.name)
    return found


def sentence(study: AnomalyStudy) -> str:
    """Mean AUROC of the three scores, and where the likelihood is worse than a guess."""
    names = [name for name in study.others[0].auroc if not name.startswith("level")]
    figures = ", ".join(
        f"{name} {np.mean([other.auroc[name].mean for other in study.others]):.3f}"
        for name in names
    )
    wrong = failures(study).get("−log p", [])
    said = (
        f"−log p is worse than a guess on {', '.join(wrong)}" if wrong else "−log p fails on none"
    )
    return f"Mean AUROC over {len(study.others)} kinds of other images: {figures}; {said}."


def _markdown(study: AnomalyStudy) -> str:
    scores = list(study.others[0].auroc)
    lines = [
        [
            other.name,
            f"{other.bits_per_dim:.4g}",
            *(f"{f}{f' {FAILS}' if f.mean < 0.5 else ''}" for f in other.auroc.values()),
        ]
        for other in study.others
    ]
    means = [np.mean([other.auroc[name].mean for other in study.others]) for name in scores]
    lines.append(["mean", "", *(f"{mean:.3f}" for mean in means)])
    failed = [
        f"- {name} fails on {', '.join(kinds)}: it takes them for more usual than the model's own "
        "images.\n"
        for name, kinds in failures(study).items()
    ] or ["- No score fails on any of them.\n"]
    what = [f"- {other.name}: {other.how}; {other.images:,} images.\n" for other in study.others]
    missing = [f"- {name} is left out: {reason}\n" for name, reason in study.left_out.items()]
    uniform = [
        [f"{part}, {name}", f"{found.ks:.3f}", f"{found.below:.3f}"]
        for part, by_score in study.uniformity.items()
        for name, found in by_score.items()
    ]
    fewest = min(study.calibration_images.values())
    chance = 0.87 * (1 / study.images + 1 / fewest) ** 0.5
    counts = ", ".join(f"{count:,} {part}" for part, count in study.calibration_images.items())
    return (
        f"# Anomaly scores\n\n{sentence(study)}\n\n"
        f"{study.source}, SHA-256 {study.checksum}. Model {study.model}.\n\n"
        f"AUROC of {study.images:,} test images ({study.bits_per_dim:.2f} bits/dim) against other "
        "images, ± its standard error by bootstrap: the chance that the other image has the larger "
        f"score. ½ is a guess; {FAILS} is below. Typicality: distance of log p from its mean over "
        "validation images. Complexity: −log₂ P − length as PNG or WebP, whichever is shorter. "
        "Level ℓ: −log p of that level alone.\n\n"
        f"{markdown_table(['other images', 'bits/dim', *scores], lines)}\n"
        f"{''.join(failed)}\n{''.join(what)}{''.join(missing)}\n"
        "## p-values of test images\n\n"
        f"Calibrated on {counts} images. Uniform p-values have a KS distance of about "
        f"{chance:.3f} by chance, and a share of 0.05 at 0.05.\n\n"
        f"{markdown_table(['calibrated on', 'KS', 'p ≤ 0.05'], uniform)}"
    )
