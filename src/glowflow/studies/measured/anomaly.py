"""Anomaly scores: which of them tell a model's own images from others?"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...checks import require_at_least
from ...data.types import Splits
from ...errors import InputError
from ..page import Section, Table
from ..study import Findings
from .study import MeasuredStudy, require_bytes

if TYPE_CHECKING:
    from ...models.flow import ImageFlow
    from .detection import Detection

FASHION = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package dataset-fashion-mnist puts it."""
FAILS = "✗"
"""Marks an AUROC below ½: the score takes the strange images for the usual ones."""


@dataclass(frozen=True, kw_only=True)
class Anomaly(MeasuredStudy):
    """AUROC of test images against other images, by each anomaly score; which of them fail."""

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

    def check(self, model: "ImageFlow", splits: Splits) -> None:
        """Refuse numbers below 1, and models for float data or for other images."""
        from ...data.inputs import require_shape

        require_at_least(self, 1, "images", "calibration_images", "draws", "batch_size")
        require_bytes(model, "there are no other images like them")
        channels = model.config.image_shape[0]
        if channels not in (1, 3, 4):
            raise InputError(
                f"The model's images have {channels} channels: other images have 1, 3 or 4."
            )
        require_shape(model, splits.test)

    def measure(self, model: "ImageFlow", splits: Splits, *, progress: bool = True) -> Findings:
        """Typicality is the distance from the mean over validation images."""
        from .detection import measure_detection

        return findings(
            measure_detection(
                model,
                splits,
                limit=self.images,
                calibration_images=self.calibration_images,
                fashion=self.fashion,
                draws=self.draws,
                batch_size=self.batch_size,
                seed=self.seed,
                progress=progress,
            )
        )


def findings(detection: "Detection") -> Findings:
    """The scores in a line and as tables."""
    return Findings(
        title="Anomaly scores",
        sentence=sentence(detection),
        sections=(_scores_section(detection), _uniformity_section(detection)),
        summary={
            "images": detection.images,
            "bits_per_dim": detection.bits_per_dim,
            "calibration_images": dict(detection.calibration_images),
            "uniformity": {
                part: {name: asdict(uniformity) for name, uniformity in by_score.items()}
                for part, by_score in detection.uniformity.items()
            },
            "others": [asdict(other) for other in detection.others],
            "left_out": dict(detection.left_out),
            "fails": failures(detection),
        },
    )


def failures(detection: "Detection") -> dict[str, list[str]]:
    """The kinds of images for which each score is worse than a guess."""
    kinds: dict[str, list[str]] = {}
    for other in detection.others:
        for name, auroc in other.auroc.items():
            if auroc.mean < 0.5:
                kinds.setdefault(name, []).append(other.name)
    return kinds


def sentence(detection: "Detection") -> str:
    """Mean AUROC of the three scores, and where the likelihood is worse than a guess."""
    means = _means(detection)
    figures = ", ".join(
        f"{name} {mean:.3f}" for name, mean in means.items() if not name.startswith("level")
    )
    wrong = failures(detection).get("−log p", [])
    worse = f"is worse than a guess on {', '.join(wrong)}" if wrong else "fails on none"
    return (
        f"Mean AUROC over {len(detection.others)} kinds of other images: {figures}; −log p {worse}."
    )


def _means(detection: "Detection") -> dict[str, float]:
    """AUROC of each score, over the other images."""
    others = detection.others
    return {
        name: float(np.mean([other.auroc[name].mean for other in others]))
        for name in others[0].auroc
    }


def _scores_section(detection: "Detection") -> Section:
    means = _means(detection)
    lines = [
        [
            other.name,
            f"{other.bits_per_dim:.4g}",
            *(f"{e}{f' {FAILS}' if e.mean < 0.5 else ''}" for e in other.auroc.values()),
        ]
        for other in detection.others
    ]
    lines.append(["mean", "", *(f"{mean:.3f}" for mean in means.values())])
    failed = [
        f"{name} fails on {', '.join(kinds)}: it takes them for more usual than the model's own "
        "images."
        for name, kinds in failures(detection).items()
    ]
    what = [f"{other.name}: {other.how}; {other.images:,} images." for other in detection.others]
    missing = [f"{name} is left out: {reason}" for name, reason in detection.left_out.items()]
    return Section(
        words=f"AUROC of {detection.images:,} test images ({detection.bits_per_dim:.2f} bits/dim) "
        "against other images, ± its standard error by bootstrap: the chance that the other image "
        f"has the larger score. ½ is a guess; {FAILS} is below. Typicality: distance of log p from "
        "its mean over validation images. Complexity: −log₂ P − length as PNG or WebP, whichever "
        "is shorter. Level ℓ: −log p of that level alone.",
        table=Table(["other images", "bits/dim", *means], lines),
        notes=[failed or ["No score fails on any of them."], what + missing],
    )


def _uniformity_section(detection: "Detection") -> Section:
    lines = [
        [f"{part}, {name}", f"{uniformity.ks:.3f}", f"{uniformity.below:.3f}"]
        for part, by_score in detection.uniformity.items()
        for name, uniformity in by_score.items()
    ]
    calibrated = detection.calibration_images
    chance = 0.87 * (1 / detection.images + 1 / min(calibrated.values())) ** 0.5
    counts = ", ".join(f"{count:,} {part}" for part, count in calibrated.items())
    return Section(
        "p-values of test images",
        f"Calibrated on {counts} images. Uniform p-values have a KS distance of about "
        f"{chance:.3f} by chance, and a share of 0.05 at 0.05.",
        table=Table(["calibrated on", "KS", "p ≤ 0.05"], lines),
    )
