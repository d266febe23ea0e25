"""How channels are mixed: reversed, shuffled or by a learned 1x1 convolution (paper, figure 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure as Plot

from ...data.types import Splits
from ...models.config import Architecture, Coupling, PermutationKind
from ...reports.plots import plot_png
from .. import Findings
from .trials import (
    GlowSettings,
    Trial,
    TrialResult,
    check_trials,
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

MIXINGS: dict[str, PermutationKind] = {"reverse": "reverse", "shuffle": "shuffle", "1x1": "lu"}
"""As the paper calls them, and as the configuration does."""
REFERENCE = "1x1"
COUPLINGS: tuple[Coupling, ...] = ("additive", "affine")
COLOURS = ("#8a8a8a", "#2563a8", "#c2410c")


@dataclass(frozen=True, kw_only=True)
class PermutationSettings(GlowSettings):
    """Three ways to mix channels, each with additive and with affine couplings."""


def name_of(mixing: str, coupling: str) -> str:
    """Of a configuration."""
    return f"{mixing}-{coupling}"


REFERENCES = {name_of(m, c): name_of(REFERENCE, c) for c in COUPLINGS for m in MIXINGS}


def trials(settings: PermutationSettings) -> list[Trial]:
    """Six a seed."""
    return [
        Trial(
            name_of(mixing, coupling),
            train_config(
                settings,
                seed,
                Architecture(
                    levels=settings.levels,
                    steps=settings.steps,
                    hidden_channels=settings.hidden_channels,
                    coupling=coupling,
                    coupling_scale=settings.coupling_scale,
                    permutation=permutation,
                ),
            ),
        )
        for seed in settings.all_seeds
        for coupling in COUPLINGS
        for mixing, permutation in MIXINGS.items()
    ]


def check(splits: Splits, settings: PermutationSettings) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: a number is too small, or the images do not fit.
    """
    check_trials(trials(settings), splits, settings)


def report(
    splits: Splits,
    settings: PermutationSettings,
    folder: Path,
    *,
    device: str,
    progress: bool = True,
) -> Findings:
    """Train the six configurations for every seed below `folder`, and report.

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
    said = sentence(results)
    sections = [
        Section(
            "Training curves",
            f"Glow with {settings.levels} levels of {settings.steps} steps, "
            f"{settings.hidden_channels} hidden channels, couplings `{settings.coupling_scale}` "
            f"where they are affine; {recipe(wanted[0].config)}. Mean over seeds of the training "
            "bits/dim, with a band of one standard error (the paper's figure 3).",
            plot=("permutations.png", _plot(results)),
        ),
        Section(
            "Results",
            f"The reference is {REFERENCE} with the same coupling. {TABLE_WORDS}",
            results_table(results, list(REFERENCES), REFERENCES),
        ),
        *stopped_section(results),
    ]
    return Findings(
        sentence=said,
        facts=facts(splits, wanted, results, REFERENCES),
        files=files(
            "permutations",
            "Permutations and the 1x1 convolution",
            said,
            about(splits, settings, results),
            sections,
        ),
    )


def sentence(results: Sequence[TrialResult]) -> str:
    """The reference of each coupling, the others beside it, and affine beside additive."""
    parts = []
    for coupling in COUPLINGS:
        reference = name_of(REFERENCE, coupling)
        own = over_seeds(of(results, reference), "test_bits_per_dim")
        others = ", ".join(
            compared(results, name_of(mixing, coupling), reference, mixing)
            for mixing in MIXINGS
            if mixing != REFERENCE
        )
        parts.append(f"{coupling}: {REFERENCE} {own or 'stopped'}, {others}")
    additive, affine = (name_of(REFERENCE, coupling) for coupling in COUPLINGS)
    beside = compared(results, affine, additive, "affine beside additive")
    return f"Test bits/dim; {'; '.join(parts)}; {beside}."


def _plot(results: Sequence[TrialResult]) -> bytes:
    figure = Plot(figsize=(9, 3.6), dpi=110, layout="constrained")
    for axes, coupling in zip(figure.subplots(1, 2), COUPLINGS, strict=True):
        names = {name_of(mixing, coupling): mixing for mixing in MIXINGS}
        draw_curves(axes, results, names, colours=COLOURS)
        axes.set_title(f"{coupling} coupling", fontsize=10)
    return plot_png(figure)
