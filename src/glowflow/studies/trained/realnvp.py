"""Glow beside RealNVP (Dinh et al. 2017): with as many parameters, and in as much time."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure as Plot

from ...data.types import Splits
from ...models.config import Architecture, Coupling, RealNVPArchitecture, RealNVPConfig
from ...models.realnvp import RealNVP
from ...reports.plots import plot_png
from ...training.presets import FAMILIES
from .. import Findings
from .trials import (
    WITHOUT_END,
    GlowSettings,
    Trial,
    TrialResult,
    check_trials,
    count_parameters,
    of,
    over_seeds,
    run_trials,
    train_config,
)
from .trials_report import (
    TABLE_WORDS,
    Section,
    about,
    compared,
    draw_curves,
    facts,
    files,
    recipe,
    results_table,
    stopped_section,
)

GLOW, SAME_IMAGES, SAME_TIME = "glow", "realnvp-images", "realnvp-time"
NAMES = {GLOW: "Glow", SAME_IMAGES: "RealNVP, as many images", SAME_TIME: "RealNVP, as much time"}
REFERENCES = dict.fromkeys(NAMES, GLOW)
MATCHED = 0.05
"""Largest relative difference in parameters that is called matched."""
MOST_SCALES = 5
"""That are tried."""
MOST_BLOCKS = 8
"""Residual blocks that are tried, at most."""


@dataclass(frozen=True, kw_only=True)
class RealNVPSettings(GlowSettings):
    """A Glow, and a RealNVP with as many parameters."""

    coupling: Coupling = "affine"
    """Of Glow."""
    scales: int | None = None
    """Of RealNVP; by default those with which its parameters match, from `glow train`'s on."""
    residual_blocks: int | None = None
    """Of each of RealNVP's coupling networks; by default as for `scales`."""


def glow_trials(settings: RealNVPSettings) -> list[Trial]:
    """One a seed."""
    model = Architecture(
        levels=settings.levels,
        steps=settings.steps,
        hidden_channels=settings.hidden_channels,
        coupling=settings.coupling,
        coupling_scale=settings.coupling_scale,
    )
    return [Trial(GLOW, train_config(settings, seed, model)) for seed in settings.all_seeds]


def realnvp_trials(
    settings: RealNVPSettings, model: RealNVPArchitecture, glows: Sequence[TrialResult]
) -> list[Trial]:
    """Two for each Glow that came to its end: with its images, and with its seconds."""
    trials = []
    for glow in glows:
        if glow.stopped:
            continue
        config = train_config(settings, glow.seed, model)
        by_images = replace(config, images=glow.images, minutes=None)
        by_time = replace(config, images=WITHOUT_END, minutes=glow.seconds / 60)
        trials += [Trial(SAME_IMAGES, by_images), Trial(SAME_TIME, by_time)]
    return trials


def match_parameters(
    target: int,
    image_shape: tuple[int, int, int],
    *,
    scales: int | None = None,
    residual_blocks: int | None = None,
) -> RealNVPArchitecture:
    """A RealNVP with about `target` parameters.

    Numbers of scales and residual blocks are tried from those of `glow train --family realnvp` on,
    the nearest first, each with the feature maps that come nearest; the first within MATCHED is
    taken, else the nearest of all.

    Args:
        target: number of parameters.
        image_shape: channels, height, width.
        scales: try this number only.
        residual_blocks: try this number only.
    """
    tried = []
    for shape in _shapes(image_shape, scales, residual_blocks):
        hidden = _hidden_channels(target, shape, image_shape)
        found = replace(shape, hidden_channels=hidden)
        off = abs(_count(found, image_shape) / target - 1)
        tried.append((off, found))
        if off <= MATCHED:
            break
    return min(tried, key=lambda pair: pair[0])[1]


def _shapes(
    image_shape: tuple[int, int, int], scales: int | None, residual_blocks: int | None
) -> Iterator[RealNVPArchitecture]:
    base = FAMILIES["realnvp"].model
    assert isinstance(base, RealNVPArchitecture)
    _, height, width = image_shape
    fitting = [
        n for n in range(1, MOST_SCALES + 1) if height % 2 ** (n - 1) == width % 2 ** (n - 1) == 0
    ]
    numbers = fitting if scales is None else [scales]
    blocks = range(1, MOST_BLOCKS + 1) if residual_blocks is None else [residual_blocks]
    for n in sorted(numbers, key=lambda n: abs(n - base.scales)):
        for count in sorted(blocks, key=lambda count: abs(count - base.residual_blocks)):
            yield replace(base, scales=n, residual_blocks=count)


def _count(model: RealNVPArchitecture, image_shape: tuple[int, int, int]) -> int:
    made = RealNVP(RealNVPConfig.of(model, image_shape))
    return sum(weight.numel() for weight in made.parameters())


