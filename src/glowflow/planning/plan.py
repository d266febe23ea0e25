"""What a training run needs, before it starts: parameters, FLOPs, memory, time.

Every count follows from the configuration alone; nothing of the model is allocated. The memory is
what `networks.py`, `steps.py`, `reversible.py` and `priors.py` keep and use, tensor by tensor.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate.utils import get_max_memory
from rich.console import Console
from rich.progress import track
from torch import nn

from ..errors import InputError
from ..fused.steps import Steps
from ..models.config import GlowConfig, Memory, Precision, RealNVPArchitecture
from ..models.glow import Step
from ..nn.coupling_network import CouplingNetwork
from ..nn.rows import CHUNK, ENDS
from ..training.config import Optimizer, TrainConfig
from ..training.hardware import bf16_is_faster
from ..training.initialisation import initial_batch_size
from ..training.optimisation import make_average, make_optimizer
from ..training.presets import PRESETS
from ..training.requirements import require_equal_parts
from ..training.validation import VALIDATION_BATCH_SIZE

FLOAT = 4
"""Bytes of a weight, of a gradient and of a value of the flow."""
COMPUTED = {"float32": 4, "bf16": 2}
"""Bytes of a value inside the coupling networks."""
CLASSES = {"cifar10-conditional": 10, "imagenet32-conditional": 1000}
"""Classes of the data of the conditional presets."""
MODES: tuple[Memory, ...] = ("stored", "reversible")
UTILISATION = 0.35
"""Share of its published peak that a named accelerator is taken to reach."""
USABLE = 0.9
"""Share of a device's memory that is planned with; the rest is the driver's, the libraries' and
lost between allocations."""
CALIBRATION_ROWS = {True: 2**12, False: 2**16}
"""Pixels of the batch by which a processor (True) or an accelerator is timed."""
CALIBRATION_SECONDS = 0.3
"""Of each thing that is timed, or three turns if they take longer."""
CALIBRATION_WEIGHTS = (64, 2**16)
"""Number and size of the weights whose update is timed: more than caches hold."""
MOST = 2**20
"""Images of a device at once that are planned with, at most."""
UPDATE_BYTES = 27 * FLOAT
"""What moves to and from memory for a parameter's update: Adamax 14 values, clipping 3, the average
3, adding up and clearing the gradient 7."""


@dataclass(frozen=True)
class Accelerator:
    """The published figures of an accelerator: dense, without sparsity."""

    memory: int
    """GiB."""
    float32: float
    """Peak TFLOP/s outside the tensor cores: PyTorch's own setting for float32 leaves TF32 out."""
    bf16: float
    """Peak TFLOP/s with float32 sums."""
    bandwidth: float
    """GB/s of the memory."""


ACCELERATORS = {
    "a100": Accelerator(80, 19.5, 312, 2039),
    "a100-40gb": Accelerator(40, 19.5, 312, 1555),
    "h100": Accelerator(80, 66.9, 989, 3350),
    "h200": Accelerator(141, 66.9, 989, 4800),
    "l4": Accelerator(24, 30.3, 121, 300),
    "l40s": Accelerator(48, 91.6, 362, 864),
    "rtx3090": Accelerator(24, 35.6, 71, 936),
    "rtx4090": Accelerator(24, 82.6, 165, 1008),
}
"""By the name that `glow plan --device` takes; of a100, h100 and h200 the SXM form."""


@dataclass(frozen=True)
class Level:
    """What the steps of one level see."""

    config: GlowConfig
    channels: int
    height: int
    width: int
    last: bool

    @property
    def pixels(self) -> int:
        """Of one image."""
        return self.height * self.width

    @property
    def half(self) -> int:
        """Channels that condition, as many as are changed."""
        return self.channels // 2

    @property
    def row(self) -> int:
        """Columns of a gathered row of `half` channels."""
        return 9 * self.half + ENDS

    @property
    def outputs(self) -> int:
        """Channels that come out of a coupling's network."""
        return self.channels if self.config.coupling == "affine" else self.half

    @property
    def network_weights(self) -> int:
        """Values of a coupling's matrices: H·row + H² + H + 9·outputs·H."""
        hidden = self.config.hidden_channels
        return hidden * (self.row + hidden + 1 + 9 * self.outputs)


