"""One run: a model, trained on images, in a folder."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from ..checks import require_dtype
from ..data.record import SplitRecord
from ..data.types import Splits
from ..files import in_use
from ..models.flow import ImageFlow
from ..processes import (
    explain_lost_process,
    join_process_group,
    max_over_processes,
    on_every_process,
    on_main_process,
    process_index,
)
from .batches import TrainingBatches
from .config import TrainConfig
from .first_map import first_map_chosen, with_recorded_first_map
from .hardware import deterministic
from .interruption import stop_signals
from .objective import Objective
from .optimisation import Schedule
from .progress import training_bar
from .requirements import recorded_splits, require_same_data, require_trainable
from .run import Run
from .start import start
from .state import TrainingState, Validated
from .step import TrainingStep
from .tracking import record_metrics, tracker_options, tracking
from .validation import validate_state


@dataclass(frozen=True)
class Trained:
    """What a run ended with."""

    model: ImageFlow
    """The averaged weights, or the last ones where there is no average; in eval mode."""
    run: Path
    splits: Splits
    """The images as the run had them: what was trained on in its part."""
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


def train(
    config: TrainConfig,
    splits: Splits,
    folder: Path,
    *,
    device: str | None = None,
    resume: bool = False,
    data_changed: bool = False,
    start_from: ImageFlow | None = None,
    trained_before: SplitRecord | None = None,
    on_validation: Callable[[ImageFlow, int], None] | None = None,
    progress: bool = True,
) -> Trained:
    """Train a model on `splits.train` into `folder`.

    The folder gets `train.yaml`, `config.json` and `model.safetensors` (the averaged weights),
    `metrics.jsonl`, `checkpoints/`, and in `best/` the averaged weights with the lowest validation
    bits/dim, those of the start among them where it has a first map or another model's weights;
    trackers that write files have `tracking/`. Ctrl-C or SIGTERM end the run after the
    current step, with a checkpoint. With `resume` the newest checkpoint of `folder` is gone on
    from, and the steps that follow are those of a run that was never stopped.

    Where a launcher has started several processes, each calls this, and takes its share of every
    batch; the run is that of one process, up to float rounding. Process 0 alone writes. RealNVP's
    batch statistics are of one part of a batch, as `config.accumulate` and the processes cut it.

    Args:
        config: every hyperparameter; with `resume`, that of the run.
        splits: the data, the same in every process.
        folder: of the run; empty or absent, unless `resume`.
        device: `cpu`, `cuda`, …; by default what Accelerate finds.
        resume: go on from a checkpoint; `config` may then differ from the run's own in what changes
            neither the model nor its images (`resume.MAY_CHANGE`), and that is recorded.
        data_changed: go on although images were added, removed or changed since the start; whatever
            was trained on stays in its part.
        start_from: a model whose weights a new run starts from, instead of new ones.
        trained_before: the images behind these weights; the run's record keeps them as trained on.
        on_validation: called in process 0 with the averaged model and the number of images seen.
        progress: show a bar with bits/dim, images/s and the time left.

    Raises:
        InputError: the data do not fit the model, the batch cannot be shared out, the folder is in
            use or not writable, or the device does not compute in float64, which is asked for.
        CheckpointError: `resume`, and there is no usable checkpoint.
        TrainingError: a value became NaN or infinite, and the message names where; or another
            process has ended.
    """
    here = device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
    require_dtype(config.data.dtype, here)
    join_process_group(device)
    with explain_lost_process(), in_use(folder) as lock, deterministic(config.deterministic):
        on_main_process(lock)
        if resume:
            config = on_main_process(lambda: with_recorded_first_map(config, folder))
            splits = on_every_process(lambda: recorded_splits(folder, splits, data_changed))
        run = Run(config, splits, folder)
        on_main_process(lambda: require_trainable(run, resume))
        require_same_data(splits.checksum)
        if not resume:
            chosen = on_main_process(lambda: first_map_chosen(config, splits.train, start_from))
            run = replace(run, config=chosen)
        accelerator = _make_accelerator(run, device)
        with tracking(accelerator, run):
            log = partial(record_metrics, accelerator, folder)
            place = torch.device(device) if device else accelerator.device
            state = start(run, place, resume, start_from, trained_before)
            visible, bits = progress and process_index() == 0, state.model.config.bits
            with stop_signals() as stopped, training_bar(visible, bits) as show:
                if not resume and (start_from is not None or state.has_first_map):
                    validate_state(state, log, on_validation)
                    state.seconds = state.validated_at
                for done in _steps(state, accelerator, stopped):
                    show(state.running, done)
                    if state.line_is_due:
                        on_main_process(partial(log, state.close_line()))
                    if state.validation_is_due:
                        validate_state(state, log, on_validation)
            validated = state.current_validation or validate_state(state, log, on_validation)
            return _trained(state, validated)


def _make_accelerator(run: Run, device: str | None) -> Accelerator:
    return Accelerator(
        cpu=device == "cpu",
        device_placement=device is None,
        mixed_precision="no",
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
        **tracker_options(run.config.track, run.folder),
    )


def _steps(
    state: TrainingState, accelerator: Accelerator, stopped: Callable[[], bool]
) -> Iterator[float]:
    """Take steps until the run's end or a signal; after each, yield the share that is done."""
    config = state.run.config
    schedule, batches = Schedule.of(config), TrainingBatches.of(state.run)
    objective = accelerator.prepare(Objective(state.model))
    step = TrainingStep(accelerator, objective, config.accumulate, config.clip)
    started = time.monotonic() - state.seconds
    place = replace(state.place)
    for x, labels in batches.after(state.step, place, state.model):
        done = schedule.done(state.images, state.seconds)
        if done >= 1.0 or state.interrupted:
            return
        rate = schedule.learning_rate(state.images + state.run.batch_size, done)
        bits, norm = step(state, x, labels, rate)
        state.place = replace(place)
        seconds, signals = max_over_processes(time.monotonic() - started, float(stopped()))
        state.seconds, state.interrupted = seconds, signals > 0
        state.running.add(bits, norm, state.run.batch_size)
        yield done


def _trained(state: TrainingState, validated: Validated) -> Trained:
    return Trained(
        state.averaged.use(precision="float32").eval(),
        state.run.folder,
        state.run.splits,
        state.step,
        state.images,
        state.seconds,
        state.interrupted,
        valid_bits_per_dim=validated.bits_per_dim,
        valid_bits_per_dim_last=validated.bits_per_dim_last,
        best=state.best,
    )
