"""`glow study`: one measured claim by one command."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from ..data.open import open_splits
from ..files import replacing
from ..models.registry import load_model
from ..studies import Findings
from ..studies.measured import (
    anomaly,
    attributes,
    attributes_report,
    bits,
    components,
    interpolation,
    temperature,
)
from ..studies.measured.anomaly import AnomalySettings
from ..studies.measured.attributes import AttributeSettings
from ..studies.measured.bits import BitsSettings
from ..studies.measured.components import ComponentSettings
from ..studies.measured.interpolation import InterpolationSettings
from ..studies.measured.temperature import TemperatureSettings
from ..studies.trained import depth, lu, permutations, realnvp
from ..studies.trained.depth import DepthSettings
from ..studies.trained.lu import LUSettings
from ..studies.trained.permutations import PermutationSettings
from ..studies.trained.realnvp import RealNVPSettings
from ..studies.trained.trials import begin
from .options import CommonOptions, Outcome, check_device
from .photos import data_for
from .ranges import numbers
from .results import describe_environment, new_folder, write_json

Check = Callable[..., object]
Measure = Callable[..., Findings]


@dataclass(frozen=True, kw_only=True)
class ModelOptions(CommonOptions):
    model: str
    """Folder of a run or of a saved model, or a Hugging Face hub id."""
    data: str | None = None
    """Images: faces, a folder in CelebA's layout, …; by default the data of the run."""
    upscale: bool = False
    """Accept images smaller than the model's and enlarge them."""


@dataclass(frozen=True, kw_only=True)
class Attributes(AttributeSettings, ModelOptions):
    """Edit every attribute by three estimators: flip rate, leakage, identity, and strips."""


@dataclass(frozen=True, kw_only=True)
class Interpolation(InterpolationSettings, ModelOptions):
    """Bits/dim along paths between test images, beside those of a cross-fade."""


@dataclass(frozen=True, kw_only=True)
class Anomaly(AnomalySettings, ModelOptions):
    """AUROC of test images against other images, by each anomaly score; which of them fail."""


RANGE = tyro.constructors.PrimitiveConstructorSpec[tuple[float, ...]](
    nargs=1,
    metavar="START:STOP:STEP",
    instance_from_str=lambda texts: tuple(numbers(texts[0], "--temperatures")),
    is_instance=lambda value: isinstance(value, tuple),
    str_from_instance=lambda value: [f"{value[0]:g}:{value[-1]:g}:{value[1] - value[0]:g}"],
)


@dataclass(frozen=True, kw_only=True)
class Temperature(TemperatureSettings, ModelOptions):
    """Samples at each temperature: bits/dim, distances to and from the data, variance, a sheet."""

    temperatures: Annotated[tuple[float, ...], RANGE] = TemperatureSettings.temperatures
    """Standard deviations of the latents, or one."""


@dataclass(frozen=True, kw_only=True)
class Bits(BitsSettings, ModelOptions):
    """Bits/dim: uniform and importance-weighted bounds, beside baselines and published figures."""


@dataclass(frozen=True, kw_only=True)
class Components(ComponentSettings, ModelOptions):
    """What each level's principal axes explain, and what can be read linearly off it."""


@dataclass(frozen=True, kw_only=True)
class Permutations(PermutationSettings, CommonOptions):
    """Train Glows with reversed, shuffled and learned channels: curves, bits/dim, speed."""


@dataclass(frozen=True, kw_only=True)
class RealNVP(RealNVPSettings, CommonOptions):
    """Train Glow and RealNVP with as many parameters, on as many images and for as long."""


@dataclass(frozen=True, kw_only=True)
class LU(LUSettings, CommonOptions):
    """The 1x1 convolution as LU and plain: one function, bits/dim, and what each costs."""


@dataclass(frozen=True, kw_only=True)
class Depth(DepthSettings, CommonOptions):
    """Train Glows of several levels and steps: bits/dim, speed and memory."""


Options = (
    Annotated[Attributes, tyro.conf.subcommand("attributes")]
    | Annotated[Interpolation, tyro.conf.subcommand("interpolation")]
    | Annotated[Anomaly, tyro.conf.subcommand("anomaly")]
    | Annotated[Temperature, tyro.conf.subcommand("temperature")]
    | Annotated[Bits, tyro.conf.subcommand("bits")]
    | Annotated[Components, tyro.conf.subcommand("pca")]
    | Annotated[Permutations, tyro.conf.subcommand("permutations")]
    | Annotated[RealNVP, tyro.conf.subcommand("realnvp")]
    | Annotated[LU, tyro.conf.subcommand("lu")]
    | Annotated[Depth, tyro.conf.subcommand("depth")]
)


STUDIES: dict[type[ModelOptions], tuple[str, Check, Measure]] = {
    Attributes: ("attributes", attributes.check, attributes_report.report),
    Interpolation: ("interpolation", interpolation.check, interpolation.report),
    Anomaly: ("anomaly", anomaly.check, anomaly.report),
    Temperature: ("temperature", temperature.check, temperature.report),
    Bits: ("bits", bits.check, bits.report),
    Components: ("pca", components.check, components.report),
}


TRAINED: dict[type[CommonOptions], tuple[str, Check, Measure]] = {
    Permutations: ("permutations", permutations.check, permutations.report),
    RealNVP: ("realnvp", realnvp.check, realnvp.report),
    LU: ("lu", lu.check, lu.report),
    Depth: ("depth", depth.check, depth.report),
}
"""Those that train their models, and can be gone on with."""


def run(options: Any) -> Outcome:
    """Measure, and write NAME.json, tables and pictures."""
    start = time.monotonic()
    if type(options) in TRAINED:
        return _run_trials(options, start)
    device = check_device(options.device)
    model = load_model(options.model, device=device)
    config = data_for(model, options.model, options.data, options.upscale)
    splits = open_splits(config, progress=not options.json)
    name, check, measure = STUDIES[type(options)]
    check(model, splits, options)
    folder = new_folder(options.out, f"study-{name}")
    found = measure(model, splits, options, progress=not options.json)
    return _leave(name, options, folder, found, start, model.device)


def _run_trials(options: Any, start: float) -> Outcome:
    """Begin or go on with a study in its folder."""
    device = check_device(options.device)
    name, check, measure = TRAINED[type(options)]
    splits = open_splits(options.data, progress=not options.json)
    check(splits, options)
    folder = options.out or new_folder(None, f"study-{name}")
    begin(folder, name, _settings(options))
    try:
        found = measure(splits, options, folder, device=device, progress=not options.json)
    except KeyboardInterrupt:
        return Outcome(
            f"Stopped; {folder} is whole. Go on with the same options and --out {folder}",
            {"out": str(folder), "interrupted": True},
            code=130,
        )
    return _leave(name, options, folder, found, start, torch.device(device))


def _settings(options: Any) -> dict[str, Any]:
    """The options that say what is measured."""
    common = [field.name for field in fields(CommonOptions)]
    return {key: value for key, value in asdict(options).items() if key not in common}


def _leave(
    name: str, options: Any, folder: Path, found: Findings, start: float, device: torch.device
) -> Outcome:
    """Write the files of a study into its folder."""
    for file, content in found.files.items():
        with replacing(folder / file) as path:
            path.write_bytes(content)
    facts = {
        "settings": _settings(options),
        **found.facts,
        "total_seconds": round(time.monotonic() - start, 1),
        "environment": describe_environment(device, options.seed),
    }
    write_json(folder / f"{name}.json", facts)
    return Outcome(f"{found.sentence} Results: {folder}", {"out": str(folder), **facts})
