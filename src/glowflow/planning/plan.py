"""What a training run needs, before it starts: parameters, FLOPs, memory, time.

Nothing of the model is computed or allocated: it is made and run on fake tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from accelerate.utils import get_max_memory

from ..data.formats.named_arrays import SUFFIXES
from ..data.open import open_source
from ..errors import InputError
from ..models.config import (
    Architecture,
    FirstMap,
    GlowConfig,
    Memory,
    Precision,
    RealNVPArchitecture,
    RealNVPConfig,
)
from ..models.registry import make_model
from ..training.config import TrainConfig
from ..training.hardware import bf16_is_faster
from ..training.initialisation import model_config_of
from ..training.presets import PRESETS
from ..training.requirements import require_equal_parts
from .cost import count_parameters, forward_flops, memory_modes, passes
from .devices import ACCELERATORS, USABLE
from .fake_model import Config, Make
from .memory import RunMemory, run_memory
from .speed import Speed, measured_speed, published_speed, step_seconds

CLASSES = {"cifar10-conditional": 10, "imagenet32-conditional": 1000}
"""Classes of the data of the conditional presets."""
MOST = 2**20
"""Images of a device at once that are planned with, at most."""


@dataclass(frozen=True)
class Target:
    """A kind of device to plan for."""

    name: str
    """Of ACCELERATORS, or of a device that is here."""
    memory: int
    """Bytes that are planned with: USABLE of what it has, or of what is free where it is here."""
    precision: Precision
    speed: Speed

    @property
    def processor(self) -> bool:
        """Whether hidden layers are computed chunk by chunk."""
        return self.name == "cpu"


def make_target(
    name: str,
    config: Config,
    train: TrainConfig,
    batch: int,
    *,
    progress: bool = False,
    make: Make = make_model,
) -> Target:
    """A named accelerator by its published figures, or a device that is here by its own.

    `precision` auto is bf16 for a named one, and what is faster for one that is here.

    Args:
        name: of ACCELERATORS, or `cpu`, `cuda`, …
        config: of the model.
        train: of the run.
        batch: images of a device at once.
        progress: show a bar.
        make: makes the model.
    """
    if name in ACCELERATORS:
        figures = ACCELERATORS[name]
        precision: Precision = "float32" if train.precision == "float32" else "bf16"
        speed = published_speed(config, figures, precision, make=make)
        return Target(name, int(USABLE * figures.memory * 2**30), precision, speed)
    if train.precision == "auto":
        faster = bf16_is_faster(config.hidden_channels, torch.device(name))
        precision = "bf16" if faster else "float32"
    else:
        precision = train.precision
    device = torch.device(name)
    free = get_max_memory()
    memory = free[device.type if device.type in free else device.index or 0]
    speed = measured_speed(config, train, batch, name, precision, progress=progress, make=make)
    return Target(name, int(USABLE * memory), precision, speed)


@dataclass(frozen=True)
class ModePlan:
    """A run in one memory mode."""

    memory: Memory
    largest_batch: int
    """Images that one device can take at once; 0 if not even one."""
    at_once: int
    """Images of a device at once, in this plan."""
    accumulation: int
    """Forward and backward passes between two updates."""
    needs: RunMemory
    """Of one device, with `at_once` images."""
    flops: int
    """Of the training on one image."""
    seconds: float
    """Between two updates."""
    images_per_second: float
    """Of all devices."""
    days: float
    """To the run's number of images."""

    @property
    def fits(self) -> bool:
        """Whether a device can hold it."""
        return self.largest_batch > 0


@dataclass(frozen=True)
class Plan:
    """What a run needs in each memory mode that its model has."""

    config: Config
    target: Target
    devices: int
    batch: int
    """Images between two updates, of all devices."""
    images: int
    """To see in all."""
    parameters: int
    flops: int
    """Of log p(x) of one image."""
    modes: tuple[ModePlan, ...]


def share_of(train: TrainConfig, devices: int) -> int:
    """Images of one device between two updates.

    Raises:
        InputError: there are more devices than images in a batch, or none, or the batch does not
            divide between them and their `accumulate` parts.
    """
    if not 1 <= devices <= train.batch_size:
        raise InputError(
            f"devices is {devices}: give 1 to {train.batch_size}, the images of a batch."
        )
    require_equal_parts(train.batch_size, train.accumulate, devices)
    return train.batch_size // devices


