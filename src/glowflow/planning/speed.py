"""How fast a device trains: by its published figures, or by timing the one that is here."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..bijections import Bijection
from ..models.conditions import ConditionalGlowConfig
from ..models.config import GlowConfig, Memory, Precision
from ..models.flow import ImageFlow
from ..models.glow import Level
from ..models.registry import make_model
from ..training.config import TrainConfig
from ..training.optimisation import make_average, make_optimizer
from .cost import count_parameters, level_flops, passes
from .devices import UTILISATION, DeviceFigures
from .fake_model import Config, Make, batch_of, levels_of

CALIBRATION_ROWS = {True: 2**12, False: 2**16}
"""Pixels of the batch by which a processor (True) or an accelerator is timed."""
CALIBRATION_SECONDS = 0.3
"""Of each thing that is timed, or three turns if they take longer."""
CALIBRATION_WEIGHTS = (64, 2**16)
"""Number and size of the weights whose update is timed: more than caches hold."""
UPDATE_BYTES = 27 * 4
"""What moves to and from memory for a parameter's update: Adamax 14 values, clipping 3, the average
3, adding up and clearing the gradient 7."""
HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Speed:
    """What a device reaches."""

    levels: tuple[float, ...]
    """FLOP/s of the training of each level."""
    update: float
    """Parameters a second, of clipping, the optimiser's step and the average."""


def published_speed(
    config: Config, device: DeviceFigures, precision: Precision, *, make: Make = make_model
) -> Speed:
    """UTILISATION of the published peak; bandwidth / UPDATE_BYTES for the update.

    A level's peak is Σ F / Σ (F / peak), with F its FLOPs in each dtype: in bf16 those of the
    coupling networks run in it, the others stay in float32.
    """
    peaks = []
    for flops in level_flops(config, precision, make=make):
        seconds = sum(
            count / (device.bf16 if dtype in HALF else device.float32)
            for dtype, count in flops.items()
        )
        peaks.append(1e12 * (sum(flops.values()) / seconds if seconds else device.float32))
    return Speed(tuple(UTILISATION * peak for peak in peaks), 1e9 * device.bandwidth / UPDATE_BYTES)


def measured_speed(
    config: Config,
    train: TrainConfig,
    batch: int,
    device: str,
    precision: Precision,
    *,
    progress: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    make: Make = make_model,
) -> Speed:
    """FLOP/s = 3·forward FLOPs / seconds of a forward and backward pass at each level.

    Of a Glow's level, that is a pass of one step of flow.

    Args:
        config: of the model.
        train: of the optimiser and the average.
        batch: images of a device at once; fewer are timed where they have many pixels.
        device: `cpu`, `cuda`, …
        precision: of the coupling networks.
        progress: show a bar.
        clock: in seconds; `time.process_time` leaves out the time of other programs.
        make: makes the model.
    """
    shallow = replace(config, steps=1) if isinstance(config, GlowConfig) else config
    with torch.random.fork_rng():
        model = make(shallow).to(device).use(precision=precision)
        levels = _levels_with_inputs(model)
        show = track(
            levels, "timing the device", disable=not progress, console=Console(stderr=True)
        )
        by_level = tuple(_speed_of(*level, batch, device, clock) for level in show)
    count, size = CALIBRATION_WEIGHTS
    return Speed(by_level, count * size / _seconds(_update(train, device), device, clock))


@torch.no_grad()
def _levels_with_inputs(model: ImageFlow) -> list[tuple[Bijection, Tensor, Tensor | None]]:
    """What is timed of each level, and what goes into it: one image, or what has become of it, and
    the feature maps of what it is given."""
    entered: list[tuple[Any, Tensor, Tensor | None]] = []
    levels = levels_of(model)
    hooks = [
        level.register_forward_pre_hook(
            lambda level, inputs: entered.append((level, inputs[0], (*inputs, None)[1]))
        )
        for level in levels
    ]
    image, given = batch_of(model.config, 1)
    model.log_prob(image.to(model.device), None if given is None else given.to(model.device))
    for hook in hooks:
        hook.remove()
    maps = isinstance(model.config, ConditionalGlowConfig)  # labels reach no step
    return [
        (level.steps, level.squeeze(x)[0], context if maps else None)
        if isinstance(level, Level)
        else (level, x, None)
        for level, x, context in entered
    ]


def _speed_of(
    part: Bijection,
    one: Tensor,
    context: Tensor | None,
    batch: int,
    device: str,
    clock: Callable[[], float],
) -> float:
    rows = CALIBRATION_ROWS[device == "cpu"]
    images = max(1, min(batch, rows // one[0, 0].numel()))
    x = torch.randn(images, *one.shape[1:], device=device)
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    x, given = x.requires_grad_(), _repeated(context, images)
    part.initialize(x, given)

    def train() -> None:
        y, log_det = part(x, given)
        torch.autograd.backward(y.square().mean() - log_det.mean())

    two = torch.cat((one, one))
    flops = _flops(part, two, _repeated(context, 2)) - _flops(part, one, context)
    return passes("stored") * images * flops / _seconds(train, device, clock)


def _repeated(context: Tensor | None, images: int) -> Tensor | None:
    return None if context is None else context.repeat(images, *(1 for _ in context.shape[1:]))


@torch.no_grad()
def _flops(part: Bijection, x: Tensor, context: Tensor | None) -> int:
    with FlopCounterMode(display=False) as counter:
        part(x, context)
    return counter.get_total_flops()


def _update(train: TrainConfig, device: str) -> Callable[[], None]:
    """Clipping, the optimiser's step and the average, of CALIBRATION_WEIGHTS."""
    count, size = CALIBRATION_WEIGHTS
    weights = nn.ParameterList(torch.ones(size, device=device) for _ in range(count))
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer = make_optimizer(weights, train.optimizer, train.lr)
    average = make_average(weights, train.ema) if train.ema else None

    def update() -> None:
        nn.utils.clip_grad_norm_(weights, train.clip)
        optimizer.step()
        if average is not None:
            average.update_parameters(weights)

    return update


def _seconds(call: Callable[[], None], device: str, clock: Callable[[], float]) -> float:
    """Median of several turns, after one that does not count."""

    def turn() -> float:
        start = clock()
        call()
        if torch.device(device).type != "cpu":
            torch.accelerator.synchronize()
        return clock() - start

    turn()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < CALIBRATION_SECONDS:
        taken.append(turn())
    return statistics.median(taken)


def step_seconds(
    config: Config, images: int, memory: Memory, speed: Speed, *, make: Make = make_model
) -> float:
    """images · passes · Σ_levels FLOPs / (FLOP/s) + parameters / (parameters a second).

    Args:
        config: of the model.
        images: of one device between two updates.
        memory: `stored` or `reversible`.
        speed: of the device.
        make: makes the model.
    """
    by_image = sum(
        sum(flops.values()) / rate
        for flops, rate in zip(level_flops(config, "float32", make=make), speed.levels, strict=True)
    )
    return images * passes(memory) * by_image + count_parameters(config, make=make) / speed.update
