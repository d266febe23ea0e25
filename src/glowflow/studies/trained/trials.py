"""Trials: the training runs of a study, one for each configuration and seed.

They lie below the study's folder as `trials/NAME-sSEED`, each an ordinary run with a `result.json`
at its end. A study that is started again takes the results that are there and goes on with the
trial that was interrupted.
"""

import json
import math
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ...checks import require_at_least
from ...data.config import DataConfig
from ...data.types import Splits
from ...errors import CheckpointError, InputError, TrainingError
from ...evaluation.estimate import mean_and_error
from ...files import require_new, require_writable, write_text
from ...models.config import Architecture, CouplingScale, RealNVPArchitecture
from ...models.flow import ImageFlow
from ...models.registry import make_model
from ...training.checkpoint import list_checkpoints
from ...training.config import TrainConfig
from ...training.initialisation import model_config_for
from ...training.loop import train
from ...training.metrics import read_metrics
from ...training.presets import starting_config
from ...training.validation import validate
from .. import Figure

Value = TypeVar("Value")

FOLDER = "trials"
RESULT_FILE = "result.json"
SETTINGS_FILE = "settings.yaml"
POINTS = 60
"""Of a training curve."""
VALIDATE_EVERY = 30.0
"""Seconds between two checkpoints of a trial."""
WITHOUT_END = 10**9
"""Images of a trial that the clock ends."""


@dataclass(frozen=True, kw_only=True)
class TrialSettings:
    """What the trials of a study have in common."""

    data: DataConfig = field(default_factory=DataConfig)
    images: int = 30_000
    """Training images that each trial sees."""
    minutes: float | None = None
    """Minutes of training of each trial, instead of a number of images."""
    seeds: int = 3
    """Trials of each configuration."""
    seed: int = 0
    """The first trial's; the others count on. Trials of one seed see the same images in the same
    order, with the same dequantisation noise."""
    hidden_channels: int = 64
    """Channels of the two hidden layers of Glow's coupling networks."""
    coupling_scale: CouplingScale = "bounded"
    """Of affine couplings: `sigmoid`, official; `bounded`: between 1/2 and 2; `exp`."""
    bits: int | None = None
    """Bits per pixel value; by default 8, of `digits` 4."""
    batch_size: int | None = None
    """Images per optimiser step; by default Glow's in `glow train`, for every kind of model: on as
    many images they take as many steps."""
    lr: float | None = None
    """Learning rate after the warm-up; by default that of `glow train` for the kind of model."""
    test_images: int = 500
    """Test images that are scored, at most."""
    draws: int = 4
    """Dequantisation noise draws of each test image."""

    @property
    def all_seeds(self) -> range:
        """Of every configuration."""
        return range(self.seed, self.seed + self.seeds)


@dataclass(frozen=True, kw_only=True)
class GlowSettings(TrialSettings):
    """Trials of Glows of one depth."""

    levels: int = 2
    """L: number of scales."""
    steps: int = 8
    """K: steps of flow per level."""


@dataclass(frozen=True)
class Trial:
    """One training run of a study."""

    name: str
    """Of the configuration; part of a folder's name."""
    config: TrainConfig


@dataclass(frozen=True)
class TrialResult:
    """What a trial ended with."""

    name: str
    seed: int
    parameters: int
    images: int
    """That training has seen."""
    seconds: float
    """Of training, with validations and checkpoints."""
    images_per_second: float
    """Median over the lines of metrics.jsonl."""
    valid_bits_per_dim: float | None
    """Of the averaged weights, one noise draw; None if the trial was stopped."""
    test_bits_per_dim: float | None
    """Of the averaged weights; None if the trial was stopped."""
    curve: tuple[tuple[int, float, float], ...]
    """Images, seconds, and training bits/dim since the point before."""
    hardware: str
    stopped: str = ""
    """Why training could not go on; empty if it came to its end."""


