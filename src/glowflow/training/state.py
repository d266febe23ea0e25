"""What changes while a run trains: kept in its checkpoints, and gone on from."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch.optim.swa_utils import AveragedModel

from ..errors import TrainingError
from ..files import remove_leftovers
from ..models.config import Precision
from ..models.flow import ImageFlow
from ..models.glow import Glow
from ..processes import broadcast, on_every_process, on_main_process
from .batches import Place
from .checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    optimizer_state_for,
    save_checkpoint,
)
from .config import TrainConfig
from .diagnosis import describe
from .metrics import Metrics, RunningMetrics
from .run import Run


class Validated(NamedTuple):
    """Bits/dim of held-out images after so many steps."""

    step: int
    bits_per_dim: float
    """Of the averaged weights."""
    bits_per_dim_last: float
    """Of the last ones; the same, where there is no average."""


@dataclass
class TrainingState:
    """A run after `step` optimiser steps."""

    run: Run
    model: ImageFlow
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    precision: Precision = "float32"
    """What the coupling networks compute in while training."""
    step: int = 0
    images: int = 0
    """Images seen."""
    place: Place = field(default_factory=Place)
    """In the order of the images."""
    seconds: float = 0.0
    """Of the steps and of the validations between them."""
    running: RunningMetrics = field(default_factory=lambda: RunningMetrics(since=0.0))
    best: float = math.inf
    """Validation bits/dim of the model in `best/`."""
    validated: Validated | None = None
    """The newest validation since the start."""
    validated_at: float = 0.0
    """`seconds` at its end, or at the start."""
    interrupted: bool = False
    """Whether a process has been told to stop."""

    @property
    def averaged(self) -> ImageFlow:
        """The model to show and to save: the averaged weights, where there is an average."""
        model: Any = self.model if self.average is None else self.average.module
        return model

    @property
    def has_first_map(self) -> bool:
        """Whether the model codes images before its first step."""
        return isinstance(self.model, Glow) and self.model.first_map is not None

    @contextmanager
    def evaluating(self) -> Iterator[ImageFlow]:
        """The averaged model, frozen; it and the last one in eval mode and float32."""
        for model in (self.model, self.averaged):
            model.use(precision="float32").eval()
        try:
            with self.averaged.frozen():
                yield self.averaged
        finally:
            self.go_on()

    def go_on(self) -> None:
        """Back to training, in the run's precision."""
        self.model.use(precision=self.precision).train()

    def broadcast(self) -> None:
        """Give every process the weights of process 0, in the model and in its average."""
        broadcast(self.model.state_dict().values())
        if self.average is not None:
            self.averaged.load_state_dict(self.model.state_dict())

    def save(self) -> None:
        """Write a checkpoint, and the averaged model.

        Raises:
            TrainingError: a weight is not finite.
            InputError: the folder cannot be written.
        """
        for name, weight in self.model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise self.not_finite(f"the weight {describe(name)}")
        checkpoint = Checkpoint(
            step=self.step,
            seconds=self.seconds,
            model=self.model.state_dict(),
            average={} if self.average is None else self.averaged.state_dict(),
            optimizer=self.optimizer.state_dict(),
            window=asdict(self.running),
            images=self.images,
            epoch=self.place.epoch,
            image=self.place.image,
        )
        save_checkpoint(self.run.folder, checkpoint, self.run.config.keep)
        self.averaged.save_pretrained(self.run.folder)

    def restore(self, before: TrainConfig) -> Checkpoint:
        """Go back to the newest checkpoint, which process 0 reads and hands out.

        Args:
            before: what the run was trained with until then.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of another architecture.
        """
        on_main_process(lambda: remove_leftovers(self.run.folder))
        checkpoint = on_main_process(lambda: load_checkpoint(self.run.folder))
        on_every_process(lambda: self._take(checkpoint, before))
        return checkpoint

    def _take(self, checkpoint: Checkpoint, before: TrainConfig) -> None:
        source = str(self.run.folder)
        self.model.load_weights(checkpoint.model, source)
        if self.average is not None:
            self.averaged.load_weights(checkpoint.average or checkpoint.model, source)
            self.average.n_averaged.fill_(checkpoint.step if checkpoint.average else 0)
        self.optimizer.load_state_dict(optimizer_state_for(self.model, checkpoint))
        self.step = checkpoint.step
        self.images, self.place = _images_and_place(checkpoint, before, self.run)
        self.seconds = self.validated_at = checkpoint.seconds
        self.running = RunningMetrics(**{"since": checkpoint.seconds, **checkpoint.window})

    @property
    def current_validation(self) -> Validated | None:
        """The validation of the weights as they are, if there has been one."""
        newest = self.validated
        return newest if newest is not None and newest.step == self.step else None

    @property
    def line_is_due(self) -> bool:
        """Whether metrics.jsonl gets a line after this step."""
        return self.step % self.run.config.log_every == 0

    @property
    def validation_is_due(self) -> bool:
        """Whether it is time for a validation."""
        return self.seconds - self.validated_at >= self.run.config.validate_every

    def close_line(self) -> Metrics:
        """The line of metrics.jsonl about the steps since the line before."""
        rate = self.optimizer.param_groups[0]["lr"]
        return self.running.close(self.step, self.images, self.seconds, rate)

    def not_finite(self, where: str) -> TrainingError:
        """What stops the run in the step after this one."""
        last = list_checkpoints(self.run.folder)
        kept = f"the last good checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
        return TrainingError(
            f"Training stopped at step {self.step + 1}: {where} is NaN or infinite; {kept}; "
            "start again with a smaller --lr or longer --warmup-images."
        )


def _images_and_place(checkpoint: Checkpoint, before: TrainConfig, run: Run) -> tuple[int, Place]:
    """Those of the checkpoint; a version that kept neither had one size of batches."""
    count = len(run.splits.train)
    batch = min(before.batch_size, count)
    epoch, steps = divmod(checkpoint.step, max(1, count // batch))
    if checkpoint.images is None or checkpoint.epoch is None or checkpoint.image is None:
        return checkpoint.step * batch, Place(epoch, steps * batch)
    return checkpoint.images, Place(checkpoint.epoch, checkpoint.image)
