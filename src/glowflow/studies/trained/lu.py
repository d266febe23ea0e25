"""The 1x1 convolution in LU form beside the plain one: one function, two costs (paper, 3.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...checks import require_at_least
from ...data.types import Splits
from ...errors import InputError
from ...models.config import CouplingName, PermutationName
from ..page import Plot, Section, Table
from ..study import Findings
from .comparison import TrialComparison, compared, recipe
from .curves import draw_curves
from .results import TrialResult, of, over_seeds
from .study import GlowStudy, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .lu_agreement import Agreement
    from .lu_costs import Crossover, Timings

NAMES: dict[PermutationName, str] = {"lu": "LU", "plain": "plain"}
COLOURS: dict[PermutationName, str] = {"lu": "#c2410c", "plain": "#2563a8"}
COSTS = {
    "log-det": "log|det W|",
    "matrix": "W from the parameters",
    "forward": "W, log|det W|, W x",
    "training": "forward, and gradients of x and of the parameters",
    "inverse": "W⁻¹, W⁻¹ y",
}
"""What is timed."""


@dataclass(frozen=True, kw_only=True)
class LU(GlowStudy):
    """The 1x1 convolution as LU and plain: one function, bits/dim, and what each costs."""

    coupling: CouplingName = "affine"
    """Of the models that are trained."""
    widths: tuple[int, ...] = (12, 24, 48, 96, 192, 384, 768, 1536)
    """Numbers of channels at which one convolution is timed."""
    timed_images: int = 16
    """Images of the convolution that is timed."""
    timed_size: int = 16
    """Their height and width, in pixels."""
    rounds: int = 7
    """Turns of each kind, one after the other; the median counts."""

    def trials(self) -> list[Trial]:
        """Two a seed. Both draw the same rotations and weights: they start as one function."""
        return [
            self.trial(kind, seed, self.glow(coupling=self.coupling, permutation=kind))
            for seed in self.all_seeds
            for kind in NAMES
        ]

    def check(self, splits: Splits) -> None:
        """Refuse what cannot work before anything is computed.

        Raises:
            InputError: a number is too small or twice there, or the images do not fit.
        """
        require_at_least(self, 1, "timed_images", "timed_size", "rounds")
        widths = self.widths
        if not widths or min(widths) < 2 or len(set(widths)) < len(widths):
            raise InputError(f"widths is {widths}: give different numbers of channels, 2 at least.")
        super().check(splits)

    def measure(
        self, splits: Splits, folder: Path, *, device: str, progress: bool = True
    ) -> Findings:
        """Train both kinds, compare them as functions, and time them."""
        from .lu_agreement import agreements_of
        from .lu_costs import crossover, timings
        from .trials import run_trials

        trials = self.trials()
        results = run_trials(self, trials, splits, folder, device=device, progress=progress)
        agreements = agreements_of(trials[0], splits, folder, results)
        timed = timings(
            folder,
            self.widths,
            images=self.timed_images,
            size=self.timed_size,
            rounds=self.rounds,
            device=device,
            seed=self.seed,
            progress=progress,
        )
        crossings = {
            name: crossover(timed.widths, seconds["lu"], seconds["plain"])
            for name, seconds in timed.seconds.items()
        }
        comparison = TrialComparison(
            self, splits, trials[: len(NAMES)], results, dict.fromkeys(NAMES, "plain")
        )
        return comparison.findings(
            "The 1x1 convolution as LU and plain",
            sentence(results, agreements, crossings),
            _agreement_section(agreements),
            self._curves_section(trials[0], results),
            comparison.section("The reference is the plain form."),
            self._cost_section(timed, crossings),
            _crossover_section(crossings),
            agreement=[asdict(agreement) for agreement in agreements],
            widths=timed.widths,
            timed_on=timed.hardware,
            seconds=timed.seconds,
            crossover={name: asdict(crossing) for name, crossing in crossings.items()},
        )

    def _curves_section(self, trial: Trial, results: Sequence[TrialResult]) -> Section:
        plot = Plot(
            "lu-training.png", "Training curves", (6, 3.4), lambda figure: _draw(figure, results)
        )
        return Section(
            "Training curves",
            f"Glow with {self.size_in_words}, {self.coupling} coupling; "
            f"{recipe(trial.config)}. Both kinds start as one function, that of their seed.",
            [plot],
        )

    def _cost_section(self, timed: "Timings", crossings: Mapping[str, "Crossover"]) -> Section:
        plot = Plot(
            "lu-cost.png", "Cost", (11, 3.2), lambda figure: _draw_costs(figure, timed, crossings)
        )
        return Section(
            "Cost",
            f"Milliseconds of one convolution of {self.timed_images} images of "
            f"{self.timed_size}x{self.timed_size} pixels, LU / plain: median of "
            f"{self.rounds} turns, taken one after the other, float32 on {timed.hardware}. "
            f"{'; '.join(f'{name}: {what}' for name, what in COSTS.items())}.",
            [plot],
            _cost_table(timed),
        )


def sentence(
    results: Sequence[TrialResult],
    agreements: Sequence["Agreement"],
    crossings: Mapping[str, "Crossover"],
) -> str:
    """How far they agree, bits/dim of both, and where the costs cross."""
    own = over_seeds(of(results, "plain"), "test_bits_per_dim")
    start, exact = agreements[:2]
    costs = ", ".join(f"{name}: {crossings[name]}" for name in ("log-det", "training"))
    return (
        f"At the start latents differ by {start.latents:.1g} in float32 and {exact.latents:.1g} in "
        f"float64; test bits/dim: plain {own or 'stopped'}, "
        f"{compared(results, 'lu', 'plain', 'LU')}; {costs}."
    )


def _agreement_section(agreements: Sequence["Agreement"]) -> Section:
    heads = ["", "dtype", "latents, largest difference", "log-det, nats an image"]
    lines = [[a.when, a.dtype, f"{a.latents:.1e}", f"{a.log_det:.1e}"] for a in agreements]
    return Section(
        "One function",
        "The same images through both. W decomposed: the LU model is made from the plain one. "
        "Log-determinants are of whole images.",
        table=Table(heads, lines),
    )


def _crossover_section(crossings: Mapping[str, "Crossover"]) -> Section:
    return Section(
        "Crossover",
        "Where the two curves meet for the last time, between the two widths on either side. "
        "Where they run within a few percent of each other, noise says where they meet.",
        table=Table(["", "result"], [[name, str(c)] for name, c in crossings.items()]),
    )


def _cost_table(timed: "Timings") -> Table:
    lines = [
        [
            f"{width:,}",
            *(
                f"{1e3 * seconds['lu'][i]:.3g} / {1e3 * seconds['plain'][i]:.3g}"
                for seconds in timed.seconds.values()
            ),
        ]
        for i, width in enumerate(timed.widths)
    ]
    return Table(["channels", *timed.seconds], lines)


def _draw(figure: "Figure", results: Sequence[TrialResult]) -> None:
    names = dict(NAMES)
    draw_curves(figure.subplots(), results, names, colours=list(COLOURS.values()))


def _draw_costs(figure: "Figure", timed: "Timings", crossings: Mapping[str, "Crossover"]) -> None:
    panels = figure.subplots(1, len(timed.seconds), sharey=True)
    for axes, (name, by_kind) in zip(panels, timed.seconds.items(), strict=True):
        for kind, label in NAMES.items():
            milliseconds = [1e3 * seconds for seconds in by_kind[kind]]
            style: dict[str, Any] = {"color": COLOURS[kind], "marker": "o", "markersize": 3}
            axes.loglog(timed.widths, milliseconds, label=label, **style)
        meeting = crossings[name].channels
        if meeting is not None:
            axes.axvline(meeting, linestyle="--", linewidth=0.8, color="#555555")
            axes.annotate(
                f"{meeting:.0f}",
                (meeting, 0.02),
                xycoords=("data", "axes fraction"),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("channels")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("milliseconds")
    panels[0].legend(frameon=False)
