"""The training loop, in functions that a test can call."""

import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..bijections import BatchNorm
from ..data.augmentation import flip_some, shift_some
from ..data.loader import batches
from ..data.types import ImageData, Splits
from ..errors import CheckpointError, InputError, TrainingError
from ..files import remove_leftovers, require_new, require_writable, write_text
from ..models.config import GlowConfig, Precision, RealNVPArchitecture, RealNVPConfig
from ..models.flow import ImageFlow
from ..models.likelihood import bits_per_dim
from ..models.registry import make_model
from ..processes import (
    broadcast,
    explain_lost_process,
    gather_in_order,
    join_process_group,
    max_over_processes,
    mean_over_processes,
    on_every_process,
    on_main_process,
    process_count,
    process_index,
    shard,
    sum_over_processes,
)
from .as_yaml import from_yaml, to_yaml
from .checkpoint import (
    Checkpoint,
    best_so_far,
    list_checkpoints,
    load_checkpoint,
    save_best,
    save_checkpoint,
)
from .config import TrainConfig
from .diagnosis import describe, find_nonfinite, find_nonfinite_gradient
from .health import as_metrics, concerns, look
from .metrics import Metrics, Window, keep_metrics_until, training_bar, write_metrics
from .optimisation import can_compile, choose_precision, learning_rate, make_average, make_optimizer
from .tracking import require_trackers, send_metrics, tracker_options, tracking

CONFIG_FILE = "train.yaml"
VALIDATED_AT_ONCE = 64
"""Images of a batch of a validation."""


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
    valid_bits_per_dim: float
    """Of `model`."""
    valid_bits_per_dim_last: float
    """Of the last weights."""
    best: float
    """Of the model in `best/`."""


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
        terms = self.model.loss_terms(x, labels)
        return terms.total, terms.bits_per_dim


