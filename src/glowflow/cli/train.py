"""`glow train`: from images to a model, its figures and its pictures."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from ..checks import require_dtype
from ..data.config import DataConfig
from ..errors import InputError
from ..files import make_numbered, path_of, remove_empty, require_new, write_text
from ..launcher import launched_processes
from ..models.config import Architecture, Family, RealNVPArchitecture, without_bins
from ..training.as_yaml import from_yaml, to_yaml
from ..training.config import TrainConfig, read_run_config
from ..training.presets import FAMILIES, PRESETS, PUBLISHED_LR, preset_config, starting_config
from .options import CommonOptions, Outcome, check_device, taken
from .results import dated_folder

if TYPE_CHECKING:
    from ..data.record import SplitRecord
    from ..data.types import Splits
    from ..models.flow import ImageFlow
    from ..training.loop import Trained

DATA_FIRST = True
NOTICEABLE = 0.02
"""Bits/dim by which the last validation is above the best before it is spoken of."""


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
    data_changed: Literal["ok"] | None = None
    """With --resume: go on although images were added, removed or changed since the run started."""
    print_config: bool = False
    """Print the configuration as YAML and stop."""
    save_config: Path | None = None
    """Write the configuration to this YAML file and stop."""


def default(arguments: Sequence[str], processes: int | None = None) -> Options:
    """The options before the flags: of the first flag that chooses them, else the defaults.

    Args:
        arguments: of the command line.
        processes: that share a batch; by default as many as the launcher has started.
    """
    given = list(arguments)
    resume, config, preset, family, model = (
        taken(given, f"--{name}") for name in ("resume", "config", "preset", "family", "from")
    )
    if sum(choice is not None for choice in (resume, config, preset, family, model)) > 1:
        raise InputError("Give one of --resume, --from, --config, --preset and --family.")
    if resume is not None:
        return Options(train=read_run_config(path_of(resume)))
    if model is not None:
        return Options(train=_config_from(model, taken(given, "--data")))
    if config is not None:
        try:
            text = Path(config).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"Cannot read {config} ({error.strerror}): give a YAML file."
            ) from error
        except UnicodeDecodeError as error:
            raise InputError(
                f"Cannot read {config} (it is not UTF-8 text): give a YAML file."
            ) from error
        return _with_bits_of(given, from_yaml(TrainConfig, text, config))
    if preset is not None:
        batch = taken(given, "--batch-size") or ""
        size = int(batch) if batch.isdigit() else None
        return Options(
            train=preset_config(
                preset, batch_size=size, processes=processes or launched_processes()
            )
        )
    known = family if family in FAMILIES else "glow"
    side, fit = taken(given, "--patches"), taken(given, "--fit")
    patches = side not in (None, "None") or fit == "patches"
    patches = patches and taken(given, "--first-map") in (None, "auto", "interlaced")
    data = taken(given, "--data") or ""
    return _with_bits_of(given, starting_config(data, known, patches=patches))


def _with_bits_of(arguments: list[str], config: TrainConfig) -> Options:
    """The options; without the noise of bytes, where `--bits None` says that there are none."""
    if taken(arguments, "--bits") == "None":
        config = replace(config, model=without_bins(config.model))
    return Options(train=config)


def _config_from(source: str, named: str | None) -> TrainConfig:
    """What a run starts from that takes a model's weights: its architecture, and how its images
    were read; `named` are other data."""
    from ..models.conditional import ConditionalGlow
    from ..models.training_data import size_of
    from .model_data import data_for, dtype_of, load_model_for

    model = load_model_for(source, "cpu", any_kind=True)
    known, shape = model.trained_on, model.config.image_shape
    data = DataConfig(size=size_of(shape)) if model.config.bits is not None else DataConfig()
    pictures = model.config.bits is not None and not isinstance(model, ConditionalGlow)
    if known is not None and pictures:
        how: Any = {"fit": known.fit, "upscale": known.upscale, "source_range": known.source_range}
        data = replace(data, data=known.source or data.data, **how)
    elif known is not None and (read := named or known.source):
        data = data_for(model, source, read)
    channels: Any = shape[0] if model.config.bits is not None and shape[0] in (1, 3, 4) else None
    channels = None if data.condition else channels
    data = replace(data, channels=channels, dtype=dtype_of(model))
    if known is not None and known.held_out is not None:
        split_by: Any = known.split or data.split_by
        data = replace(data, held_out=known.held_out, split_by=split_by)
    family = FAMILIES[model.config.family]
    return replace(
        family,
        data=data,
        model=architecture_of(model.config),
        conditional=model.config.classes > 0,
        started_from=source,
    )


def run(options: Options) -> Outcome:
    """Train, evaluate on held-out images, and write the report."""
    config = options.train
    if options.print_config:
        return Outcome(to_yaml(config).rstrip(), {"config": to_yaml(config)})
    if options.save_config is not None:
        if options.save_config.exists():
            raise InputError(f"{options.save_config} is there already: choose another name.")
        write_text(options.save_config, to_yaml(config))
        return Outcome(f"Wrote {options.save_config}.", {"config": str(options.save_config)})
    from .processes import by_all

    device = check_device(options.device)
    require_dtype(config.data.dtype, device)
    return by_all(device, lambda: _run(options))


def _run(options: Options) -> Outcome:
    from ..processes import local_main_process_first, on_main_process, process_index
    from ..training.loop import train
    from ..training.resume import check_resumed, nothing_to_do
    from .model_data import split_record
    from .run_files import SampleSheets, finish_run

    if options.resume is not None:
        options = replace(options, resume=path_of(options.resume))
    config = options.train
    device = check_device(options.device)
    resume = options.resume is not None
    progress = not options.json and process_index() == 0
    if process_index() == 0:
        _tell_scaling(options)
    if options.resume is not None:
        folder = options.resume
        on_main_process(lambda: check_resumed(folder, config))
        ended = on_main_process(lambda: nothing_to_do(folder, config))
        if ended:
            return Outcome(ended, {"run": str(folder), "nothing_to_do": True})
    elif options.data_changed is not None:
        raise InputError("--data-changed is for --resume: leave it out.")
    model = local_main_process_first(lambda: _model_to_start_from(config)) if not resume else None
    splits = local_main_process_first(lambda: _splits(options, model, progress))
    before = None if config.started_from is None or resume else split_record(config.started_from)
    if before is not None:
        splits = _with_trained(splits, before)

    def choose() -> Path:
        if options.resume is not None:
            return options.resume
        if options.out is not None:
            require_new(options.out)
            return options.out
        return make_numbered(dated_folder(Path(config.data.data).stem or "run"))

    folder = on_main_process(choose)
    try:
        trained = train(
            config,
            splits,
            folder,
            device=device,
            resume=resume,
            data_changed=options.data_changed == "ok",
            start_from=model,
            trained_before=before,
            on_validation=SampleSheets(folder, splits.valid),
            progress=progress,
        )
    finally:
        if (
            options.resume is None and options.out is None
        ):  # what was made for a run that is refused
            remove_empty(folder, folder.parent)
    if trained.interrupted:
        return _interrupted(trained)
    outcome = finish_run(trained, trained.splits, config)
    if process_index() == 0:
        _tell_validation(trained)
    validation = {
        "valid_bits_per_dim": trained.valid_bits_per_dim,
        "valid_bits_per_dim_last": trained.valid_bits_per_dim_last,
        "best_valid_bits_per_dim": trained.best,
    }
    return replace(outcome, facts={**outcome.facts, **validation})


def _splits(options: Options, model: "ImageFlow | None", progress: bool) -> "Splits":
    """The images, by the classes of the model that the run starts from."""
    from ..data.inputs import with_classes_of
    from ..training.resume import open_own

    ways = "give the new place of the images with --data"
    splits = open_own(options.resume, options.train.data, ways, progress=progress)
    return splits if model is None else with_classes_of(model, splits)


def _with_trained(splits: "Splits", before: "SplitRecord") -> "Splits":
    """The splits with what the weights were trained on in training, as far as it may go there.

    Raises:
        InputError: a part has no image left.
    """
    from ..data.inputs import empty_part
    from .model_data import say

    kept, count = before.keep_trained(splits)
    if count:
        where = "stay where they were published" if kept is splits else "are trained on again"
        say(
            f"{count:,} held-out images are among those that the weights were trained on: they "
            f"{where}."
        )
    if (part := empty_part(kept)) is not None:
        raise InputError(
            f"{splits.source}: the weights were trained on all that would be called {part}, and "
            f"none is left to be called {part}: give the split of that run with --held-out and "
            "--split-by, or other images with --data."
        )
    return kept


def _model_to_start_from(config: TrainConfig) -> "ImageFlow | None":
    """The model whose weights the run starts from.

    Raises:
        InputError: the run asks for another architecture.
    """
    if config.started_from is None:
        return None
    from .model_data import load_model_for

    model = load_model_for(config.started_from, "cpu", any_kind=True)
    own, asked = asdict(architecture_of(model.config)), asdict(config.model)
    for name, value in own.items():
        if name != "weight_classes" and asked.get(name) != value:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{config.started_from} has {flag} {value}, and {asked.get(name)} is asked for: "
                f"its weights do not fit; leave {flag} out."
            )
    if config.conditional != (model.config.classes > 0):
        has = "has classes" if model.config.classes else "has no classes"
        raise InputError(f"{config.started_from} {has}: its weights fit only a run of that kind.")
    return model


def architecture_of(config: Any) -> Architecture | RealNVPArchitecture:
    """The configuration of a model, without the data that it is for."""
    kind = RealNVPArchitecture if config.family == "realnvp" else Architecture
    return kind(**{each.name: getattr(config, each.name) for each in fields(kind)})


def _interrupted(trained: "Trained") -> Outcome:
    from ..models.likelihood import name_of_data

    go_on = f"glow train --resume {shlex.quote(str(trained.run))}"
    name = name_of_data(trained.model.config.bits)
    return Outcome(
        f"Stopped after {trained.images:,} {name}; {trained.run} is whole. Go on with: {go_on}",
        {"run": str(trained.run), "images": trained.images, "interrupted": True, "resume": go_on},
        code=130,
    )


def _tell_validation(trained: "Trained") -> None:
    from ..models.likelihood import name_of_data, unit_of
    from ..training.checkpoint import BEST

    best = trained.run / BEST
    worse = trained.valid_bits_per_dim - trained.best
    bits = trained.model.config.bits
    (unit, scale), name = unit_of(bits), name_of_data(bits)
    figures = (trained.valid_bits_per_dim, trained.valid_bits_per_dim_last, trained.best)
    averaged, last, lowest = (scale * each for each in figures)
    advice = (
        f"; what was learnt after it made held-out {name} {scale * worse:.2f} {unit} worse: use "
        f"{best}"
        if worse > NOTICEABLE
        else ""
    )
    Console(stderr=True).print(
        f"validation: {averaged:.3f} {unit} with averaged and {last:.3f} with last weights, best "
        f"{lowest:.3f} in {best}{advice}",
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