def train_config(
    settings: TrialSettings, seed: int, model: Architecture | RealNVPArchitecture
) -> TrainConfig:
    """A trial: optimiser and rate are those of `glow train` for the family, the batch is Glow's.

    The warm-up is a tenth of the images, at most.
    """
    base = starting_config(settings.data.data, model.family)
    images = settings.images if settings.minutes is None else WITHOUT_END
    batch_size = _given(settings.batch_size, starting_config(settings.data.data).batch_size)
    lines = base.log_every if settings.minutes else images // max(1, batch_size) // POINTS
    return replace(
        base,
        data=settings.data,
        model=replace(model, bits=_given(settings.bits, base.model.bits)),
        images=images,
        minutes=settings.minutes,
        batch_size=batch_size,
        lr=_given(settings.lr, base.lr),
        warmup_images=min(base.warmup_images, images // 10),
        seed=seed,
        log_every=max(1, lines),
        validate_every=VALIDATE_EVERY,
    )


def _given(value: Value | None, default: Value) -> Value:
    return default if value is None else value


def check_trials(trials: Sequence[Trial], splits: Splits, settings: TrialSettings) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: a number is too small, or the images do not fit a model.
    """
    require_at_least(settings, 1, "seeds", "test_images", "draws")
    require_at_least(settings, 0, "seed")
    for trial in trials:
        model_config_for(trial.config, splits)


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
    trials: Sequence[Trial],
    splits: Splits,
    folder: Path,
    settings: TrialSettings,
    *,
    device: str,
    title: str = "trial",
    progress: bool = True,
) -> list[TrialResult]:
    """Train and score each trial below `folder`, but those that have a result.

    Args:
        trials: of different names or seeds.
        splits: the data of all.
        folder: the study's.
        settings: how test images are scored.
        device: `cpu`, `cuda`, …
        title: of the bar.
        progress: show one bar, over all trials.

    Raises:
        InputError: the data do not fit a model, or the folder cannot be written.
        CheckpointError: what an interrupted trial has left is damaged.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the trial under way has a checkpoint.
    """
    results = []
    with _bar(title, len(trials), progress) as show:
        for number, trial in enumerate(trials):
            run = folder / FOLDER / f"{trial.name}-s{trial.config.seed}"
            found = _read_result(run)
            if found is None:
                show(number, 0.0, trial)
                note = _progress_of(show, number, trial)
                found = _run(trial, splits, run, settings, device, note)
                write_text(run / RESULT_FILE, json.dumps(asdict(found)) + "\n")
            else:
                show(number + 1, None, trial)
            results.append(found)
    return results


Note = Callable[[ImageFlow, int], None]
Show = Callable[[int, float | None, Trial], None]


def _run(
    trial: Trial, splits: Splits, run: Path, settings: TrialSettings, device: str, note: Note
) -> TrialResult:
    resume = bool(list_checkpoints(run))
    if run.exists() and not resume:
        shutil.rmtree(run)  # it was interrupted before its first checkpoint
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
    bits = [
        validate(
            trained.model,
            splits.test,
            limit=settings.test_images,
            seed=draw,
        )
        for draw in range(settings.draws)
    ]
    test = statistics.fmean(bits)
    if not math.isfinite(test):
        reason = f"The test bits/dim are {test}."
        return _result(trial, splits, run, device, stopped=reason)
    done = _result(trial, splits, run, device)
    return replace(
        done,
        images=trained.images,
        seconds=round(trained.seconds, 2),
        valid_bits_per_dim=trained.valid_bits_per_dim,
        test_bits_per_dim=test,
    )


def _result(trial: Trial, splits: Splits, run: Path, device: str, stopped: str = "") -> TrialResult:
    """What the run's files say."""
    lines = [line for line in read_metrics(run) if "bits_per_dim" in line]
    last = lines[-1] if lines else {"images": 0, "seconds": 0.0}
    return TrialResult(
        name=trial.name,
        seed=trial.config.seed,
        parameters=count_parameters(trial.config, splits),
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
        found = TrialResult(**json.loads(path.read_text(encoding="utf-8")))
        curve = tuple((int(n), float(s), float(bits)) for n, s, bits in found.curve)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"Cannot read {path}: it is damaged; delete it, and the trial is scored again."
        ) from error
    return replace(found, curve=curve)


def count_parameters(config: TrainConfig, splits: Splits) -> int:
    """Trainable weights of the model that this run trains on these data."""
    model = make_model(model_config_for(config, splits))
    return sum(weight.numel() for weight in model.parameters())


def hardware(device: str) -> str:
    """What computes, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    name = models[0] if models else name
    return f"{name} ({device}), {threads} thread{'s' if threads > 1 else ''}"


def of(results: Sequence[TrialResult], name: str) -> list[TrialResult]:
    """The trials of one configuration."""
    return [result for result in results if result.name == name]


def over_seeds(results: Sequence[TrialResult], measure: str) -> Figure | None:
    """Mean ± standard error over the trials that came to their end; None if none did."""
    values = [float(getattr(result, measure)) for result in results if not result.stopped]
    return Figure(*mean_and_error(np.array(values))) if values else None


def difference(
    results: Sequence[TrialResult], name: str, reference: str, measure: str = "test_bits_per_dim"
) -> Figure | None:
    """Mean ± standard error over seeds of name − reference, seed by seed; None without a pair."""
    ended = {
        (r.name, r.seed): float(getattr(r, measure))
        for r in results
        if r.name in (name, reference) and not r.stopped
    }
    values = [
        value - ended[reference, seed]
        for (whose, seed), value in ended.items()
        if whose == name and (reference, seed) in ended
    ]
    return Figure(*mean_and_error(np.array(values))) if values else None


def _progress_of(show: Show, number: int, trial: Trial) -> Note:
    start, minutes = time.monotonic(), trial.config.minutes

    def note(model: ImageFlow, images: int) -> None:
        by_clock = (time.monotonic() - start) / (60 * minutes) if minutes else 0.0
        show(number, min(1.0, max(images / trial.config.images, by_clock)), trial)

    return note


@contextmanager
def _bar(title: str, count: int, visible: bool) -> Iterator[Show]:
    """A bar that is shown a trial's number and the share of it that is done; None: it was there."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[left]}"),
        TimeElapsedColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        task = bar.add_task(title, total=count, left="")
        initial: list[float] = []

        def show(number: int, share: float | None, trial: Trial) -> None:
            done = number + (share or 0.0)
            if share is not None:
                initial[:] = initial or [done]
            rate = (done - initial[0]) / (time.monotonic() - start) if initial else 0.0
            left = f"{(count - done) / rate / 60:.1f} min left" if rate > 0 else ""
            which = f"{title} {min(number + 1, count)} of {count}: {trial.name}"
            bar.update(
                task,
                completed=done,
                description=f"{which}, seed {trial.config.seed}",
                left=left,
            )

        yield show
