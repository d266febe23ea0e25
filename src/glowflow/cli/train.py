"""`glow train`: from images to a model, its figures and its pictures."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..errors import InputError
from ..files import require_new, write_text
from ..launcher import launched_processes
from ..models.config import Family
from ..training.as_yaml import from_yaml, to_yaml
from ..training.config import TrainConfig, read_run_config
from ..training.presets import FAMILIES, PRESETS, PUBLISHED_LR, preset_config, starting_config
from .options import CommonOptions, Outcome, check_device, taken
from .results import dated_folder

if TYPE_CHECKING:
    from ..training.loop import Trained

DATA_FIRST = True


@dataclass(frozen=True, kw_only=True)
class ConfigOptions(CommonOptions):
    train: TrainConfig = field(default_factory=TrainConfig)
    config: Path | None = None
    """YAML file with the configuration; flags override it."""
    preset: str | None = None
    """A published run (cifar10, imagenet32, celebahq256, …); flags override it."""
    family: Family | None = None
    """The kind of model, glow by default; `--family realnvp --help` shows RealNVP's options."""


@dataclass(frozen=True, kw_only=True)
class Options(ConfigOptions):
    resume: Path | None = None
    """Go on with the run in this folder, from its newest checkpoint."""
    print_config: bool = False
    """Print the configuration as YAML and stop."""
    save_config: Path | None = None
    """Write the configuration to this YAML file and stop."""
    evaluation_images: int = 500
    """Test images of the evaluation at the end."""


def default(arguments: Sequence[str], processes: int | None = None) -> Options:
    """The options before the flags: of the first flag that chooses them, else the defaults.

    Args:
        arguments: of the command line.
        processes: that share a batch; by default as many as the launcher has started.
    """
    given = list(arguments)
    resume, config, preset, family = (
        taken(given, f"--{name}") for name in ("resume", "config", "preset", "family")
    )
    if sum(choice is not None for choice in (resume, config, preset, family)) > 1:
        raise InputError("Give one of --resume, --config, --preset and --family.")
    if resume is not None:
        return Options(train=read_run_config(Path(resume)))
    if config is not None:
        try:
            text = Path(config).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"Cannot read {config} ({error.strerror}): give a YAML file."
            ) from error
        return Options(train=from_yaml(TrainConfig, text, config))
    if preset is not None:
        batch = taken(given, "--batch-size") or ""
        size = int(batch) if batch.isdigit() else None
        return Options(
            train=preset_config(
                preset, batch_size=size, processes=processes or launched_processes()
            )
        )
    known = family if family in FAMILIES else "glow"
    return Options(train=starting_config(taken(given, "--data") or "", known))


def run(options: Options) -> Outcome:
    """Train, evaluate on held-out images, and write the report."""
    config = options.train
    if options.print_config:
        return Outcome(to_yaml(config).rstrip(), {"config": to_yaml(config)})
    if options.save_config is not None:
        write_text(options.save_config, to_yaml(config))
        return Outcome(f"Wrote {options.save_config}.", {"config": str(options.save_config)})
    from .processes import by_all

    return by_all(check_device(options.device), lambda: _run(options))


def _run(options: Options) -> Outcome:
    from ..data.open import open_splits
    from ..processes import local_main_process_first, on_main_process, process_index
    from ..training.loop import train
    from .run_files import SampleSheets, finish_run

    config = options.train
    device = check_device(options.device)
    resume = options.resume is not None
    progress = not options.json and process_index() == 0
    if process_index() == 0:
        _tell_scaling(options)

    def choose() -> Path:
        folder = options.resume or options.out or dated_folder(Path(config.data.data).stem or "run")
        if not resume:
            require_new(folder)
        return folder

    folder = on_main_process(choose)
    splits = local_main_process_first(lambda: open_splits(config.data, progress=progress))
    trained = train(
        config,
        splits,
        folder,
        device=device,
        resume=resume,
        on_validation=SampleSheets(folder),
        progress=progress,
    )
    if trained.interrupted:
        return _interrupted(trained)
    outcome = finish_run(trained, splits, config, images=options.evaluation_images)
    if process_index() == 0:
        _tell_validation(trained)
    validation = {
        "valid_bits_per_dim": trained.valid_bits_per_dim,
        "valid_bits_per_dim_last": trained.valid_bits_per_dim_last,
        "best_valid_bits_per_dim": trained.best,
    }
    return replace(outcome, facts={**outcome.facts, **validation})


def _interrupted(trained: "Trained") -> Outcome:
    go_on = f"glow train --resume {shlex.quote(str(trained.run))}"
    return Outcome(
        f"Stopped after {trained.images:,} images; {trained.run} is whole. Go on with: {go_on}",
        {"run": str(trained.run), "images": trained.images, "interrupted": True, "resume": go_on},
        code=130,
    )


def _tell_validation(trained: "Trained") -> None:
    from ..training.checkpoint import BEST

    Console(stderr=True).print(
        f"validation: {trained.valid_bits_per_dim:.3f} bits/dim with averaged and "
        f"{trained.valid_bits_per_dim_last:.3f} with last weights, best {trained.best:.3f} in "
        f"{trained.run / BEST}",
        markup=False,
        soft_wrap=True,
    )


def _tell_scaling(options: Options) -> None:
    preset, config = PRESETS.get(options.preset or ""), options.train
    if preset is not None and config.batch_size != preset.batch_size:
        Console(stderr=True).print(
            f"The preset's batch is {preset.batch_size} and its rate {PUBLISHED_LR:g}; with a "
            f"batch of {config.batch_size} the rate is {config.lr:.3g}, by the square-root rule "
            "unless --lr says otherwise.",
            markup=False,
        )
