"""The training loop, in functions that a test can call."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from jaxtyping import Float
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .atomic import require_new, require_writable, write_text
from .checkpoint import Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from .config import (
    GlowConfig,
    Precision,
    RealNVPArchitecture,
    RealNVPConfig,
    TrainConfig,
    from_yaml,
    to_yaml,
)
from .data import ImageData, Splits, batches
from .diagnosis import describe, find_nonfinite, find_nonfinite_gradient
from .errors import CheckpointError, InputError, TrainingError
from .flow import ImageFlow
from .glow import Glow
from .likelihood import bits_per_dim
from .models import make_model

CONFIG_FILE = "train.yaml"
METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Trained:
    """What a run ended with."""

    model: ImageFlow
    """The averaged weights, or the last ones where there is no average; in eval mode."""
    run: Path
    step: int
    images: int
    seconds: float
    interrupted: bool


@dataclass(frozen=True)
class Metrics:
    """One line of metrics.jsonl; bits/dim are means since the line before."""

    step: int
    images: int
    seconds: float
    bits_per_dim: float | None = None
    grad_norm: float | None = None
    lr: float | None = None
    images_per_second: float | None = None
    valid_bits_per_dim: float | None = None


class Objective(nn.Module):
    """The loss in bits: bits/dim of the images + weight · bits of the labels + penalty.

    Bits of the labels are the classifier's cross entropy / log 2, for models with classes
    (official weight 0.01). The penalty is the model's own; Glow has none.

    Args:
        model: the flow.
    """

    def __init__(self, model: ImageFlow) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x: Float[Tensor, "batch channels height width"], labels: Tensor | None = None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the loss to minimise and the mean bits/dim in it."""
        config = self.model.config
        dimensions = math.prod(config.image_shape)
        if labels is None or not isinstance(self.model, Glow):
            bits = bits_per_dim(self.model.log_prob(x), dimensions, config.bits).mean()
            return bits + self.model.penalty(), bits
        log_prob, logits = self.model.log_prob_and_logits(x, labels)
        bits = bits_per_dim(log_prob, dimensions, config.bits).mean()
        return bits + config.weight_classes * F.cross_entropy(logits, labels) / math.log(2), bits


def learning_rate(config: TrainConfig, images: int, done: float) -> float:
    """Linear warm-up in images, then the decay over the share `done` (0 to 1) of the run."""
    warmup = min(1.0, images / config.warmup_images) if config.warmup_images else 1.0
    match config.decay:
        case "constant":
            decay = 1.0
        case "linear":
            decay = 1.0 - done
        case "cosine":
            decay = 0.5 * (1.0 + math.cos(math.pi * done))
    return config.lr * warmup * decay


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, over all trainable weights."""
    match config.optimizer:
        case "adamax":
            return torch.optim.Adamax(model.parameters(), lr=config.lr, foreach=True)
        case "adam":
            return torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr=config.lr, fused=True)


def choose_precision(model: ImageFlow, precision: str) -> Precision:
    """`float32` or `bf16`; for `auto`, what a coupling network's convolution is faster in."""
    if precision != "auto":
        return "bf16" if precision == "bf16" else "float32"
    faster = bf16_is_faster(model.config.hidden_channels, model.device)
    return "bf16" if faster else "float32"