def _hidden_channels(
    target: int, shape: RealNVPArchitecture, image_shape: tuple[int, int, int]
) -> int:
    """Parameters are a·h² + b·h + c in the feature maps h: three counts give a, b and c."""
    at = [_count(replace(shape, hidden_channels=h), image_shape) for h in (1, 2, 3)]
    a = (at[2] - 2 * at[1] + at[0]) / 2
    b = at[1] - at[0] - 3 * a
    c = at[0] - a - b
    h = (math.sqrt(max(0.0, b * b + 4 * a * (target - c))) - b) / (2 * a)
    near = (max(1, math.floor(h)), max(1, math.ceil(h)))
    return min(near, key=lambda n: abs(a * n * n + b * n + c - target))


def check(splits: Splits, settings: RealNVPSettings) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: a number is too small, or the images do not fit.
    """
    check_trials(glow_trials(settings), splits, settings)
    for shape in _shapes(splits.train.image_shape, settings.scales, settings.residual_blocks):
        RealNVPConfig.of(shape, splits.train.image_shape)


def report(
    splits: Splits,
    settings: RealNVPSettings,
    folder: Path,
    *,
    device: str,
    progress: bool = True,
) -> Findings:
    """Train a Glow for every seed below `folder`, then RealNVPs beside it, and report.

    Args:
        splits: the data.
        settings: how much of it.
        folder: the study's; results that are there are taken.
        device: `cpu`, `cuda`, …
        progress: show a bar.

    Raises:
        InputError: as `check`, or the folder cannot be written.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    wanted = glow_trials(settings)
    glow = wanted[0].config
    results = run_trials(
        wanted, splits, folder, settings, device=device, title="Glow", progress=progress
    )
    target = count_parameters(glow, splits)
    model = match_parameters(
        target,
        splits.train.image_shape,
        scales=settings.scales,
        residual_blocks=settings.residual_blocks,
    )
    others = realnvp_trials(settings, model, results)
    results += run_trials(
        others, splits, folder, settings, device=device, title="RealNVP", progress=progress
    )
    config = train_config(settings, settings.seed, model)
    count = count_parameters(config, splits)
    matched = {"glow": target, "realnvp": count, "relative_difference": count / target - 1}
    said = sentence(results, matched)
    sections = [
        Section(
            "Training curves",
            "Mean over seeds of the training bits/dim, with a band of one standard error, against "
            "images and against seconds. RealNVP trains with the statistics of its batches.",
            plot=("realnvp.png", _plot(results)),
        ),
        Section(
            "Results",
            f"The reference is Glow. “{NAMES[SAME_IMAGES]}”: of the Glow of its seed. "
            f"“{NAMES[SAME_TIME]}”: the seconds that the Glow of its seed took, of the same "
            f"machine, which say nothing about another one. {TABLE_WORDS}",
            results_table(results, list(NAMES), REFERENCES),
        ),
        Section(
            "The models",
            f"Each has the optimiser of its family. Glow: {settings.levels} levels of "
            f"{settings.steps} steps, {settings.hidden_channels} hidden channels, "
            f"{settings.coupling} coupling; {recipe(glow)}. RealNVP: {model.scales} scales, "
            f"{model.residual_blocks} residual blocks, {model.hidden_channels} feature maps; "
            f"{recipe(config)}. Parameters: {target:,} and {count:,}, "
            f"{matched['relative_difference']:+.1%}{_unmatched(matched)}.",
        ),
        *stopped_section(results),
    ]
    return Findings(
        sentence=said,
        facts={
            **facts(splits, [wanted[0], *others[:2]], results, REFERENCES),
            "parameters": matched,
            "realnvp": asdict(model),
        },
        files=files(
            "realnvp",
            "Glow beside RealNVP",
            said,
            about(splits, settings, results),
            sections,
        ),
    )


def _unmatched(matched: Mapping[str, float]) -> str:
    near = abs(matched["relative_difference"]) <= MATCHED
    return "" if near else f", which is more than {MATCHED:.0%}: no RealNVP comes nearer"


def sentence(results: Sequence[TrialResult], matched: Mapping[str, float]) -> str:
    """Glow, and RealNVP beside it."""
    own = over_seeds(of(results, GLOW), "test_bits_per_dim")
    by_images, by_time = (
        compared(results, name, GLOW, called)
        for name, called in ((SAME_IMAGES, "with as many images"), (SAME_TIME, "in as much time"))
    )
    return (
        f"Test bits/dim: Glow {own or 'stopped'}; RealNVP with "
        f"{matched['relative_difference']:+.1%} parameters{_unmatched(matched)}, beside it: "
        f"{by_images}, {by_time}."
    )


def _plot(results: Sequence[TrialResult]) -> bytes:
    figure = Plot(figsize=(9, 3.6), dpi=110, layout="constrained")
    by_images, by_time = figure.subplots(1, 2)
    draw_curves(by_images, results, NAMES)
    draw_curves(by_time, results, NAMES, by="seconds")
    return plot_png(figure)
