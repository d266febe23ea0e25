"""The studies of a trained model."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...data.types import Splits
from ...errors import InputError
from ..study import Findings, Study

if TYPE_CHECKING:
    from ...models.flow import ImageFlow


@dataclass(frozen=True, kw_only=True)
class MeasuredStudy(Study, ABC):
    """Measures a trained model, on the data it was trained on or on others.

    A subclass has `measure`, and `check` where something can be wrong.
    """

    def check(self, model: "ImageFlow", splits: Splits) -> None:
        """Refuse what cannot work before anything is computed.

        Raises:
            InputError: a setting cannot be used, or model and images do not fit.
        """

    @abstractmethod
    def measure(self, model: "ImageFlow", splits: Splits, *, progress: bool = True) -> Findings:
        """What is to be said of a model whose settings and data are checked."""

    def run(self, model: "ImageFlow", splits: Splits, *, progress: bool = True) -> Findings:
        """Check, measure, and say of which model and data.

        Args:
            model: in eval mode; its values are kept meanwhile (`frozen`).
            splits: the data.
            progress: show bars on stderr.

        Raises:
            InputError: as `check`.
        """
        from ...models.companions import identity

        self.check(model, splits)
        with model.frozen():
            findings = self.measure(model, splits, progress=progress)
        of = {
            "model_identity": identity(model),
            "source": splits.source,
            "checksum": splits.checksum,
        }
        parts = f"{splits.source}, SHA-256 {splits.checksum}.", findings.about
        about = " ".join(part for part in (*parts, f"Model {of['model_identity']}.") if part)
        return replace(findings, about=about, summary={**of, **findings.summary})


def require_bytes(model: "ImageFlow", why: str) -> None:
    """Refuse a model for float data, and say why.

    Raises:
        InputError: it is one.
    """
    if model.config.bits is None:
        raise InputError(f"This model is for float data: {why}.")