def levels(config: GlowConfig) -> list[Level]:
    """The levels, first one first: each halves height and width and doubles the channels."""
    channels, height, width = config.image_shape
    count = config.levels
    return [
        Level(config, channels * 2 ** (n + 1), height // 2**n, width // 2**n, n == count)
        for n in range(1, count + 1)
    ]


def count_parameters(config: GlowConfig) -> int:
    """Trainable weights, Σ_levels [K·step + split] + top.

    With c channels, k = c/2, o outputs of the coupling's network and H hidden channels:
    step = 2c + c² (0 instead of c² for a fixed permutation) + H(9k + 11) + H(H + 2) + o(9H + 11),
    split = c(9k + 11), and on C channels with Y classes top = 2C(18C + 11) + 2C(Y + 2) + Y(C + 2).
    """
    H, Y = config.hidden_channels, config.classes
    total = 0
    for level in levels(config):
        c, k, o = level.channels, level.half, level.outputs
        mixing = c * c if config.permutation in ("lu", "plain") else 0
        step = 2 * c + mixing + H * (9 * k + 11) + H * (H + 2) + o * (9 * H + 11)
        total += config.steps * step
        if not level.last:
            total += c * (9 * k + 11)
        else:
            total += 2 * c * (18 * c + 11) if config.learn_top else 0
            total += 2 * c * (Y + 2) + Y * (c + 2) if Y else 0
    return total


def buffer_bytes(config: GlowConfig) -> int:
    """Bytes beside the weights: of a step three flags, and 12c + 8c(c − 1) of an LU form's
    positions, signs and order, or 8c + 4 of a fixed permutation's order."""
    total = 0
    for level in levels(config):
        c = level.channels
        mixing = {"lu": 12 * c + 8 * c * (c - 1), "plain": 0}.get(config.permutation, 8 * c + 4)
        total += config.steps * (3 + mixing)
    return total


def network_flops(level: Level) -> int:
    """2·h·w·[H·row + H² + 9·o·H] of one image in one coupling's network, forward."""
    H = level.config.hidden_channels
    return 2 * level.pixels * H * (level.row + H + 9 * level.outputs)


def level_flops(level: Level) -> tuple[int, int]:
    """Of one image, forward: K coupling networks, and K 1x1 convolutions 2·h·w·c² and the split.

    The split's convolution is 2·h·w·c·row. The matrices of the 1x1 convolutions and the top prior
    are made once a batch, and are left out.
    """
    c, K = level.channels, level.config.steps
    split = 0 if level.last else 2 * level.pixels * c * level.row
    return K * network_flops(level), K * 2 * level.pixels * c * c + split


def forward_flops(config: GlowConfig) -> int:
    """Of log p(x) of one image: 2 for each multiplication and addition of its matrix products."""
    return sum(sum(level_flops(level)) for level in levels(config))


def passes(memory: Memory) -> int:
    """Training FLOPs / forward FLOPs: one forward, two backward; `reversible` one more forward."""
    return 3 if memory == "stored" else 4


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a forward and backward pass beyond weights, gradients and optimiser state."""

    activations: int
    """What the forward pass keeps for the backward pass."""
    temporary: int
    """How far the backward pass rises above that."""

    @property
    def peak(self) -> int:
        """Both."""
        return self.activations + self.temporary


def step_memory(
    config: GlowConfig,
    batch: int,
    memory: Memory,
    *,
    precision: Precision = "float32",
    processor: bool = False,
) -> StepMemory:
    """max_l [Σ_{l' ≤ l} kept(l') + working(l)], for the backward pass frees from the last level on.

    stored: kept = K·step + maps + split, working = what one step's backward pass takes.
    reversible: kept = two ends of the chain + maps + split; working has one step's `kept` too.

    Args:
        config: of the model.
        batch: images of a device at once.
        memory: `stored` or `reversible`.
        precision: of the coupling networks.
        processor: whether hidden layers are computed chunk by chunk.
    """
    kept = highest = 0
    deeper = FLOAT * batch * sum(level.pixels * level.channels for level in levels(config))
    for level in levels(config):
        n = batch * level.pixels
        end = FLOAT * n * level.channels
        deeper -= end
        by_steps = _kept_by_step(level, n, precision, processor)
        working = _backward_of_step(level, n, precision, processor)
        if memory == "stored":
            held, by_steps = 0, config.steps * by_steps
        else:
            gradients_of_maps = FLOAT * config.steps * level.channels * (level.channels + 1)
            working += by_steps + gradients_of_maps
            held, by_steps = deeper, 2 * end  # the deeper chains' inputs stay until the end
        by_steps += _kept_by_maps(level)
        highest = max(highest, kept + by_steps + held + working)
        kept += by_steps + _kept_by_prior(level, n)
        highest = max(highest, kept + held + _backward_of_prior(level, n))
    return StepMemory(kept, highest - kept)


def _kept_by_step(level: Level, n: int, precision: Precision, processor: bool) -> int:
    """One step: n·(input c + mixed c + s·c/2 + rows + 2H), and the matrices, scaled and unscaled.

    s values a changed one: (x2 + t) and s of `affine`, what tanh or sigmoid gave; a processor's
    logsigmoid keeps one more. In bf16 the network keeps a copy of its input, not `mixed`.
    """
    config = level.config
    c, k, o, H = level.channels, level.half, level.outputs, config.hidden_channels
    size = COMPUTED[precision]
    by_scale = {"sigmoid": 4 if processor else 3, "bounded": 3, "exp": 2}[config.coupling_scale]
    changed = by_scale * k if config.coupling == "affine" else 0
    mixed = FLOAT * c if precision == "float32" else size * k
    by_pixel = FLOAT * (c + changed) + mixed + size * (level.row + 2 * H)
    unscaled = FLOAT * (H * level.row + 9 * o * H + o * level.pixels)
    return n * by_pixel + unscaled + size * level.network_weights


def _kept_by_maps(level: Level) -> int:
    """The 1x1 convolutions of a level: L, U, W and A with the entries of L and U, K·(5c² − c).

    Plain: W, A, and for the determinant W and its LU in float64, K·6c². Fixed: W and A, K·2c².
    """
    c = level.channels
    values = {"lu": 5 * c * c - c, "plain": 6 * c * c}.get(level.config.permutation, 2 * c * c)
    return FLOAT * level.config.steps * values


def _kept_by_prior(level: Level, n: int) -> int:
    """z − μ, 1/σ and ε of what leaves, and the convolution's rows and weights.

    The top's rows are of zeros and of one image: it keeps its weights before they are scaled, a
    split's convolution after that, too.
    """
    c = level.channels
    if not level.last:
        return FLOAT * (n * (level.row + 3 * level.half) + 2 * c * level.row)
    row = 18 * c + ENDS
    convolution = (2 * c + level.pixels) * row if level.config.learn_top else 0
    return FLOAT * (3 * n * c + convolution)


def _backward_of_prior(level: Level, n: int) -> int:
    """Gradients of the weights, scaled and not, and of their scale; of a split's rows, too."""
    c = level.channels
    if level.last:
        return FLOAT * 3 * 2 * c * (18 * c + ENDS) if level.config.learn_top else 0
    return FLOAT * (n * (level.row + 4 * level.half + c) + 3 * c * level.row)


def _chunk_rows(level: Level, n: int, processor: bool) -> int:
    return min(n, max(1, CHUNK // level.config.hidden_channels)) if processor else n


def _hidden_at_once(level: Level, n: int, precision: Precision, processor: bool) -> int:
    """Two hidden layers of a chunk, and the next one before the last is let go."""
    rows = _chunk_rows(level, n, processor)
    layers = 3 if rows < n else 2
    return COMPUTED[precision] * layers * rows * level.config.hidden_channels


def _backward_of_step(level: Level, n: int, precision: Precision, processor: bool) -> int:
    """Gradients in a coupling: of rows at both ends, hidden layers, matrices, the step's ends.

    n·(9o + 9k + 4k): the rows of the output's gradient, of the input's, and what adds them up.
    """
    c, k, o = level.channels, level.half, level.outputs
    rows = COMPUTED[precision] * n * (9 * o + 13 * k)
    hidden = _hidden_at_once(level, n, precision, processor)
    matrices = COMPUTED[precision] * level.network_weights
    return rows + hidden + matrices + FLOAT * n * (c + o + k)


def forward_memory(
    config: GlowConfig, batch: int, *, precision: Precision = "float32", processor: bool = False
) -> int:
    """Peak of log p(x) without gradients: images, latents, one step, the kept matrices.

    2·batch·dims + max_levels step + Σ_levels K·(a network's matrices + c²).
    """
    matrices = sum(config.steps * (at.network_weights + at.channels**2) for at in levels(config))
    step = max(_forward_of_step(at, batch, precision, processor) for at in levels(config))
    return FLOAT * (2 * batch * math.prod(config.image_shape) + matrices) + step


def _forward_of_step(level: Level, batch: int, precision: Precision, processor: bool) -> int:
    """n·(3c + row + 9o + 4o) and hidden layers: the step's ends, the network's rows, their sum."""
    n = batch * level.pixels
    rows = COMPUTED[precision] * n * (level.row + 13 * level.outputs)
    hidden = _hidden_at_once(level, n, precision, processor)
    return FLOAT * 3 * n * level.channels + rows + hidden


def initialization_memory(config: GlowConfig, *, processor: bool = False) -> int:
    """Peak of the data-dependent initialisation: images, latents, and the higher of two.

    A step without gradients, or n·(3c + 4H) on the first level: a hidden layer, the one that it
    is made of, and itself in float64, of which mean and standard deviation are taken.
    """
    batch = initial_batch_size(config)
    first = levels(config)[0]
    layers = FLOAT * batch * first.pixels * (3 * first.channels + 4 * config.hidden_channels)
    step = max(_forward_of_step(at, batch, "float32", processor) for at in levels(config))
    return 2 * FLOAT * batch * math.prod(config.image_shape) + max(layers, step)


@dataclass(frozen=True)
class RunMemory:
    """Bytes of a training run on one device, by what they are for."""

    weights: int
    """Parameters and buffers."""
    gradients: int
    optimizer: int
    """Two values a parameter."""
    average: int
    """The averaged model; 0 without one."""
    activations: int
    temporary: int
    update: int
    """What the optimiser's step takes, after the backward pass has freed the activations."""
    initialization: int
    """Before there are gradients and an optimiser."""
    validation: int

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
    config: GlowConfig,
    batch: int,
    memory: Memory,
    *,
    precision: Precision = "float32",
    optimizer: Optimizer = "adamax",
    average: bool = True,
    processor: bool = False,
) -> RunMemory:
    """Weights + gradients + optimiser state + average + the highest of what comes and goes.

    Args:
        config: of the model.
        batch: images of a device at once.
        memory: `stored` or `reversible`.
        precision: of the coupling networks, in training.
        optimizer: two values a parameter; Adamax takes a third one while it steps.
        average: whether averaged weights are kept.
        processor: whether hidden layers are computed chunk by chunk.
    """
    parameters = FLOAT * count_parameters(config)
    weights = parameters + buffer_bytes(config)
    step = step_memory(config, batch, memory, precision=precision, processor=processor)
    return RunMemory(
        weights=weights,
        gradients=parameters,
        optimizer=2 * parameters,
        average=weights if average else 0,
        activations=step.activations,
        temporary=step.temporary,
        update=parameters if optimizer == "adamax" else 0,
        initialization=initialization_memory(config, processor=processor),
        validation=forward_memory(config, VALIDATION_BATCH_SIZE, processor=processor),
    )


@dataclass(frozen=True)
class Speed:
    """What a device reaches."""

    levels: tuple[float, ...]
    """FLOP/s of the training of each level."""
    update: float
    """Parameters a second, of clipping, the optimiser's step and the average."""


def published_speed(config: GlowConfig, accelerator: Accelerator, precision: Precision) -> Speed:
    """UTILISATION of the published peak; bandwidth / UPDATE_BYTES for the update.

    In bf16 a level's peak is (F + G) / (F/bf16 + G/float32), with F the FLOPs of its coupling
    networks and G the others, which stay in float32.
    """
    by_network = accelerator.bf16 if precision == "bf16" else accelerator.float32
    peaks = []
    for level in levels(config):
        networks, others = level_flops(level)
        seconds = networks / by_network + others / accelerator.float32
        peaks.append(1e12 * (networks + others) / seconds)
    return Speed(
        tuple(UTILISATION * peak for peak in peaks), 1e9 * accelerator.bandwidth / UPDATE_BYTES
    )


def measured_speed(
    config: GlowConfig,
    train: TrainConfig,
    batch: int,
    device: str,
    precision: Precision,
    *,
    progress: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """FLOP/s = 3·forward FLOPs / seconds of one step of flow, forward and backward, at each level.

    Args:
        config: of the model.
        train: of the optimiser and the average.
        batch: images of a device at once; fewer are timed where they have many pixels.
        device: `cpu`, `cuda`, …
        precision: of the coupling networks.
        progress: show a bar.
        clock: in seconds; `time.process_time` leaves out the time of other programs.
    """
    show = track(
        levels(config), "timing the device", disable=not progress, console=Console(stderr=True)
    )
    with torch.random.fork_rng():
        by_level = tuple(_speed_of_level(at, batch, device, precision, clock) for at in show)
    count, size = CALIBRATION_WEIGHTS
    return Speed(by_level, count * size / _seconds(_update(train, device), device, clock))


def _speed_of_level(
    level: Level, batch: int, device: str, precision: Precision, clock: Callable[[], float]
) -> float:
    rows = CALIBRATION_ROWS[device == "cpu"]
    images = max(1, min(batch, rows // level.pixels))
    step = Step(level.channels, level.config)
    steps = Steps([step]).to(device)
    x = torch.randn(images, level.channels, level.height, level.width, device=device)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    steps.initialize(x)
    network = step.coupling.network
    if precision == "bf16" and isinstance(network, CouplingNetwork):
        network.compute_dtype = torch.bfloat16

    def train() -> None:
        y, log_det = steps(x)
        torch.autograd.backward(y.square().mean() - log_det.mean())

    flops = network_flops(level) + 2 * level.pixels * level.channels**2
    return passes("stored") * images * flops / _seconds(train, device, clock)


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
        if device != "cpu":
            torch.accelerator.synchronize()
        return clock() - start

    turn()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < CALIBRATION_SECONDS:
        taken.append(turn())
    return statistics.median(taken)


def step_seconds(config: GlowConfig, images: int, memory: Memory, speed: Speed) -> float:
    """images · passes · Σ_levels FLOPs / (FLOP/s) + parameters / (parameters a second).

    Args:
        config: of the model.
        images: of one device between two updates.
        memory: `stored` or `reversible`.
        speed: of the device.
    """
    by_image = sum(
        sum(level_flops(level)) / rate
        for level, rate in zip(levels(config), speed.levels, strict=True)
    )
    return images * passes(memory) * by_image + count_parameters(config) / speed.update


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
    name: str, config: GlowConfig, train: TrainConfig, batch: int, *, progress: bool = False
) -> Target:
    """A named accelerator by its published figures, or a device that is here by its own.

    `precision` auto is bf16 for a named one, and what is faster for one that is here.

    Args:
        name: of ACCELERATORS, or `cpu`, `cuda`, …
        config: of the model.
        train: of the run.
        batch: images of a device at once.
        progress: show a bar.
    """
    if name in ACCELERATORS:
        accelerator = ACCELERATORS[name]
        precision: Precision = "float32" if train.precision == "float32" else "bf16"
        speed = published_speed(config, accelerator, precision)
        return Target(name, int(USABLE * accelerator.memory * 2**30), precision, speed)
    if train.precision == "auto":
        faster = bf16_is_faster(config.hidden_channels, torch.device(name))
        precision = "bf16" if faster else "float32"
    else:
        precision = train.precision
    device = torch.device(name)
    free = get_max_memory()
    memory = free[device.type if device.type in free else device.index or 0]
    speed = measured_speed(config, train, batch, name, precision, progress=progress)
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
    """What a run needs in either memory mode."""

    config: GlowConfig
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


def make_plan(train: TrainConfig, config: GlowConfig, target: Target, devices: int = 1) -> Plan:
    """The plan of a run on `devices` devices of one kind.

    Each device has batch / devices images between two updates, and computes them in the run's
    `accumulate` parts, or in as many more as it takes for a part to fit. Devices are taken to add
    their speeds: what they tell each other costs no time here.

    Raises:
        InputError: as `share_of`.
    """
    share = share_of(train, devices)
    modes = tuple(_plan_of(memory, train, config, target, share) for memory in MODES)
    return Plan(
        config,
        target,
        devices,
        train.batch_size,
        train.images,
        count_parameters(config),
        forward_flops(config),
        modes,
    )


def _plan_of(
    memory: Memory, train: TrainConfig, config: GlowConfig, target: Target, share: int
) -> ModePlan:
    def needs(batch: int) -> RunMemory:
        return run_memory(
            config,
            batch,
            memory,
            precision=target.precision,
            optimizer=train.optimizer,
            average=train.ema > 0,
            processor=target.processor,
        )

    largest = largest_batch(lambda batch: needs(batch).peak <= target.memory)
    parts = range(train.accumulate, share + 1)
    accumulation = next(n for n in parts if share % n == 0 and share // n <= max(1, largest))
    at_once = share // accumulation
    seconds = step_seconds(config, share, memory, target.speed)
    images_per_second = train.batch_size / seconds
    return ModePlan(
        memory,
        largest,
        at_once,
        accumulation,
        needs(at_once),
        passes(memory) * forward_flops(config),
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


def model_config(train: TrainConfig, preset: str | None = None, classes: int = 0) -> GlowConfig:
    """The model that this run trains, without a look at the data.

    Args:
        train: of the run.
        preset: its name, if it is a published run: the conditional ones have known classes.
        classes: of the data of a conditional run.

    Raises:
        InputError: it is a RealNVP, or the size of the images or the classes are not given.
    """
    if isinstance(train.model, RealNVPArchitecture):
        raise InputError("A plan is of a Glow: RealNVP's memory and FLOPs are not worked out.")
    if train.data.size is None:
        raise InputError(
            f"The size of the images is not given: give --size HEIGHT WIDTH, or one of "
            f"--preset {', '.join(PRESETS)}."
        )
    if train.conditional:
        classes = classes or CLASSES.get(preset or "", 0)
        if classes < 1:
            raise InputError("The run is conditional: give --classes, the number of classes.")
    elif classes:
        raise InputError("classes are given, but the run is not conditional: add --conditional.")
    channels = train.data.channels or 3
    return GlowConfig.of(train.model, (channels, *train.data.size), classes)
