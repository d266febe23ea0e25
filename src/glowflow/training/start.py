"""A run before its next step: a new one, or one that goes on from its newest checkpoint."""

import torch

from ..models.registry import make_model
from ..processes import on_main_process
from .checkpoint import best_so_far
from .config import write_run_config
from .hardware import can_compile, choose_precision
from .initialisation import initialize, model_config_for, training_data
from .metrics import keep_metrics_until
from .optimisation import make_average, make_optimizer
from .run import Run
from .state import TrainingState


def start(run: Run, device: torch.device, resume: bool) -> TrainingState:
    """The state that the next step is taken from, the same in every process.

    Raises:
        CheckpointError: `resume`, and there is no usable checkpoint.
        InputError: the folder cannot be written.
    """
    config, folder = run.config, run.folder
    state = _new_state(run, device)
    if resume:
        state.restore()
    else:
        on_main_process(lambda: write_run_config(folder, config))
        on_main_process(lambda: initialize(state.model, run.splits.train, config.seed))
        state.broadcast()
        on_main_process(state.save)
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
    model.trained_on = training_data(config, run.splits)
    average = make_average(model, config.ema) if config.ema else None
    optimizer = make_optimizer(model, config.optimizer, config.lr)
    return TrainingState(run, model, average, optimizer)