def initial_batch_size(config: GlowConfig | RealNVPConfig) -> int:
    """Images of the data-dependent initialisation: 256 at 32x32, scaled by 32²/(height·width)."""
    _, height, width = config.image_shape
    return max(16, 256 * 32 * 32 // (height * width))


@torch.no_grad()
def validate(
    model: ImageFlow, data: ImageData, *, limit: int, batch_size: int, seed: int = 0
) -> float:
    """Mean bits/dim of the first `limit` images, with one noise draw, the same at each call.

    Each process scores its share of the images.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = data.part(0, limit)
    dimensions = math.prod(model.config.image_shape)
    figures = []
    for images, labels in batches(chosen, batch_size, seed=seed, epoch=0, drop_last=False):
        x = shard(model.to_float(images, generator=generator)).to(model.device)
        labels = shard(labels).to(model.device) if labels is not None else None
        log_prob = model.log_prob(x, labels if model.config.classes else None) if len(x) else x
        figures.append(gather_in_order(log_prob.flatten(), len(images)))
    bits = bits_per_dim(torch.cat(figures).double(), dimensions, model.config.bits)
    return float(bits.mean())


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
    `metrics.jsonl`, `checkpoints/`, and in `best/` the averaged weights with the lowest validation
    bits/dim; trackers that write files have `tracking/`. Ctrl-C or SIGTERM end the run after the
    current step, with a checkpoint. With `resume` the newest checkpoint of `run` is gone on from,
    and the steps that follow are those of a run that was never stopped.

    Where a launcher has started several processes, each calls this, and takes its share of every
    batch; the run is that of one process, up to float rounding. Process 0 alone writes. RealNVP's
    batch statistics are of one part of a batch, as `config.accumulate` and the processes cut it.

    Args:
        config: every hyperparameter; with `resume`, that of the run.
        splits: the data, the same in every process.
        run: the run's folder; empty or absent, unless `resume`.
        device: `cpu`, `cuda`, …; by default what Accelerate finds.
        resume: go on from a checkpoint.
        on_validation: called in process 0 with the averaged model and the number of images seen.
        progress: show a bar with bits/dim, images/s and the time left.

    Raises:
        InputError: the data do not fit the model, the batch cannot be shared out, or the folder is
            in use or not writable.
        CheckpointError: `resume`, and there is no usable checkpoint.
        TrainingError: a value became NaN or infinite, and the message names where; or another
            process has ended.
    """
    join_process_group(device)
    with explain_lost_process(), warnings.catch_warnings():
        # Strides of 1x1 weights, which mean nothing, may differ from DDP's.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        on_main_process(lambda: _refuse(config, splits, run, resume))
        checksum = on_main_process(lambda: splits.checksum)
        on_every_process(lambda: _require_same_data(splits, checksum))
        accelerator = Accelerator(
            cpu=device == "cpu",
            device_placement=device is None,
            mixed_precision="no",
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
            **tracker_options(config.track, run),
        )
        target = torch.device(device) if device else accelerator.device
        with tracking(accelerator, config):
            return _train(accelerator, config, splits, run, target, resume, on_validation, progress)


def _refuse(config: TrainConfig, splits: Splits, run: Path, resume: bool) -> None:
    if not resume:
        require_new(run)
    check_shares(min(config.batch_size, len(splits.train)), config.accumulate, process_count())
    model_config(config, splits)
    require_trackers(config.track)
    require_writable(run)


def _train(
    accelerator: Accelerator,
    config: TrainConfig,
    splits: Splits,
    run: Path,
    target: torch.device,
    resume: bool,
    on_validation: Callable[[ImageFlow, int], None] | None,
    progress: bool,
) -> Trained:
    torch.manual_seed(config.seed)
    model = make_model(model_config(config, splits)).to(target)
    average = make_average(config, model) if config.ema else None
    optimizer = make_optimizer(config, model)
    state = _State(run, config, accelerator, model, average, optimizer)
    if resume:
        on_main_process(lambda: remove_leftovers(run))
        checkpoint = on_main_process(lambda: load_checkpoint(run))
        on_every_process(lambda: state.restore(checkpoint))
    else:
        on_main_process(lambda: write_text(run / CONFIG_FILE, to_yaml(config)))
        on_main_process(lambda: state.initialize(splits.train))
        state.copy_from_first()
        on_main_process(state.save)
    on_main_process(lambda: keep_metrics_until(run, state.step))
    state.best = on_main_process(lambda: best_so_far(run))

    state.precision = on_main_process(lambda: choose_precision(model, config.precision))
    compile = config.compile and on_main_process(lambda: can_compile(target))
    model.use(memory=config.memory, compile=compile)
    state.go_on()
    objective = accelerator.prepare(Objective(model))
    window, batch_size = state.window, min(config.batch_size, len(splits.train))
    started = time.monotonic() - state.seconds
    validated = state.seconds
    stop = False
    visible = progress and process_index() == 0
    with _stop_signals() as stopped, training_bar(visible) as show:
        for images, labels in _endless(splits.train, batch_size, config.seed, state.step):
            seen = state.step * batch_size
            done = max(
                seen / config.images,
                state.seconds / (60 * config.minutes) if config.minutes else 0.0,
            )
            if done >= 1.0 or stop:
                break
            lr = learning_rate(config, seen + batch_size, done)
            for group in optimizer.param_groups:
                group["lr"] = lr
            x = shard(training_input(model, images.to(target), config, state.step))
            has_labels = model.config.classes and labels is not None
            labels = shard(labels).to(target) if has_labels else None
            bits, norm = _step(accelerator, objective, optimizer, config, x, labels, state)
            if average is not None:
                average.update_parameters(model)
            state.step += 1
            seconds, told_to_stop = max_over_processes(time.monotonic() - started, float(stopped()))
            state.seconds, stop = seconds, told_to_stop > 0
            seen += batch_size
            window.add(bits, norm, batch_size)
            show(window, done)
            if state.step % config.log_every == 0:
                line = window.close(state.step, seen, state.seconds, lr)
                on_main_process(partial(state.note, line))
            if state.seconds - validated >= config.validate_every:
                validated = state.seconds
                _validate(state, splits, seen, on_validation)
    seen = state.step * batch_size
    if state.figures is None or state.figures.step != state.step:
        _validate(state, splits, seen, on_validation)
    figures: Any = state.figures
    last = figures.valid_bits_per_dim_last
    return Trained(
        state.averaged(),
        run,
        state.step,
        seen,
        state.seconds,
        interrupted=stop,
        valid_bits_per_dim=figures.valid_bits_per_dim,
        valid_bits_per_dim_last=figures.valid_bits_per_dim if last is None else last,
        best=state.best,
    )


def check_shares(batch_size: int, accumulate: int, processes: int) -> None:
    """Refuse a batch that does not divide.

    Raises:
        InputError: the parts would not be of one size.
    """
    parts = processes * accumulate
    if batch_size % parts:
        raise InputError(
            f"A batch of {batch_size} images does not divide into {parts} equal parts "
            f"({processes} processes, each computing its share in {accumulate}): "
            f"give a batch_size that is a multiple of {parts}."
        )


def training_input(
    model: ImageFlow, images: Tensor, config: TrainConfig, step: int
) -> Float[Tensor, "batch channels height width"]:
    """The whole batch of a step: shifted, dequantised, flipped.

    What happens to an image depends on the seed, the step and its place in the batch alone.
    """
    generator = noise_for(config.seed, step, images.device)
    if config.shift:
        images = shift_some(images, config.shift, generator)
    x = model.to_float(images, generator=generator)
    return flip_some(x, generator) if config.flip else x


def _require_same_data(splits: Splits, checksum: str) -> None:
    if splits.checksum != checksum:
        raise InputError(
            f"Process {process_index()} has other images (SHA-256 {splits.checksum}) than "
            f"process 0 ({checksum}): give every machine the same data."
        )


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


def noise_for(seed: int, step: int, device: torch.device) -> torch.Generator:
    """A generator that depends on the run's seed and the step alone."""
    return torch.Generator(device).manual_seed((seed * 1_000_003 + step + 1) % 2**63)


@dataclass
class _State:
    """What changes while training."""

    run: Path
    config: TrainConfig
    accelerator: Accelerator
    model: ImageFlow
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    precision: Precision = "float32"
    window: Window = field(default_factory=lambda: Window(0.0))
    best: float = math.inf
    figures: Metrics | None = None
    """Of the newest validation."""

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
        images, _ = next(iter(batches(data, size, seed=self.config.seed, epoch=0)))
        device = self.model.device
        self.model.initialize(images.to(device), noise_for(self.config.seed, -1, device))

    def copy_from_first(self) -> None:
        """Process 0's weights, in the model and in its average."""
        broadcast(self.model.state_dict().values())
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
        self.window = Window(**{"since": checkpoint.seconds, **checkpoint.window})

    def note(self, metrics: Metrics) -> None:
        write_metrics(self.run, metrics)
        send_metrics(self.accelerator, metrics)

    def save(self) -> None:
        for name, weight in self.model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise _stopped(f"the weight {describe(name)}", self)
        average = {} if self.average is None else self.average.module.state_dict()
        checkpoint = Checkpoint(
            self.step,
            self.seconds,
            self.model.state_dict(),
            average,
            self.optimizer.state_dict(),
            asdict(self.window),
        )
        save_checkpoint(self.run, checkpoint, self.config.keep)
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
    """One optimiser step; no weight is changed if a value is not finite."""
    model, parts = state.model, config.accumulate
    optimizer.zero_grad()
    value = 0.0
    for part in range(parts):
        some = x[part::parts]
        theirs = None if labels is None else labels[part::parts]
        last = part == parts - 1
        with nullcontext() if last else accelerator.no_sync(objective):
            loss, bits = objective(some, theirs)
            value += float(bits.detach()) / parts
            if last or not math.isfinite(value):
                break
            accelerator.backward(loss / parts)
    value = mean_over_processes(value)
    if not math.isfinite(value):
        on_every_process(
            lambda: _stop_at(find_nonfinite(model, lambda: model(some, theirs)), state)
        )
        on_every_process(lambda: _stop_at("the log-likelihood", state))
    accelerator.backward(loss / parts)
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), config.clip))
    if not math.isfinite(norm):
        on_every_process(
            lambda: _stop_at(find_nonfinite_gradient(model) or "the gradient's norm", state)
        )
    optimizer.step()
    _average_statistics(model)
    return value, norm


