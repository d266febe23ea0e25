"""`glow study`: one measured claim by one command."""

import shlex
import time
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro

from ..files import write_text
from ..studies.measured.study import MeasuredStudy
from ..studies.registry import STUDIES, study_class
from ..studies.study import Findings
from ..studies.summary import DETAILS_FILE, SUMMARY_FILE, compact_json
from ..studies.trained.study import TrainedStudy
from .options import CommonOptions, DataOptions, Outcome, check_device
from .ranges import numbers

if TYPE_CHECKING:
    import torch


def options_of(name: str) -> Any:
    """The options of `glow study NAME`: the study's fields, and what all studies of its kind have.

    Several floats are typed as START:STOP:STEP.
    """
    study = study_class(name)
    return make_dataclass(
        study.__name__,
        [(f.name, _range(f.name), f.default) for f in fields(study) if f.type == tuple[float, ...]],
        bases=(study, DataOptions if issubclass(study, MeasuredStudy) else CommonOptions),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": study.__doc__, "name": name},
    )


def _range(name: str) -> Any:
    flag = f"--{name.replace('_', '-')}"
    spec = tyro.constructors.PrimitiveConstructorSpec[tuple[float, ...]](
        nargs=1,
        metavar="START:STOP:STEP",
        instance_from_str=lambda texts: tuple(numbers(texts[0], flag)),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [_as_range(value)],
    )
    return Annotated[tuple[float, ...], spec]


def _as_range(values: tuple[float, ...]) -> str:
    if len(values) == 1:
        return f"{values[0]:.15g}"
    return f"{values[0]:.15g}:{values[-1]:.15g}:{values[1] - values[0]:.12g}"


def __getattr__(name: str) -> Any:
    """`Options`: those of every study, which are read when they are asked for."""
    if name != "Options":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return Union[tuple(Annotated[options_of(n), tyro.conf.subcommand(n)] for n in STUDIES)]  # noqa: UP007


def run(options: Any) -> Outcome:
    """Measure, and write the page, its pictures and the figures."""
    kinds = {MeasuredStudy: _measure, TrainedStudy: _train}
    return next(go for kind, go in kinds.items() if isinstance(options, kind))(options)


def _measure(options: Any) -> Outcome:
    """A study of a model that is there."""
    from .model_data import load_model_for, splits_for
    from .results import new_folder

    start = time.monotonic()
    device = check_device(options.device)
    model = load_model_for(options.model, device)
    splits = splits_for(model, options)
    options.check(model, splits)
    folder = new_folder(options.out, f"study-{options.name}")
    findings = options.run(model, splits, progress=not options.json)
    return _leave(options, folder, findings, start, model.device)


def _train(options: Any) -> Outcome:
    """Begin or go on with a study in its folder."""
    import torch

    from ..data.open import open_splits
    from ..studies.trained.trials import begin
    from .results import keep_made, new_folder

    start = time.monotonic()
    device = check_device(options.device)
    splits = open_splits(options.data, progress=not options.json)
    options.check(splits)
    folder = options.out or new_folder(None, f"study-{options.name}")
    begin(folder, options.name, settings_of(options))
    keep_made()
    try:
        findings = options.measure(splits, folder, device=device, progress=not options.json)
    except KeyboardInterrupt:
        return Outcome(
            f"Stopped; {folder} is whole. Go on with the same options and --out {folder}",
            {"out": str(folder), "interrupted": True},
            code=130,
        )
    return _leave(options, folder, findings, start, torch.device(device))


def _leave(
    options: Any, folder: Path, findings: Findings, start: float, device: "torch.device"
) -> Outcome:
    """Write the files of a study into its folder."""
    from ..studies.provenance import commit, hardware
    from .results import describe_environment, write_findings

    write_findings(folder, options.name, findings)
    summary = {
        "study": options.name,
        "command": command_of(options),
        "settings": settings_of(options),
        "sentence": findings.sentence,
        **findings.summary,
        "total_seconds": round(time.monotonic() - start, 1),
        "hardware": hardware(str(device)),
        "commit": commit(),
        "environment": describe_environment(device, options.seed),
    }
    write_text(folder / SUMMARY_FILE, compact_json(summary) + "\n")
    if findings.details:
        write_text(folder / DETAILS_FILE, compact_json(findings.details) + "\n")
    facts = {"out": str(folder), **summary, **findings.details}
    return Outcome(f"{findings.sentence} Results: {folder}", facts)


def settings_of(options: Any) -> dict[str, Any]:
    """The options that say what is measured."""
    common = [field.name for field in fields(CommonOptions)]
    return {key: value for key, value in asdict(options).items() if key not in common}


def command_of(options: Any) -> str:
    """The command that measures the same: it has the options that are not the default."""
    return shlex.join(["glow", "study", options.name, *_flags(options)])


def _flags(options: Any, *, ranges: bool = True) -> Iterator[str]:
    """What is not the default; with `ranges`, floats are START:STOP:STEP."""
    common = [field.name for field in fields(CommonOptions)]
    for field in fields(options):
        value = getattr(options, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if is_dataclass(value):
            yield from _flags(value, ranges=False)
        elif value != default and field.name not in common:
            yield f"--{field.name.replace('_', '-')}"
            yield from _words(value, ranges)


def _words(value: Any, ranges: bool) -> list[str]:
    if value is True:
        return []
    if not isinstance(value, tuple):
        return [str(value)]
    if ranges and value and all(isinstance(item, float) for item in value):
        return [_as_range(value)]
    return [str(item) for item in value]
