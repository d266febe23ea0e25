"""What a training run holds in memory, by running its model on fake tensors; see `cost.py`.

The bytes at each place of a pass are extended to the model's steps and to the batch. The peak is
the largest of all places; which one that is depends on steps and batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..models.config import Memory, Precision
from ..models.registry import make_model
from ..training.config import Optimizer
from ..training.initialisation import initial_batch_size
from ..training.optimisation import make_optimizer
from ..training.validation import VALIDATION_BATCH_SIZE
from .cost import extend, run, weights_of
from .fake_model import Config, Make
from .recorder import MANY, Line, Recorder, Trace


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a forward and backward pass beyond weights, gradients and optimiser state."""

    activations: int
    """What the forward pass keeps."""
    temporary: int
    """How far a pass rises above that."""

    @property
    def peak(self) -> int:
        """Both."""
        return self.activations + self.temporary


def step_memory(
    config: Config,
    batch: int,
    memory: Memory,
    *,
    precision: Precision = "float32",
    processor: bool = False,
    near: int | None = None,
    make: Make = make_model,
) -> StepMemory:
    """What a forward and backward pass on a batch takes.

    Args:
        config: of the model.
        batch: images of a device at once.
        memory: `stored` or `reversible`.
        precision: of the coupling networks.
        processor: whether hidden layers are computed chunk by chunk.
        near: for a processor, another batch, that is run to see what chunks save; without it this
            one is, which takes longer the larger it is.
        make: makes the model.

    Raises:
        InputError: the model cannot be run on fake tensors, or not in this mode or precision.
    """

    def at(images: int, n: int) -> StepMemory:
        kept, places = _step_lines(config, images, memory, precision, processor, make)
        return StepMemory(kept.at(n), _peak(places, n) - kept.at(n))

    if not processor:
        return at(MANY, batch)
    if near is None:
        return at(batch, batch)
    whole = at(MANY, batch)
    saved = at(near, near).temporary / max(1, at(MANY, near).temporary)
    return StepMemory(whole.activations, math.ceil(whole.temporary * saved))


@cache
def _step_lines(
    config: Config, images: int, memory: Memory, precision: Precision, processor: bool, make: Make
) -> tuple[Line, tuple[Line, ...]]:
    traces = run(config, make, lambda fake: fake.step(images, memory, precision, processor))
    return _extend(config, [trace.kept for trace in traces]), _places(config, traces)


@cache
def forward_memory(
    config: Config, batch: int, *, processor: bool = False, make: Make = make_model
) -> StepMemory:
    """What log p(x) without gradients takes: the matrices that a frozen model keeps, and above."""
    images = batch if processor else MANY
    traces = run(config, make, lambda fake: fake.forward(images, "float32", processor))
    kept = _extend(config, [trace.kept for trace in traces]).at(batch)
    return StepMemory(kept, _peak(_places(config, traces), batch))


@cache
def initialization_memory(
    config: Config, *, processor: bool = False, make: Make = make_model
) -> int:
    """Peak of the data-dependent initialisation."""
    batch = initial_batch_size(config)
    traces = run(config, make, lambda fake: fake.initialization(batch, processor))
    return _peak(_places(config, traces), batch)


@cache
def optimizer_memory(parameters: int, name: Optimizer) -> tuple[int, int]:
    """What an optimiser of so many float32 parameters keeps, and takes above that for a step: of
    `muon` as if no parameter were a matrix, which keeps the most."""
    with FakeTensorMode(), Recorder(meta=False) as recorder:
        weights = nn.ParameterList([torch.empty(parameters)])
        weights[0].grad = torch.empty(parameters)
        optimizer = make_optimizer(weights, name, 1.0)
        recorder.start(1, processor=True)
        optimizer.step()
        kept = sum(value.nbytes for value in optimizer.state[weights[0]].values() if value.dim())
        return kept, max(line.constant for line in recorder.trace().highest.values()) - kept


def _places(config: Config, traces: Sequence[Trace]) -> tuple[Line, ...]:
    """The bytes at each place that all traces have been at."""
    common = set.intersection(*(set(trace.highest) for trace in traces))
    lines = (_extend(config, [trace.highest[place] for trace in traces]) for place in common)
    return tuple(set(lines))


def _extend(config: Config, lines: Sequence[Line]) -> Line:
    constant, by_image = zip(*lines, strict=True)
    return Line(extend(config, constant), extend(config, by_image))


def _peak(places: Sequence[Line], batch: int) -> int:
    return max((line.at(batch) for line in places), default=0)


@dataclass(frozen=True)
class RunMemory:
    """Bytes of a training run on one device, by what they are for."""

    weights: int
    """Parameters and buffers."""
    gradients: int
    optimizer: int
    """What it keeps from step to step."""
    average: int
    """The averaged model; 0 without one."""
    activations: int
    temporary: int
    update: int
    """What the optimiser's step takes, after the backward pass has freed the activations."""
    initialization: int
    """Before there are gradients and an optimiser."""
    validation: int
    """Of the model while its average, if there is one, is frozen too."""

    @property
    def state(self) -> int:
        """What stays from step to step."""
        return self.weights + self.gradients + self.optimizer + self.average

    @property
    def peak(self) -> int:
        """The largest of a step, an update, a validation and the initialisation."""
        step = self.activations + self.temporary
        running = self.state + max(step, self.update, self.validation)
        return max(running, self.weights + self.average + self.initialization)


def run_memory(
    config: Config,
    batch: int,
    memory: Memory,
    *,
    precision: Precision = "float32",
    optimizer: Optimizer = "adamax",
    average: bool = True,
    processor: bool = False,
    near: int | None = None,
    make: Make = make_model,
) -> RunMemory:
    """Weights + gradients + optimiser state + average + the highest of what comes and goes.

    Args:
        config: of the model.
        batch: images of a device at once.
        memory: `stored` or `reversible`.
        precision: of the coupling networks, in training.
        optimizer: its name.
        average: whether averaged weights are kept.
        processor: whether hidden layers are computed chunk by chunk.
        near: as `step_memory` takes it.
        make: makes the model.

    Raises:
        InputError: as `step_memory`.
    """
    sizes = weights_of(config, make=make)
    weights = sizes.parameter_bytes + sizes.buffer_bytes
    kept, update = optimizer_memory(sizes.parameters, optimizer)
    step = step_memory(
        config, batch, memory, precision=precision, processor=processor, near=near, make=make
    )
    validation = forward_memory(config, VALIDATION_BATCH_SIZE, processor=processor, make=make)
    return RunMemory(
        weights=weights,
        gradients=sizes.parameter_bytes,
        optimizer=kept,
        average=weights if average else 0,
        activations=step.activations,
        temporary=step.temporary,
        update=update,
        initialization=initialization_memory(config, processor=processor, make=make),
        validation=validation.peak + (validation.activations if average else 0),
    )
