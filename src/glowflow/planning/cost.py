"""What a model costs, by running it on fake tensors: parameters and FLOPs.

A level's steps are alike: each adds what the one before it added. So models of FEW and of MORE
steps a level are run, and what comes out is extended to the model's steps.

`make` makes the model of a configuration: for parts of one's own,
`functools.partial(Glow, network=MyNetwork)`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import torch

from ..errors import InputError
from ..models.config import GlowConfig, Memory, Precision
from ..models.registry import make_model
from .fake_model import Config, FakeModel, Make, fake_model, levels_of
from .recorder import MANY, Line

Result = TypeVar("Result")

FEW, MORE = 2, 3
"""Steps of a level in the models that are run."""


@dataclass(frozen=True)
class Weights:
    """The sizes of a model."""

    parameters: int
    """Trainable numbers."""
    parameter_bytes: int
    buffer_bytes: int


@cache
def weights_of(config: Config, *, make: Make = make_model) -> Weights:
    """The sizes of a model's parameters and buffers.

    Raises:
        InputError: the model cannot be made of fake tensors.
    """

    def sizes(fake: FakeModel) -> tuple[int, int, int]:
        parameters, buffers = list(fake.model.parameters()), list(fake.model.buffers())
        count = sum(w.numel() for w in parameters)
        return count, sum(w.nbytes for w in parameters), sum(b.nbytes for b in buffers)

    return Weights(*(extend(config, each) for each in zip(*run(config, make, sizes), strict=True)))


def count_parameters(config: Config, *, make: Make = make_model) -> int:
    """Trainable weights."""
    return weights_of(config, make=make).parameters


@cache
def memory_modes(config: Config, *, make: Make = make_model) -> tuple[Memory, ...]:
    """The memory modes that a model has."""
    return run(config, make, FakeModel.memory_modes)[0]


@cache
def level_flops(
    config: Config, precision: Precision, *, make: Make = make_model
) -> tuple[dict[torch.dtype, int], ...]:
    """Of one image's log p(x) in each level, by the dtype that is computed in.

    Two for each multiplication and addition of products of matrices and of convolutions. What is
    done once a batch, such as making the matrices of the 1x1 convolutions, is left out.

    Raises:
        InputError: the model cannot be run on fake tensors, or not in this precision.
    """
    traces = run(config, make, lambda fake: fake.forward(MANY, precision, False))
    levels = run(config, make, lambda fake: len(levels_of(fake.model)))[0]
    flops: list[dict[torch.dtype, int]] = [{} for _ in range(levels)]
    for level, dtype in sorted({key for trace in traces for key in trace.flops}, key=str):
        each = [trace.flops.get((level, dtype), Line(0)).by_image for trace in traces]
        flops[level][dtype] = extend(config, each)
    return tuple(flops)


def forward_flops(config: Config, *, make: Make = make_model) -> int:
    """Of log p(x) of one image."""
    return sum(sum(flops.values()) for flops in level_flops(config, "float32", make=make))


def passes(memory: Memory) -> int:
    """Training FLOPs / forward FLOPs: one forward, two backward; `reversible` one more forward."""
    return 3 if memory == "stored" else 4


def run(config: Config, make: Make, call: Callable[[FakeModel], Result]) -> list[Result]:
    """What a call gives for the configuration, or for those that it is extended from."""
    configs = [config]
    if isinstance(config, GlowConfig) and config.steps > MORE:
        configs = [replace(config, steps=FEW), replace(config, steps=MORE)]
    try:
        return [call(fake_model(each, make, meta=True)) for each in configs]
    except InputError:
        return [call(fake_model(each, make, meta=False)) for each in configs]


def extend(config: Config, values: Sequence[int]) -> int:
    """The value of the configuration, from those that `run` gave."""
    if len(values) == 1 or not isinstance(config, GlowConfig):
        return values[0]
    few, more = values
    return few + (config.steps - FEW) * (more - few) // (MORE - FEW)
