"""Trials: the training runs of a study, one for each configuration and seed.

They lie below the study's folder as `trials/NAME-sSEED`, each an ordinary run with a `result.json`
at its end. A study that is started again takes the results that are there and goes on with the
trial that was interrupted.
"""

import json
import math
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from ...data.types import Splits
from ...errors import CheckpointError, InputError, TrainingError
from ...files import LOCK, in_use, require_new, require_writable, write_text
from ...models.registry import make_model
from ...training.checkpoint import list_checkpoints
from ...training.config import TrainConfig, read_run_config
from ...training.initialisation import model_config_for
from ...training.loop import Trained, train
from ...training.metrics import read_metrics
from ...training.validation import validate
from ..provenance import hardware
from .progress import note_for, trials_bar
from .results import TrialResult
from .study import TrainedStudy, Trial

FOLDER = "trials"
RESULT_FILE = "result.json"
SETTINGS_FILE = "settings.yaml"


def begin(folder: Path, study: str, settings: Mapping[str, Any]) -> None:
    """Write settings.yaml into a new folder, or go on in one that has the same settings.

    Raises:
        InputError: the folder is another study's, has other settings, or cannot be written.
    """
    text = yaml.safe_dump({"study": study, **settings}, sort_keys=False, default_flow_style=None)
    path = folder / SETTINGS_FILE
    if not path.is_file():
        require_new(folder)
        require_writable(folder)
        write_text(path, text)
        return
    now = yaml.safe_load(text)
    try:
        before = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, OSError, ValueError, TypeError) as error:
        raise InputError(f"Cannot read {path}: choose another --out.") from error
    for name in [*now, *before]:
        if before.get(name) != now.get(name):
            raise InputError(
                f"The study in {folder} was started with {name} {before.get(name)}, and this is "
                f"{now.get(name)}: go on with the same options, or choose another --out."
            )
    require_writable(folder)


def run_trials(
    study: TrainedStudy,
    trials: Sequence[Trial],
    splits: Splits,
    folder: Path,
    *,
    device: str,
    title: str = "trial",
    progress: bool = True,
) -> list[TrialResult]:
    """Train and score each trial below `folder`, but those that have a result.

    Args:
        study: says how test images are scored.
        trials: of different names or seeds.
        splits: the data of all.
        folder: the study's.
        device: `cpu`, `cuda`, …
        title: of the bar.
        progress: show one bar, over all trials.

    Raises:
        InputError: the data do not fit a model, or the folder cannot be written.
        CheckpointError: what an interrupted trial has left is damaged.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the trial under way has a checkpoint.
    """
    results = []
    with trials_bar(title, len(trials), progress) as show:
        for number, trial in enumerate(trials):
            run = run_folder(folder, trial.name, trial.config.seed)
            result = _read_result(run)
            if result is None:
                show(number, 0.0, trial)
                note = note_for(show, number, trial)
                result = _train(study, trial, splits, run, device, note)
                write_text(run / RESULT_FILE, json.dumps(asdict(result)) + "\n")
            else:
                show(number + 1, None, trial)
            results.append(result)
    return results


def run_folder(folder: Path, name: str, seed: int) -> Path:
    """Of a trial."""
    return folder / FOLDER / f"{name}-s{seed}"


def _train(
    study: TrainedStudy,
    trial: Trial,
    splits: Splits,
    run: Path,
    device: str,
    note: Callable[[object, int], None],
) -> TrialResult:
    resume = bool(list_checkpoints(run))
    if run.exists() and not resume:
        _empty(run)  # it was interrupted before its first checkpoint
    try:
        trained = train(
            trial.config,
            splits,
            run,
            device=device,
            resume=resume,
            on_validation=note,
            progress=False,
        )
    except TrainingError as error:
        return _result(trial, splits, run, device, stopped=str(error))
    if trained.interrupted:
        raise KeyboardInterrupt
    test = _score(study, trained, splits)
    if not math.isfinite(test):
        reason = f"The test bits/dim are {test}."
        return _result(trial, splits, run, device, stopped=reason)
    return replace(
        _result(trial, splits, run, device),
        images=trained.images,
        seconds=round(trained.seconds, 2),
        valid_bits_per_dim=trained.valid_bits_per_dim,
        test_bits_per_dim=test,
    )


def _empty(run: Path) -> None:
    """Remove what is in a trial's folder.

    Raises:
        InputError: another process trains it.
    """
    with in_use(run) as lock:
        lock()
        for path in run.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def _score(study: TrainedStudy, trained: Trained, splits: Splits) -> float:
    """Test bits/dim, the mean over noise draws."""
    with trained.model.frozen():
        return statistics.fmean(
            validate(trained.model, splits.test, limit=study.test_images, seed=draw)
            for draw in range(study.draws)
        )


def _result(trial: Trial, splits: Splits, run: Path, device: str, stopped: str = "") -> TrialResult:
    """What the run's files say."""
    lines = [line for line in read_metrics(run) if "bits_per_dim" in line]
    last = lines[-1] if lines else {"images": 0, "seconds": 0.0}
    return TrialResult(
        name=trial.name,
        seed=trial.config.seed,
        parameters=count_parameters(read_run_config(run), splits),  # its first map is chosen
        images=int(last["images"]),
        seconds=float(last["seconds"]),
        images_per_second=_median([line["images_per_second"] for line in lines]),
        valid_bits_per_dim=None,
        test_bits_per_dim=None,
        curve=tuple((m["images"], m["seconds"], m["bits_per_dim"]) for m in lines),
        hardware=hardware(device),
        stopped=stopped,
    )


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1) if values else 0.0


def _read_result(run: Path) -> TrialResult | None:
    path = run / RESULT_FILE
    if not path.is_file():
        return None
    try:
        result = TrialResult(**json.loads(path.read_text(encoding="utf-8")))
        curve = tuple((int(n), float(s), float(bits)) for n, s, bits in result.curve)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"Cannot read {path}: it is damaged; delete it, and the trial is scored again."
        ) from error
    return replace(result, curve=curve)


def count_parameters(config: TrainConfig, splits: Splits) -> int:
    """Trainable weights of the model that this run trains on these data."""
    model = make_model(model_config_for(config, splits))
    return sum(weight.numel() for weight in model.parameters())
