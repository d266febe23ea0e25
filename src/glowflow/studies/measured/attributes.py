"""Attribute editing: does the attribute come, and does everything else stay?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...checks import require_at_least
from ...data.types import Splits
from ..study import Findings
from .study import MeasuredStudy, require_bytes

if TYPE_CHECKING:
    from ...models.flow import ImageFlow


@dataclass(frozen=True, kw_only=True)
class Attributes(MeasuredStudy):
    """Edit every attribute by three estimators: flip rate, leakage, identity, and strips."""

    attributes: tuple[str, ...] = ()
    """Edit these only; by default every attribute with enough images."""
    images: int = 500
    """Test images without the attribute that are edited, at most, for each attribute."""
    validation_images: int = 150
    """Validation images without it, at most: the amount is chosen on them."""
    limit: int | None = 10_000
    """Training images that the directions are found on, at most; None for all."""
    judge_images: int = 100_000
    """Training images that the judge sees in all."""
    minimum: int = 10
    """Training images that are needed with an attribute, and without it."""
    batch_size: int = 50
    """Images that are encoded or decoded at once."""
    seed: int = 0
    """Of the judge, and of which images are edited."""

    def check(self, model: "ImageFlow", splits: Splits) -> None:
        """Refuse numbers below 1, float data, images that do not fit, and rare attributes."""
        from ...data.inputs import require_attributes, require_fit
        from .edits import editable

        require_bytes(model, "it has no images for a judge to see")
        numbers = ("images", "validation_images", "judge_images", "minimum", "batch_size")
        require_at_least(self, 1, *numbers)
        require_attributes(splits.train, self.attributes)
        require_fit(model, splits.train)
        editable(splits, self.attributes, self.minimum, self.limit)

    def measure(self, model: "ImageFlow", splits: Splits, *, progress: bool = True) -> Findings:
        """Judge and directions from training images, amounts from validation, figures from test."""
        from .edits import measure_edits
        from .edits_report import findings

        return findings(
            measure_edits(
                model,
                splits,
                self.attributes,
                images=self.images,
                validation_images=self.validation_images,
                limit=self.limit,
                judge_images=self.judge_images,
                minimum=self.minimum,
                batch_size=self.batch_size,
                seed=self.seed,
                progress=progress,
            )
        )
