"""The studies that train their models: several configurations, each for several seeds."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from ...checks import require_at_least
from ...data.config import DataConfig
from ...data.types import Splits
from ...models.config import Architecture, CouplingScale, RealNVPArchitecture, picture_shape
from ...training.config import TrainConfig
from ...training.presets import starting_config
from ..study import Findings, Study

Value = TypeVar("Value")

POINTS = 60
"""Of a training curve."""
VALIDATE_EVERY = 30.0
"""Seconds between two checkpoints of a trial."""
WITHOUT_END = 10**9
"""Images of a trial that the clock ends."""


@dataclass(frozen=True)
class Trial:
    """One training run of a study."""

    name: str
    """Of the configuration; part of a folder's name."""
    config: TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainedStudy(Study, ABC):
    """Trains models that differ in one thing, and compares them seed by seed.

    A subclass has `trials` and `measure`, and `check` where more can be wrong.
    """

    data: DataConfig = field(default_factory=DataConfig)
    images: int = 30_000
    """Training images that each trial sees."""
    minutes: float | None = None
    """Minutes of training of each trial, instead of a number of images."""
    seeds: int = 3
    """Trials of each configuration."""
    seed: int = 0
    """The first trial's; the others count on. Trials of one seed see the same images in the same
    order, with the same dequantisation noise."""
    hidden_channels: int = 64
    """Channels of the two hidden layers of Glow's coupling networks."""
    coupling_scale: CouplingScale = "bounded"
    """Of affine couplings: `sigmoid`, official; `bounded`: between 1/2 and 2; `exp`."""
    bits: int | None = None
    """Bits per pixel value; by default 8, of `digits` 4."""
    batch_size: int | None = None
    """Images per optimiser step; by default Glow's in `glow train`, for every kind of model: on as
    many images they take as many steps."""
    lr: float | None = None
    """Learning rate after the warm-up; by default that of `glow train` for the kind of model."""
    test_images: int = 500
    """Test images that are scored, at most."""
    draws: int = 4
    """Dequantisation noise draws of each test image."""

    @property
    def all_seeds(self) -> range:
        """Of every configuration."""
        return range(self.seed, self.seed + self.seeds)

    @abstractmethod
    def trials(self) -> list[Trial]:
        """Those that are known before any is trained."""

    def check(self, splits: Splits) -> None:
        """Refuse what cannot work before anything is computed.

        Raises:
            InputError: a number is too small, or the images do not fit a model.
        """
        check_trials(self, self.trials(), splits)

    @abstractmethod
    def measure(
        self, splits: Splits, folder: Path, *, device: str, progress: bool = True
    ) -> Findings:
        """Train every configuration for every seed below the folder, and compare.

        Args:
            splits: the data.
            folder: the study's; results that are there are taken.
            device: `cpu`, `cuda`, …
            progress: show bars.

        Raises:
            InputError: as `check`, or the folder cannot be written.
            KeyboardInterrupt: Ctrl-C; the same call goes on.
        """

    def trial(self, name: str, seed: int, model: Architecture | RealNVPArchitecture) -> Trial:
        """One run: optimiser and rate are those of `glow train` for the family, the batch Glow's.

        The warm-up is a tenth of the images, at most.
        """
        base = starting_config(self.data.data, model.family)
        images = self.images if self.minutes is None else WITHOUT_END
        batch_size = _given(self.batch_size, starting_config(self.data.data).batch_size)
        lines = base.log_every if self.minutes else images // max(1, batch_size) // POINTS
        config = replace(
            base,
            data=self.data,
            model=replace(model, bits=_given(self.bits, base.model.bits)),
            images=images,
            minutes=self.minutes,
            batch_size=batch_size,
            lr=_given(self.lr, base.lr),
            warmup_images=min(base.warmup_images, images // 10),
            seed=seed,
            log_every=max(1, lines),
            validate_every=VALIDATE_EVERY,
        )
        return Trial(name, config)

    def glow(self, **given: Any) -> Architecture:
        """A Glow of the study."""
        return Architecture(
            **{
                "hidden_channels": self.hidden_channels,
                "coupling_scale": self.coupling_scale,
                **given,
            }
        )


@dataclass(frozen=True, kw_only=True)
class GlowStudy(TrainedStudy):
    """Trains Glows of one depth."""

    levels: int = 2
    """L: number of scales."""
    steps: int = 8
    """K: steps of flow per level."""

    def glow(self, **given: Any) -> Architecture:
        """A Glow of the study."""
        return super().glow(levels=self.levels, steps=self.steps, **given)

    @property
    def size_in_words(self) -> str:
        """In words."""
        return f"{self.levels} levels of {self.steps} steps, {self.hidden_channels} hidden channels"


def _given(value: Value | None, default: Value) -> Value:
    return default if value is None else value


def check_trials(study: TrainedStudy, trials: Sequence[Trial], splits: Splits) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: a number is too small, or the images do not fit a model, or are none.
    """
    from ...training.initialisation import model_config_for

    picture_shape(splits.train.image_shape)
    require_at_least(study, 1, "seeds", "test_images", "draws")
    require_at_least(study, 0, "seed")
    for trial in trials:
        model_config_for(trial.config, splits)
