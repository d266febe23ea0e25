"""Held-out images: bits/dim, the model's health, and the best model so far."""

import math
import sys
import time
from collections.abc import Callable

import torch

from ..data.loader import batches
from ..data.partition import spread
from ..data.types import ImageData
from ..models.flow import ImageFlow
from ..models.likelihood import bits_per_dim, name_of_data
from ..processes import gather_in_order, max_over_processes, on_main_process, shard
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
    """Mean bits/dim of `limit` images, evenly spread over the data and their classes.

    There is one noise draw, the same at each call.

    Each process scores its share of the images.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = spread(data, limit)
    dimensions = math.prod(model.config.image_shape)
    shares = []
    with model.frozen():
        for images, labels in batches(chosen, batch_size, seed=seed, epoch=0, drop_last=False):
            x = shard(model.to_float(images, generator=generator)).to(model.device)
            labels = shard(labels).to(model.device) if labels is not None else None
            log_prob = model.log_prob(x, labels if model.is_conditional else None) if len(x) else x
            shares.append(gather_in_order(log_prob.flatten(), len(images)))
    bits = bits_per_dim(torch.cat(shares).double(), dimensions, model.config.bits)
    return float(bits.mean())


def validate_state(
    state: TrainingState,
    log: Callable[[Metrics], None],
    on_validation: Callable[[ImageFlow, int], None] | None,
) -> Validated:
    """Save the state, measure its models, and keep the averaged one if it is the best yet.

    Args:
        state: whose `validated` and `best` are new afterwards.
        log: called in process 0 with the figures.
        on_validation: called in process 0 with the averaged model and the number of images seen.
    """
    started = time.monotonic()
    on_main_process(state.save)
    data, limit = state.run.splits.valid, state.run.config.validation_images
    with state.evaluating() as averaged:
        bits = last = validate(averaged, data, limit=limit)
        if state.average is not None:
            last = validate(state.model, data, limit=limit)
        health = on_main_process(lambda: measure_health(averaged, data))
        metrics = Metrics(
            state.step,
            state.images,
            round(state.seconds, 2),
            valid_bits_per_dim=bits,
            valid_bits_per_dim_last=None if state.average is None else last,
            **as_metrics(health),
        )

        def report() -> None:
            _warn(state, metrics)
            if bits < state.best:
                save_best(state.run.folder, averaged, state.step, bits)
            log(metrics)
            if on_validation is not None:
                on_validation(averaged, state.images)

        on_main_process(report)
    state.best = min(state.best, bits)
    state.validated = Validated(state.step, bits, last)
    (took,) = max_over_processes(time.monotonic() - started)
    state.validated_at = state.seconds + took
    state.running.since += took  # images per second are of the steps
    return state.validated


def _warn(state: TrainingState, metrics: Metrics) -> None:
    figures = {**metrics.to_dict(), "grad_norm": state.running.norm or 0.0}
    if state.running.smoothed is not None:
        figures["bits_per_dim"] = state.running.smoothed
    bits, clip = state.model.config.bits, state.run.config.clip
    for line in concerns(figures, bits=bits, clip=clip, name=name_of_data(bits)):
        print(f"Warning: {line}", file=sys.stderr)
