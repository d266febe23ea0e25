"""Depth: levels L and steps K against bits/dim, time and memory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot

from ...data.types import Splits
from ...errors import InputError
from ...models.config import Architecture, Coupling, GlowConfig, Memory
from ...planning.plan import MODES, run_memory
from ...reports.plots import plot_png
from ...training.initialisation import model_config_for
from .. import Findings
from .trials import (
    Trial,
    TrialResult,
    TrialSettings,
    check_trials,
    of,
    over_seeds,
    run_trials,
    train_config,
)
from .trials_report import (
    COLOURS,
    TABLE_WORDS,
    Section,
    about,
    compared,
    facts,
    files,
    recipe,
    results_table,
    stopped_section,
)

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class DepthSettings(TrialSettings):
    """A Glow for each number of levels and each number of steps."""

    images: int = 10_000
    """Training images that each trial sees."""
    levels: tuple[int, ...] = (1, 2, 3)
    """L: numbers of scales."""
    steps: tuple[int, ...] = (2, 4, 8, 16)
    """K: numbers of steps of flow per level."""
    coupling: Coupling = "affine"
    """z2 becomes (z2 + shift) * scale, or z2 + shift."""


def name_of(levels: int, steps: int) -> str:
    """Of a configuration."""
    return f"L{levels}-K{steps}"


def trials(settings: DepthSettings) -> list[Trial]:
    """One a seed, a number of levels and a number of steps."""
    return [
        Trial(
            name_of(levels, steps),
            train_config(
                settings,
                seed,
                Architecture(
                    levels=levels,
                    steps=steps,
                    hidden_channels=settings.hidden_channels,
                    coupling=settings.coupling,
                    coupling_scale=settings.coupling_scale,
                ),
            ),
        )
        for seed in settings.all_seeds
        for levels in settings.levels
        for steps in settings.steps
    ]


def check(splits: Splits, settings: DepthSettings) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: a number is too small or twice there, or the images do not fit.
    """
    for name in ("levels", "steps"):
        values = getattr(settings, name)
        if not values or len(set(values)) < len(values):
            raise InputError(f"{name} is {values}: give different numbers, one at least.")
    check_trials(trials(settings), splits, settings)


def step_memory_of(trial: Trial, splits: Splits, device: str) -> dict[Memory, int]:
    """Bytes of a training step in either memory mode, estimated as `glow plan` does.

    Weights, gradients, optimiser state, average, activations and the backward pass.
    """
    config = model_config_for(trial.config, splits)
    assert isinstance(config, GlowConfig)
    found: dict[Memory, int] = {}
    for memory in MODES:
        needs = run_memory(
            config,
            trial.config.batch_size,
            memory,
            optimizer=trial.config.optimizer,
            average=trial.config.ema > 0,
            processor=device == "cpu",
        )
        found[memory] = needs.state + needs.activations + needs.temporary
    return found


def report(
    splits: Splits,
    settings: DepthSettings,
    folder: Path,
    *,
    device: str,
    progress: bool = True,
) -> Findings:
    """Train every depth for every seed below `folder`, and report.

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
    wanted = trials(settings)
    results = run_trials(wanted, splits, folder, settings, device=device, progress=progress)
    deepest = name_of(max(settings.levels), max(settings.steps))
    names = dict.fromkeys(trial.name for trial in wanted)
    references = dict.fromkeys(names, deepest)
    memory = {trial.name: step_memory_of(trial, splits, device) for trial in wanted}
    said = sentence(results, names, deepest, memory)
    lines = [
        [name, *(f"{needs[mode] / MIB:,.1f}" for mode in MODES)] for name, needs in memory.items()
    ]
    sections = [
        Section(
            "Depth",
            f"{settings.hidden_channels} hidden channels, {settings.coupling} coupling; "
            f"{recipe(wanted[0].config)}. ± one standard error over seeds.",
            plot=("depth.png", _plot(settings, results, memory)),
        ),
        Section(
            "Results",
            f"The reference is {deepest}. {TABLE_WORDS}",
            results_table(results, list(names), references),
        ),
        Section(
            "Memory of a training step",
            f"MiB with batches of {wanted[0].config.batch_size}, with stored activations and with "
            "activations that are computed again; not measured, but estimated as `glow plan` does.",
            (["", *MODES], lines),
        ),
        *stopped_section(results),
    ]
    return Findings(
        sentence=said,
        facts={
            **facts(splits, wanted[: len(names)], results, references),
            "memory_of_a_step": memory,
        },
        files=files("depth", "Depth", said, about(splits, settings, results), sections),
    )


def sentence(
    results: Sequence[TrialResult],
    names: Mapping[str, None],
    deepest: str,
    memory: Mapping[str, Mapping[Memory, int]],
) -> str:
    """The best depth, and what it costs beside the smallest."""
    means = {
        name: figure
        for name in names
        if (figure := over_seeds(of(results, name), "test_bits_per_dim")) is not None
    }
    if not means:
        return "Every trial was stopped."
    best = min(means, key=lambda name: means[name].mean)
    worst = max(means, key=lambda name: means[name].mean)
    speed = {name: over_seeds(of(results, name), "images_per_second") for name in (best, worst)}
    rates = {name: figure.mean if figure else math.nan for name, figure in speed.items()}
    beside = (
        "" if best == deepest else f"; {compared(results, best, deepest, f'{best} − {deepest}')}"
    )
    return (
        f"Test bits/dim: {best} is lowest at {means[best]} ({rates[best]:.0f} images/s, "
        f"{memory[best]['stored'] / MIB:.0f} MiB a step), {worst} highest at {means[worst]} "
        f"({rates[worst]:.0f} images/s, {memory[worst]['stored'] / MIB:.0f} MiB){beside}."
    )


def _plot(
    settings: DepthSettings,
    results: Sequence[TrialResult],
    memory: Mapping[str, Mapping[Memory, int]],
) -> bytes:
    """Against K, a line a number of levels: test bits/dim, images/s, memory."""
    figure = Plot(figsize=(10, 3.4), dpi=110, layout="constrained")
    panels = figure.subplots(1, 3)
    steps = sorted(settings.steps)
    for levels, colour in zip(
        sorted(settings.levels), COLOURS * len(settings.levels), strict=False
    ):
        label = f"L = {levels}"
        for axes, measure in zip(panels, ("test_bits_per_dim", "images_per_second"), strict=False):
            figures = {k: over_seeds(of(results, name_of(levels, k)), measure) for k in steps}
            shown = {k: value for k, value in figures.items() if value is not None}
            axes.errorbar(
                list(shown),
                [value.mean for value in shown.values()],
                yerr=[value.standard_error or 0.0 for value in shown.values()],
                marker="o",
                markersize=3,
                capsize=2,
                color=colour,
                label=label,
            )
        stored, reversible = (
            [memory[name_of(levels, k)][mode] / MIB for k in steps] for mode in MODES
        )
        panels[2].plot(steps, stored, marker="o", markersize=3, color=colour, label=label)
        panels[2].plot(steps, reversible, linestyle="--", linewidth=1, color=colour)
    titles = ("test bits/dim", "images/s", "MiB a step (dashed: reversible)")
    for axes, title in zip(panels, titles, strict=True):
        _dress(axes, title, steps)
    panels[0].legend(frameon=False)
    return plot_png(figure)


def _dress(axes: Axes, title: str, steps: Sequence[int]) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [str(k) for k in steps])
    axes.set_xlabel("K, steps of a level")
    axes.grid(alpha=0.25)