def make_plan(
    train: TrainConfig,
    config: Config,
    target: Target,
    devices: int = 1,
    *,
    make: Make = make_model,
) -> Plan:
    """The plan of a run on `devices` devices of one kind.

    Each device has batch / devices images between two updates, and computes them in the run's
    `accumulate` parts, or in as many more as it takes for a part to fit. Devices are taken to add
    their speeds: what they tell each other costs no time here.

    Args:
        train: of the run.
        config: of its model.
        target: the kind of device.
        devices: how many.
        make: makes the model: for parts of one's own, `partial(Glow, network=MyNetwork)`.

    Raises:
        InputError: as `share_of`, or the model cannot be run on fake tensors.
    """
    share = share_of(train, devices)
    modes = memory_modes(config, make=make)
    return Plan(
        config,
        target,
        devices,
        train.batch_size,
        train.images,
        count_parameters(config, make=make),
        forward_flops(config, make=make),
        tuple(_plan_of(memory, train, config, target, share, make) for memory in modes),
    )


def _plan_of(
    memory: Memory, train: TrainConfig, config: Config, target: Target, share: int, make: Make
) -> ModePlan:
    def needs(batch: int, near: int | None = None) -> RunMemory:
        return run_memory(
            config,
            batch,
            memory,
            precision=target.precision,
            optimizer=train.optimizer,
            average=train.ema > 0,
            processor=target.processor,
            near=near,
            make=make,
        )

    def largest_by(near: int) -> int:
        return largest_batch(lambda batch: needs(batch, near).peak <= target.memory)

    part = share // train.accumulate
    largest = largest_by(part)
    if largest < part:  # where fewer layers are computed in chunks
        largest = largest_by(max(1, largest))
    parts = range(train.accumulate, share + 1)
    accumulation = next(n for n in parts if share % n == 0 and share // n <= max(1, largest))
    at_once = share // accumulation
    seconds = step_seconds(config, share, memory, target.speed, make=make)
    images_per_second = train.batch_size / seconds
    return ModePlan(
        memory,
        largest,
        at_once,
        accumulation,
        needs(at_once),
        passes(memory) * forward_flops(config, make=make),
        seconds,
        images_per_second,
        train.images / images_per_second / 86_400,
    )


def largest_batch(fits: Callable[[int], bool]) -> int:
    """The largest number up to MOST that fits, where all smaller ones do; 0 if 1 does not."""
    low, high = 0, MOST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def planned_config(train: TrainConfig, preset: str | None = None, classes: int = 0) -> Config:
    """The model that this run trains; of the data only a file of arrays is looked at, for what they
    are.

    Args:
        train: of the run.
        preset: its name, if it is a published run: the conditional ones have known classes.
        classes: of the data of a conditional run; a file of arrays has its own.

    Raises:
        InputError: the size of the images or the classes are not given, the run is in float64, or
            a file is not there or does not fit.
    """
    if train.data.dtype != "float32":
        raise InputError(
            f"Plans are of float32: leave --dtype {train.data.dtype} out; it takes twice the bytes."
        )
    if classes and not train.conditional:
        raise InputError("classes are given, but the run is not conditional: add --conditional.")
    named = train.data.target is not None or train.data.condition is not None
    if named or train.data.data.lower().endswith((".npy", *SUFFIXES)):
        return _of_arrays(train)
    if train.data.grid in (1, 3):
        raise InputError(
            "A grid of one or three axes is planned from a file of arrays: give --data FILE."
        )
    if train.data.size is None:
        raise InputError(
            f"The size of the images is not given: give --size HEIGHT WIDTH, or one of "
            f"--preset {', '.join(PRESETS)}."
        )
    if train.conditional:
        classes = classes or CLASSES.get(preset or "", 0)
        if classes < 1:
            raise InputError("The run is conditional: give --classes, the number of classes.")
    image_shape = (train.data.channels or 3, *train.data.size)
    if isinstance(train.model, RealNVPArchitecture):
        return RealNVPConfig.of(train.model, image_shape)
    largest: FirstMap = "interlaced" if train.data.fit == "patches" else "whitening"
    return GlowConfig.of(_decided(train.model, largest), image_shape, classes)


def _of_arrays(train: TrainConfig) -> Config:
    """Of a file of arrays."""
    source = open_source(train.data)
    if isinstance(train.model, Architecture):
        largest: FirstMap = "standardize" if source.conditions else "whitening"
        if source.dtype != "uint8" and not source.conditions and train.model.padding == "periodic":
            largest = "spectral"
        train = replace(train, model=_decided(train.model, largest))
    given, classes = source.conditions, len(source.class_names)
    return model_config_of(train, source.title, source.shape, source.dtype, given, classes)


def _decided(model: Architecture, largest: FirstMap) -> Architecture:
    """With the larger of the first maps that `auto` chooses from by looking at images."""
    return replace(model, first_map=largest) if model.first_map == "auto" else model
