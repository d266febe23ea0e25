"""What a run is: its hyperparameters, its data and its folder."""

from dataclasses import dataclass
from pathlib import Path

from ..data.types import Splits
from .config import TrainConfig


@dataclass(frozen=True)
class Run:
    """What does not change while a run trains."""

    config: TrainConfig
    splits: Splits
    """The same in every process."""
    folder: Path

    @property
    def batch_size(self) -> int:
        """Images of a step, of all processes together."""
        return min(self.config.batch_size, len(self.splits.train))