def bf16_is_faster(channels: int, device: torch.device, repeats: int = 5) -> bool:
    """Measure whether a 1x1 convolution takes less than 0.8 of its float32 time in bfloat16."""

    def seconds(dtype: torch.dtype) -> float:
        x = torch.randn(16, 16, 16, channels, device=device, dtype=dtype).permute(0, 3, 1, 2)
        weight = torch.randn(channels, channels, 1, 1, device=device, dtype=dtype)
        best = math.inf
        for _ in range(repeats):
            start = time.perf_counter()
            float(F.conv2d(x, weight)[0, 0, 0, 0])
            best = min(best, time.perf_counter() - start)
        return best

    with torch.no_grad():
        return seconds(torch.bfloat16) < 0.8 * seconds(torch.float32)


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile works here; if not, say why on stderr."""
    try:
        torch.compile(lambda x: 2 * x + 1)(torch.ones(4, device=device))
    except Exception as error:  # compilers fail in many ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        Console(stderr=True).print(
            f"torch.compile does not work here, so the run goes on without it ({reason}).",
            markup=False,
        )
        return False
    return True


def make_average(config: TrainConfig, model: nn.Module) -> AveragedModel:
    """Moving average with decay min(ema, (1 + t)/(10 + t)) at step t, so that it starts fast.

    The running statistics of batch normalisations are averaged with the weights that they are of.
    """

    def update(average: Any, current: Any, steps: Any) -> None:
        decay = min(config.ema, (1 + float(steps)) / (10 + float(steps)))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, current, 1.0 - decay)
        else:
            torch._foreach_copy_(average, current)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def initial_batch_size(config: GlowConfig | RealNVPConfig) -> int:
    """Images of the data-dependent initialisation: 256 at 32x32, scaled by 32²/(height·width)."""
    _, height, width = config.image_shape
    return max(16, 256 * 32 * 32 // (height * width))


def validate(
    model: ImageFlow, data: ImageData, *, limit: int, batch_size: int, seed: int = 0
) -> float:
    """Mean bits/dim of the first `limit` images, with one noise draw, the same at each call."""
    generator = torch.Generator().manual_seed(seed)
    chosen = data.part(0, limit)
    total = 0.0
    for images, labels in batches(chosen, batch_size, seed=seed, epoch=0, drop_last=False):
        labels = labels if model.config.classes else None
        total += float(model.bits_per_dim(images, labels, generator).sum())
    return total / len(chosen)


def train(
    config: TrainConfig,
    splits: Splits,
    run: Path,
    *,
    device: str | None = None,
    resume: bool = False,
    on_validation: Callable[[ImageFlow, int], None] | None = None,
    progress: bool = True,
) -> Trained:
    """Train a model on `splits.train` into the folder `run`.

    The folder gets `train.yaml`, `config.json` and `model.safetensors` (the averaged weights),
    `metrics.jsonl` and `checkpoints/`. Ctrl-C or SIGTERM end the run after the current step, with
    a checkpoint. With `resume` the newest checkpoint of `run` is gone on from, and the steps that
    follow are those of a run that was never stopped.

    Args:
        config: every hyperparameter; with `resume`, that of the run.
        splits: the data.
        run: the run's folder; empty or absent, unless `resume`.
        device: `cpu`, `cuda`, …; by default what Accelerate finds.
        resume: go on from a checkpoint.
        on_validation: called with the averaged model and the number of images seen.
        progress: show a bar with bits/dim, images/s and the time left.

    Raises:
        InputError: the data do not fit the model, or the folder is in use or not writable.
        CheckpointError: `resume`, and there is no usable checkpoint.
        TrainingError: a value became NaN or infinite; the message names where.
    """
    if not resume:
        require_new(run)
    shape = model_config(config, splits)
    require_writable(run)
    accelerator = Accelerator(cpu=device == "cpu", device_placement=device is None)
    target = torch.device(device) if device else accelerator.device
    torch.manual_seed(config.seed)
    model = make_model(shape).to(target)
    average = make_average(config, model) if config.ema else None
    optimizer = make_optimizer(config, model)
    state = _State(run, config, model, average, optimizer)
    if resume:
        state.restore(load_checkpoint(run))
    else:
        write_text(run / CONFIG_FILE, to_yaml(config))
        state.initialize(splits.train)
        state.save()
    _log_only_before(run, state.step)

    state.precision = choose_precision(model, config.precision)
    model.use(memory=config.memory, compile=config.compile and can_compile(target))
    state.go_on()
    objective = accelerator.prepare(Objective(model))
    batch_size = min(config.batch_size, len(splits.train))
    window = _Window(state.seconds)
    started = time.monotonic() - state.seconds
    validated = state.seconds
    with _stop_signals() as stopped, _bar(progress, config, state) as show:
        for images, labels in _endless(splits.train, batch_size, config.seed, state.step):
            seen = state.step * batch_size
            done = max(
                seen / config.images,
                state.seconds / (60 * config.minutes) if config.minutes else 0.0,
            )
            if done >= 1.0 or stopped():
                break
            lr = learning_rate(config, seen + batch_size, done)
            for group in optimizer.param_groups:
                group["lr"] = lr
            generator = noise_for(config.seed, state.step, target)
            x = model.to_float(images.to(target), generator=generator)
            if config.flip:
                x = flip_some(x, generator)
            labels = labels.to(target) if model.config.classes and labels is not None else None
            bits, norm = _step(accelerator, objective, optimizer, config, x, labels, state)
            if average is not None:
                average.update_parameters(model)
            state.step += 1
            state.seconds = time.monotonic() - started
            window.add(bits, norm, batch_size)
            show(window, done)
            if state.step % config.log_every == 0:
                _log(run, window.metrics(state, seen + batch_size, lr))
            if state.seconds - validated >= config.validate_every:
                validated = state.seconds
                _validate(state, splits, seen + batch_size, on_validation)
    state.seconds = time.monotonic() - started
    seen = state.step * batch_size
    _validate(state, splits, seen, on_validation)
    return Trained(state.averaged(), run, state.step, seen, state.seconds, stopped())


def model_config(config: TrainConfig, splits: Splits) -> GlowConfig | RealNVPConfig:
    """The model that this run trains on these data.

    Raises:
        InputError: the data do not fit, or have no labels to condition on.
    """
    data = splits.train
    architecture = config.model
    if data.images.dtype != "uint8":
        architecture = replace(architecture, bits=None)
    elif architecture.bits is None:
        raise InputError(f"bits is None, but {splits.source} has bytes: give bits from 1 to 8.")
    if config.conditional and not data.class_names:
        raise InputError(f"{splits.source} has no labels: train without --conditional.")
    if isinstance(architecture, RealNVPArchitecture):
        return RealNVPConfig.of(architecture, data.image_shape)
    classes = len(data.class_names) if config.conditional else 0
    return GlowConfig.of(architecture, data.image_shape, classes)


def read_run_config(run: Path) -> TrainConfig:
    """The configuration that a run was started with.

    Raises:
        CheckpointError: `run` is not a run's folder.
    """
    try:
        text = (run / CONFIG_FILE).read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"There is no {CONFIG_FILE} in {run}: give a run's folder."
        ) from error
    return from_yaml(TrainConfig, text, str(run / CONFIG_FILE))


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    path = run / METRICS_FILE
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def noise_for(seed: int, step: int, device: torch.device) -> torch.Generator:
    """A generator that depends on the run's seed and the step alone."""
    return torch.Generator(device).manual_seed((seed * 1_000_003 + step + 1) % 2**63)


