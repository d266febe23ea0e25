"""How channels are mixed: reversed, shuffled or by a learned 1x1 convolution (paper, figure 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...data.types import Splits
from ...models.config import CouplingName, PermutationName
from ..page import Plot, Section
from ..study import Findings
from .comparison import TrialComparison, compared, recipe
from .curves import draw_curves
from .results import TrialResult, of, over_seeds
from .study import GlowStudy, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIXINGS: dict[str, PermutationName] = {"reverse": "reverse", "shuffle": "shuffle", "1x1": "lu"}
"""As the paper calls them, and as the configuration does."""
REFERENCE = "1x1"
COUPLINGS: tuple[CouplingName, ...] = ("additive", "affine")
COLOURS = ("#8a8a8a", "#2563a8", "#c2410c")


def name_of(mixing: str, coupling: str) -> str:
    """Of a configuration."""
    return f"{mixing}-{coupling}"


REFERENCES = {name_of(m, c): name_of(REFERENCE, c) for c in COUPLINGS for m in MIXINGS}


@dataclass(frozen=True, kw_only=True)
class Permutations(GlowStudy):
    """Train Glows with reversed, shuffled and learned channels: curves, bits/dim, speed."""

    def trials(self) -> list[Trial]:
        """Six a seed: three ways to mix channels, with additive and with affine couplings."""
        return [
            self.trial(
                name_of(mixing, coupling),
                seed,
                self.glow(coupling=coupling, permutation=permutation),
            )
            for seed in self.all_seeds
            for coupling in COUPLINGS
            for mixing, permutation in MIXINGS.items()
        ]

    def measure(
        self, splits: Splits, folder: Path, *, device: str, progress: bool = True
    ) -> Findings:
        """Each mixing beside the 1x1 convolution with the same coupling."""
        from .trials import run_trials

        trials = self.trials()
        results = run_trials(self, trials, splits, folder, device=device, progress=progress)
        comparison = TrialComparison(self, splits, trials, results, REFERENCES)
        curves = Section(
            "Training curves",
            f"Glow with {self.size_in_words}, couplings `{self.coupling_scale}` "
            f"where they are affine; {recipe(trials[0].config)}. Mean over seeds of the training "
            "bits/dim, with a band of one standard error (the paper's figure 3).",
            [
                Plot(
                    "permutations.png",
                    "Training curves",
                    (9, 3.6),
                    lambda figure: _draw(figure, results),
                )
            ],
        )
        return comparison.findings(
            "Permutations and the 1x1 convolution",
            sentence(results),
            curves,
            comparison.section(f"The reference is {REFERENCE} with the same coupling."),
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


def _draw(figure: "Figure", results: Sequence[TrialResult]) -> None:
    for axes, coupling in zip(figure.subplots(1, 2), COUPLINGS, strict=True):
        names = {name_of(mixing, coupling): mixing for mixing in MIXINGS}
        draw_curves(axes, results, names, colours=COLOURS)
        axes.set_title(f"{coupling} coupling", fontsize=10)
