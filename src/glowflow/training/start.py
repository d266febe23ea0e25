"""A run before its next step: a new one, or one that goes on from its newest checkpoint."""

import sys

import torch

from ..data.inputs import in_short
from ..data.record import Changes, SplitRecord
from ..models.flow import ImageFlow
from ..models.registry import make_model
from ..processes import on_main_process, process_index
from .checkpoint import best_so_far
from .config import read_run_config, write_run_config
from .hardware import can_compile, choose_precision
from .initialisation import (
    initialize,
    model_config_for,
    take_weights,
    training_data,
    unseen_classes,
)
from .metrics import keep_metrics_until, read_metrics
from .optimisation import make_average, make_optimizer
from .resume import check_resumed, record_resumed
from .run import Run
from .state import TrainingState


def start(
    run: Run,
    device: torch.device,
    resume: bool,
    start_from: ImageFlow | None = None,
    trained_before: SplitRecord | None = None,
) -> TrainingState:
    """The state that the next step is taken from, the same in every process.

    Args:
        run: new, or there already.
        device: of the weights.
        resume: go on from a checkpoint.
        start_from: whose weights a new run starts from.
        trained_before: the images behind these weights.

    Raises:
        CheckpointError: `resume`, and there is no usable checkpoint.
        InputError: the folder cannot be written.
    """
    config, folder = run.config, run.folder
    state = _new_state(run, device)
    former = trained_before.of_weights() if trained_before is not None else None
    if resume:
        former = on_main_process(lambda: SplitRecord.load(folder))
    if resume:
        before = on_main_process(lambda: read_run_config(folder))
        on_main_process(lambda: read_metrics(folder))  # refused before anything is written
        changes = on_main_process(lambda: check_resumed(folder, config))
        checkpoint = state.restore(before)
        images = _changes(former, run)
        on_main_process(lambda: record_resumed(folder, config, changes, checkpoint, images))
    else:
        if start_from is None:
            on_main_process(lambda: initialize(state.model, run.splits.train, config.seed))
        else:
            on_main_process(lambda: take_weights(state.model, start_from))
        state.broadcast()
        on_main_process(lambda: write_run_config(folder, config))  # a run from here on
        on_main_process(state.save)
    unseen = unseen_classes(run.splits.train) if config.conditional else ()
    if unseen and process_index() == 0:
        line = f"no training image has class {in_short(unseen)}: the model learns nothing of it."
        print(f"Warning: {line}", file=sys.stderr)
    on_main_process(lambda: SplitRecord.of(run.splits).with_former(former).save(folder))
    on_main_process(lambda: keep_metrics_until(folder, state.step))
    state.best = on_main_process(lambda: best_so_far(folder))
    state.precision = on_main_process(lambda: choose_precision(state.model, config.precision))
    compile = config.compile and on_main_process(lambda: can_compile(device))
    state.model.use(memory=config.memory, compile=compile)
    state.go_on()
    return state


def _new_state(run: Run, device: torch.device) -> TrainingState:
    config = run.config
    torch.manual_seed(config.seed)
    model = make_model(model_config_for(config, run.splits)).to(device)
    if config.data.dtype == "float64":
        model = model.double()
    model.trained_on = training_data(config, run.splits)
    average = make_average(model, config.ema) if config.ema else None
    optimizer = make_optimizer(model, config.optimizer, config.lr)
    return TrainingState(run, model, average, optimizer)


def _changes(former: SplitRecord | None, run: Run) -> Changes | None:
    """In what the images differ from those that the run had until now; None where they do not, or
    where that is not known."""
    if former is None or former.same_images(run.splits):
        return None
    changes = former.changes(run.splits)
    return changes if changes.any else None