def flip_some(
    x: Float[Tensor, "batch channels height width"], generator: torch.Generator
) -> Float[Tensor, "batch channels height width"]:
    """Each image as it is or mirrored left to right, with equal chances."""
    chosen = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    return torch.where(chosen[:, None, None, None], x.flip(-1), x)


@dataclass
class _State:
    """What changes while training."""

    run: Path
    config: TrainConfig
    model: ImageFlow
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    precision: Precision = "float32"

    def averaged(self) -> ImageFlow:
        """The model to show and save; in float32, until `go_on`."""
        model: Any = self.model if self.average is None else self.average.module
        shown: ImageFlow = model.use(precision="float32").eval()
        return shown

    def go_on(self) -> None:
        """Back to training, after `averaged`."""
        self.model.use(precision=self.precision).train()

    def initialize(self, data: ImageData) -> None:
        size = min(initial_batch_size(self.model.config), len(data))
        first, _ = next(iter(batches(data, size, seed=self.config.seed, epoch=0)))
        device = self.model.device
        self.model.initialize(first.to(device), noise_for(self.config.seed, -1, device))
        if self.average is not None:
            self.average.module.load_state_dict(self.model.state_dict())

    def restore(self, checkpoint: Checkpoint) -> None:
        name = str(self.run)
        self.model.load_weights(checkpoint.model, name)
        if self.average is not None:
            self.averaged().load_weights(checkpoint.average, name)
            self.average.n_averaged.fill_(checkpoint.step)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.step, self.seconds = checkpoint.step, checkpoint.seconds

    def save(self) -> None:
        for name, weight in self.model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise _stopped(f"the weight {describe(name)}", self)
        average = {} if self.average is None else self.average.module.state_dict()
        save_checkpoint(
            self.run,
            Checkpoint(
                self.step,
                self.seconds,
                self.model.state_dict(),
                average,
                self.optimizer.state_dict(),
            ),
        )
        self.averaged().save_pretrained(self.run)
        self.go_on()