def _average_statistics(model: ImageFlow) -> None:
    """Give every process the mean of the running statistics of batch normalisations."""
    if process_count() > 1:
        for module in model.modules():
            if isinstance(module, BatchNorm):
                for statistic in (module.mean, module.var):
                    statistic.copy_(sum_over_processes(statistic) / process_count())


def _stop_at(where: str | None, state: _State) -> None:
    if where is not None:
        raise _stopped(where, state)


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
    on_main_process(state.save)
    limit = state.config.validation_images
    model = state.averaged()
    bits = validate(model, splits.valid, limit=limit, batch_size=VALIDATED_AT_ONCE)
    last = None
    health = on_main_process(lambda: look(model, splits.valid))
    if state.average is not None:
        current = state.model.use(precision="float32").eval()
        last = validate(current, splits.valid, limit=limit, batch_size=VALIDATED_AT_ONCE)
    figures = Metrics(
        state.step,
        images,
        round(state.seconds, 2),
        valid_bits_per_dim=bits,
        valid_bits_per_dim_last=last,
        **as_metrics(health),
    )
    looked = {**as_metrics(health), "grad_norm": state.window.norm or 0.0}
    said = concerns(looked, bits=state.model.config.bits, clip=state.config.clip)

    def leave() -> None:
        for line in said:
            print(f"Warning: {line}", file=sys.stderr)
        if bits < state.best:
            save_best(state.run, model, state.step, bits)
        state.note(figures)
        if on_validation is not None:
            on_validation(model, images)

    on_main_process(leave)
    state.figures, state.best = figures, min(state.best, bits)
    state.go_on()


def _endless(
    data: ImageData, batch_size: int, seed: int, step: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    epoch, start = divmod(step, len(data) // batch_size)
    while True:
        yield from batches(data, batch_size, seed=seed, epoch=epoch, start=start, drop_last=True)
        epoch, start = epoch + 1, 0


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
