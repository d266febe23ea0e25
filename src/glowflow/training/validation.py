"""Held-out images: bits/dim, the model's health, and the best model so far."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..data.loader import batches
from ..data.types import ImageData
from ..models.flow import ImageFlow
from ..models.likelihood import bits_per_dim
from ..processes import gather_in_order, on_main_process, shard
from .checkpoint import save_best
from .health import as_metrics, concerns, measure_health
from .metrics import Metrics
from .state import TrainingState, Validated

VALIDATION_BATCH_SIZE = 64
"""Images of a batch of a validation."""


@torch.no_grad()
def validate(
    model: ImageFlow,
    data: ImageData,
    *,
    limit: int,
    batch_size: int = VALIDATION_BATCH_SIZE,
    seed: int = 0,
) -> float:
    """Mean bits/dim of the first `limit` images, with one noise draw, the same at each call.

    Each process scores its share of the images.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = data.part(0, limit)
    dimensions = math.prod(model.config.image_shape)
    shares = []
    for images, labels in batches(chosen, batch_size, seed=seed, epoch=0, drop_last=False):
        x = shard(model.to_float(images, generator=generator)).to(model.device)
        labels = shard(labels).to(model.device) if labels is not None else None
        log_prob = model.log_prob(x, labels if model.config.classes else None) if len(x) else x
        shares.append(gather_in_order(log_prob.flatten(), len(images)))
    bits = bits_per_dim(torch.cat(shares).double(), dimensions, model.config.bits)
    return float(bits.mean())


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What a run does now and then, and at its end: look at itself on held-out images."""

    data: ImageData
    limit: int
    """Images that bits/dim is the mean of."""
    every: float
    """Seconds of training from one to the next."""
    clip: float
    """Largest norm of the gradient, to which that of the newest line is compared."""
    log: Callable[[Metrics], None]
    """Called in process 0."""
    on_validation: Callable[[ImageFlow, int], None] | None
    """Called in process 0 with the averaged model and the number of images seen."""

    def is_due(self, state: TrainingState) -> bool:
        """Whether it is time for the next one."""
        return state.seconds - state.validated_at >= self.every

    def of_last_step(self, state: TrainingState) -> Validated:
        """The figures of the state as it is, measured if they have not been."""
        newest = state.validated
        return newest if newest is not None and newest.step == state.step else self(state)

    def __call__(self, state: TrainingState) -> Validated:
        """Save the state, measure its models, and keep the averaged one if it is the best yet."""
        state.validated_at = state.seconds
        on_main_process(state.save)
        with state.evaluating() as averaged:
            bits = validate(averaged, self.data, limit=self.limit)
            last = None
            if state.average is not None:
                last = validate(state.model, self.data, limit=self.limit)
            health = on_main_process(lambda: measure_health(averaged, self.data))
            metrics = Metrics(
                state.step,
                state.images,
                round(state.seconds, 2),
                valid_bits_per_dim=bits,
                valid_bits_per_dim_last=last,
                **as_metrics(health),
            )
            on_main_process(lambda: self._report(state, averaged, metrics, bits))
        state.best = min(state.best, bits)
        state.validated = Validated(state.step, bits, bits if last is None else last)
        return state.validated

    def _report(
        self, state: TrainingState, averaged: ImageFlow, metrics: Metrics, bits: float
    ) -> None:
        figures = {**metrics.to_dict(), "grad_norm": state.running.norm or 0.0}
        for line in concerns(figures, bits=averaged.config.bits, clip=self.clip):
            print(f"Warning: {line}", file=sys.stderr)
        if bits < state.best:
            save_best(state.run, averaged, state.step, bits)
        self.log(metrics)
        if self.on_validation is not None:
            self.on_validation(averaged, state.images)