def _step(
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    x: Tensor,
    labels: Tensor | None,
    state: _State,
) -> tuple[float, float]:
    """One optimiser step; nothing is changed if a value is not finite."""
    model = state.model
    loss, bits = objective(x, labels)
    if not math.isfinite(value := float(bits.detach())):
        where = find_nonfinite(model, lambda: model(x, labels)) or "the log-likelihood"
        raise _stopped(where, state)
    optimizer.zero_grad()
    accelerator.backward(loss)
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), config.clip))
    if not math.isfinite(norm):
        raise _stopped(find_nonfinite_gradient(model) or "the gradient's norm", state)
    optimizer.step()
    return value, norm


def _stopped(where: str, state: _State) -> TrainingError:
    last = list_checkpoints(state.run)
    kept = f"the last good checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
    return TrainingError(
        f"Training stopped at step {state.step + 1}: {where} is NaN or infinite; {kept}; "
        "start again with a smaller --lr or longer --warmup-images."
    )


def _validate(
    state: _State,
    splits: Splits,
    images: int,
    on_validation: Callable[[ImageFlow, int], None] | None,
) -> None:
    state.save()
    model = state.averaged()
    bits = validate(model, splits.valid, limit=state.config.validation_images, batch_size=64)
    _log(
        state.run,
        Metrics(state.step, images, round(state.seconds, 2), valid_bits_per_dim=bits),
    )
    if on_validation is not None:
        on_validation(model, images)
    state.go_on()


def _log(run: Path, metrics: Metrics) -> None:
    line = {name: value for name, value in asdict(metrics).items() if value is not None}
    with (run / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _log_only_before(run: Path, step: int) -> None:
    """Drop the lines that the steps after the checkpoint will write again."""
    lines = [line for line in read_metrics(run) if line["step"] <= step]
    write_text(run / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in lines))


def _endless(
    data: ImageData, batch_size: int, seed: int, step: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    epoch, start = divmod(step, len(data) // batch_size)
    while True:
        yield from batches(data, batch_size, seed=seed, epoch=epoch, start=start, drop_last=True)
        epoch, start = epoch + 1, 0


class _Window:
    """Means since the last line of metrics.jsonl, and a smoothed figure for the bar."""

    def __init__(self, seconds: float) -> None:
        self.since = seconds
        self.bits: list[float] = []
        self.norms: list[float] = []
        self.images = 0
        self.smoothed: float | None = None
        self.speed = 0.0

    def add(self, bits: float, norm: float, images: int) -> None:
        self.bits.append(bits)
        self.norms.append(norm)
        self.images += images
        self.smoothed = bits if self.smoothed is None else 0.98 * self.smoothed + 0.02 * bits

    def metrics(self, state: _State, images: int, lr: float) -> Metrics:
        self.speed = self.images / max(state.seconds - self.since, 1e-9)
        line = Metrics(
            step=state.step,
            images=images,
            seconds=round(state.seconds, 2),
            bits_per_dim=sum(self.bits) / len(self.bits),
            grad_norm=sum(self.norms) / len(self.norms),
            lr=lr,
            images_per_second=round(self.speed, 2),
        )
        self.since, self.bits, self.norms, self.images = state.seconds, [], [], 0
        return line


@contextmanager
def _bar(
    visible: bool, config: TrainConfig, state: _State
) -> Iterator[Callable[[_Window, float], None]]:
    columns = (
        TextColumn("training"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    start = time.monotonic()
    first = state.step
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        task = bar.add_task("training", total=1.0, figures="")
        initial: list[float] = []

        def show(window: _Window, done: float) -> None:
            if not initial:
                initial.append(done)
            elapsed = time.monotonic() - start
            rate = (done - initial[0]) / elapsed if state.step > first + 1 else 0.0
            left = f"{(1 - done) / rate / 60:.1f} min left" if rate > 0 else ""
            figures = f"{window.smoothed:.3f} bits/dim · {window.speed:.0f} images/s · {left}"
            bar.update(task, completed=done, figures=figures)

        yield show


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Catch Ctrl-C and SIGTERM once, so that the step under way is finished."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            previous[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: signals go elsewhere
        previous.clear()
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
