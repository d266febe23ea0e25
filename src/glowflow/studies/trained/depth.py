"""Depth: levels L and steps K against bits/dim, time and memory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...data.types import Splits
from ...errors import InputError
from ...models.config import CouplingName, Memory
from ..page import Plot, Section, Table
from ..study import Findings
from .comparison import TrialComparison, compared, recipe
from .curves import COLOURS
from .results import TrialResult, of, over_seeds
from .study import TrainedStudy, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIB = 2**20
MODES: tuple[Memory, ...] = ("stored", "reversible")

MemoryOfStep = Mapping[str, Mapping[Memory, int]]
"""Bytes of a training step of each configuration, in either mode."""


@dataclass(frozen=True, kw_only=True)
class Depth(TrainedStudy):
    """Train Glows of several levels and steps: bits/dim, speed and memory."""

    images: int = 10_000
    """Training images that each trial sees."""
    levels: tuple[int, ...] = (1, 2, 3)
    """L: numbers of scales."""
    steps: tuple[int, ...] = (2, 4, 8, 16)
    """K: numbers of steps of flow per level."""
    coupling: CouplingName = "affine"
    """z2 becomes (z2 + shift) * scale, or z2 + shift."""

    def trials(self) -> list[Trial]:
        """One a seed, a number of levels and a number of steps."""
        return [
            self.trial(
                name_of(levels, steps),
                seed,
                self.glow(levels=levels, steps=steps, coupling=self.coupling),
            )
            for seed in self.all_seeds
            for levels in self.levels
            for steps in self.steps
        ]

    def check(self, splits: Splits) -> None:
        """Refuse what cannot work before anything is computed.

        Raises:
            InputError: a number is too small or twice there, or the images do not fit.
        """
        for name in ("levels", "steps"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name} is {values}: give different numbers, one at least.")
        super().check(splits)

    def measure(
        self, splits: Splits, folder: Path, *, device: str, progress: bool = True
    ) -> Findings:
        """Each depth beside the deepest."""
        from .trials import run_trials

        trials = self.trials()
        results = run_trials(self, trials, splits, folder, device=device, progress=progress)
        deepest = name_of(max(self.levels), max(self.steps))
        references = dict.fromkeys((trial.name for trial in trials), deepest)
        trials = trials[: len(references)]
        comparison = TrialComparison(self, splits, trials, results, references)
        memory = {trial.name: memory_of_step(trial, splits, device) for trial in trials}
        return comparison.findings(
            "Depth",
            sentence(results, references, deepest, memory),
            self._curves_section(trials[0], results, memory),
            comparison.section(f"The reference is {deepest}."),
            _memory_section(trials[0], memory),
            memory_of_a_step=memory,
        )

    def _curves_section(
        self, trial: Trial, results: Sequence[TrialResult], memory: MemoryOfStep
    ) -> Section:
        return Section(
            "Depth",
            f"{self.hidden_channels} hidden channels, {self.coupling} coupling; "
            f"{recipe(trial.config)}. ± one standard error over seeds.",
            [
                Plot(
                    "depth.png",
                    "Depth",
                    (10, 3.4),
                    lambda figure: _draw(figure, self, results, memory),
                )
            ],
        )


def name_of(levels: int, steps: int) -> str:
    """Of a configuration."""
    return f"L{levels}-K{steps}"


def memory_of_step(trial: Trial, splits: Splits, device: str) -> dict[Memory, int]:
    """Bytes of a training step in either memory mode, estimated as `glow plan` does.

    Weights, gradients, optimiser state, average, activations and the backward pass.
    """
    from ...models.config import GlowConfig
    from ...planning.memory import run_memory
    from ...training.initialisation import model_config_for

    config = model_config_for(trial.config, splits)
    assert isinstance(config, GlowConfig)
    bytes_of: dict[Memory, int] = {}
    for memory in MODES:
        needs = run_memory(
            config,
            trial.config.batch_size,
            memory,
            optimizer=trial.config.optimizer,
            average=trial.config.ema > 0,
            processor=device == "cpu",
        )
        bytes_of[memory] = needs.state + needs.activations + needs.temporary
    return bytes_of


def sentence(
    results: Sequence[TrialResult],
    names: Mapping[str, str],
    deepest: str,
    memory: MemoryOfStep,
) -> str:
    """The best depth, and what it costs beside the smallest."""
    means = {
        name: estimate
        for name in names
        if (estimate := over_seeds(of(results, name), "test_bits_per_dim")) is not None
    }
    if not means:
        return "Every trial was stopped."
    best = min(means, key=lambda name: means[name].mean)
    worst = max(means, key=lambda name: means[name].mean)
    speed = {name: over_seeds(of(results, name), "images_per_second") for name in (best, worst)}
    rates = {name: estimate.mean if estimate else math.nan for name, estimate in speed.items()}
    beside = (
        "" if best == deepest else f"; {compared(results, best, deepest, f'{best} − {deepest}')}"
    )
    return (
        f"Test bits/dim: {best} is lowest at {means[best]} ({rates[best]:.0f} images/s, "
        f"{memory[best]['stored'] / MIB:.0f} MiB a step), {worst} highest at {means[worst]} "
        f"({rates[worst]:.0f} images/s, {memory[worst]['stored'] / MIB:.0f} MiB){beside}."
    )


def _memory_section(trial: Trial, memory: MemoryOfStep) -> Section:
    lines = [
        [name, *(f"{needs[mode] / MIB:,.1f}" for mode in MODES)] for name, needs in memory.items()
    ]
    return Section(
        "Memory of a training step",
        f"MiB with batches of {trial.config.batch_size}, with stored activations and with "
        "activations that are computed again; not measured, but estimated as `glow plan` does.",
        table=Table(["", *MODES], lines),
    )


def _draw(
    figure: "Figure", study: Depth, results: Sequence[TrialResult], memory: MemoryOfStep
) -> None:
    """Against K, a line a number of levels: test bits/dim, images/s, memory."""
    panels = figure.subplots(1, 3)
    steps = sorted(study.steps)
    colours = COLOURS * len(study.levels)
    for levels, colour in zip(sorted(study.levels), colours, strict=False):
        label = f"L = {levels}"
        for axes, measure in zip(panels, ("test_bits_per_dim", "images_per_second"), strict=False):
            estimates = {k: over_seeds(of(results, name_of(levels, k)), measure) for k in steps}
            shown = {k: value for k, value in estimates.items() if value is not None}
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


def _dress(axes: "Axes", title: str, steps: Sequence[int]) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [str(k) for k in steps])
    axes.set_xlabel("K, steps of a level")
    axes.grid(alpha=0.25)
