"""What each choice of the recipe is worth in the same seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data.types import Splits
from ...errors import InputError
from ...models.config import Architecture
from ...training.config import TrainConfig
from ...training.presets import starting_config
from ..page import Plot, Section, Table
from ..study import Findings
from .comparison import TrialComparison, recipe, verdict, with_sign
from .results import TrialResult, difference, of, over_seeds
from .study import TrainedStudy, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REFERENCE = "defaults"
INTERLACED = {"first_map": "interlaced", "dequantization": "uniform", "steps": 1, "lr": 3e-2}
INGREDIENTS: dict[str, dict[str, Any]] = {
    REFERENCE: {},
    "no-first-map": {"first_map": "none"},
    "marginals": {"first_map": "marginals"},
    "interlaced": INTERLACED,
    "palette": {**INTERLACED, "palette_channels": 8},
    "whitening": {"first_map": "whitening"},
    "variational-noise": {"dequantization": "variational"},
    "uniform-noise": {"dequantization": "uniform"},
    "dense-steps": {"first_map": "whitening", "rank": 320, "dense_steps": 12},
    "sigmoid-scale": {"coupling_scale": "sigmoid"},
    "exp-scale": {"coupling_scale": "exp"},
    "additive": {"coupling": "additive"},
    "shuffled-channels": {"permutation": "shuffle"},
    "4-steps": {"steps": 4},
    "16-steps": {"steps": 16},
    "64-hidden": {"hidden_channels": 64},
    "256-hidden": {"hidden_channels": 256},
    "adam": {"optimizer": "adam", "lr": 2e-3},
    "muon": {"optimizer": "muon"},
    "official-rate": {"lr": 1e-3},
    "double-rate": {"lr": 1e-2},
    "batch-8": {"batch_size": 8},
    "batch-32": {"batch_size": 32},
    "batch-64": {"batch_size": 64},
    "constant-rate": {"decay": "constant"},
    "no-average": {"ema": 0.0},
}
"""What is other than in `glow train`, of the model and of its training; one line adds another."""


@dataclass(frozen=True, kw_only=True)
class Ingredients(TrainedStudy):
    """The defaults of `glow train` with one thing changed at a time, in as many seconds."""

    minutes: float | None = 2.0
    """Minutes of training of each trial."""
    ingredients: tuple[str, ...] = tuple(INGREDIENTS)
    """Which to try, beside the defaults."""
    hidden_channels: int = 128
    """Channels of the two hidden layers of Glow's coupling networks."""

    @property
    def names(self) -> list[str]:
        """Of the configurations, the defaults first."""
        return list(dict.fromkeys((REFERENCE, *self.ingredients)))

    def trials(self) -> list[Trial]:
        """One a seed and ingredient."""
        return [self._trial_of(name, seed) for seed in self.all_seeds for name in self.names]

    def check(self, splits: Splits) -> None:
        """Refuse what cannot work before anything is computed.

        Raises:
            InputError: there is no such ingredient, no time is given, or the images do not fit.
        """
        for name in self.ingredients:
            if name not in INGREDIENTS:
                raise InputError(
                    f"There is no ingredient {name}: choose from {', '.join(INGREDIENTS)}."
                )
        if self.minutes is None:
            raise InputError("The ingredients are compared at equal seconds: give --minutes.")
        super().check(splits)

    def measure(
        self, splits: Splits, folder: Path, *, device: str, progress: bool = True
    ) -> Findings:
        """Train each, and set it beside the defaults."""
        from .trials import run_trials

        trials = self.trials()
        results = run_trials(self, trials, splits, folder, device=device, progress=progress)
        references = dict.fromkeys(self.names, REFERENCE)
        comparison = TrialComparison(self, splits, trials, results, references)
        base = trials[0].config
        worth = Section(
            "What each is worth",
            f"The defaults: {_model_in_words(base)}; {recipe(base)}. Test bits/dim less those of "
            "the defaults, seed by seed, one standard error to each side; to the left is better.",
            [Plot("ingredients.png", "Worth", (7, 0.28 * len(self.names) + 1), _draw_of(results))],
            Table(["", "changed", "images", "− defaults", ""], _lines(self.names, results)),
        )
        return comparison.findings(
            "Ingredients at equal seconds",
            sentence(self.names, results),
            worth,
            comparison.section("The reference is the defaults."),
        )

    def _trial_of(self, name: str, seed: int) -> Trial:
        changed = INGREDIENTS[name]
        model = starting_config(self.data.data).model
        assert isinstance(model, Architecture)
        model = replace(
            model, hidden_channels=self.hidden_channels, coupling_scale=self.coupling_scale
        )
        of_model = {f.name for f in fields(Architecture)} & changed.keys()
        trial = self.trial(name, seed, replace(model, **{key: changed[key] for key in of_model}))
        of_run = {key: value for key, value in changed.items() if key not in of_model}
        return replace(trial, config=replace(trial.config, **of_run))


def sentence(names: Sequence[str], results: Sequence[TrialResult]) -> str:
    """What is told apart from the defaults, best first."""
    own = over_seeds(of(results, REFERENCE), "test_bits_per_dim")
    apart = {name: difference(results, name, REFERENCE) for name in names if name != REFERENCE}
    told = {n: d for n, d in apart.items() if d is not None and verdict(d) in ("better", "worse")}
    ordered = sorted(told.items(), key=lambda item: item[1].mean)
    parts = ", ".join(f"{name} {with_sign(d)} ({verdict(d)})" for name, d in ordered)
    return f"Test bits/dim of the defaults {own or 'stopped'}; {parts or 'nothing is told apart'}."


def _lines(names: Sequence[str], results: Sequence[TrialResult]) -> list[list[str]]:
    lines = []
    for name in names:
        apart = None if name == REFERENCE else difference(results, name, REFERENCE)
        images = over_seeds(of(results, name), "images")
        lines.append(
            [
                name,
                _in_words(INGREDIENTS[name]),
                "–" if images is None else f"{images.mean:,.0f}",
                "0" if name == REFERENCE else with_sign(apart),
                "" if name == REFERENCE else verdict(apart),
            ]
        )
    return lines


def _in_words(changed: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in changed.items()) or "nothing"


def _model_in_words(config: TrainConfig) -> str:
    model = config.model
    assert isinstance(model, Architecture)
    return (
        f"{model.levels} levels of {model.steps} steps, {model.hidden_channels} hidden channels, "
        f"first map {model.first_map}, scale {model.coupling_scale}"
    )


def _draw_of(results: Sequence[TrialResult]) -> Any:
    def draw(figure: "Figure") -> None:
        names = list(dict.fromkeys(r.name for r in results if r.name != REFERENCE))
        apart = {name: difference(results, name, REFERENCE) for name in names}
        shown = sorted(
            ((n, d) for n, d in apart.items() if d is not None), key=lambda each: -each[1].mean
        )
        axes = figure.subplots()
        axes.axvline(0.0, color="#8a8a8a", linewidth=0.8)
        for row, (_, estimate) in enumerate(shown):
            axes.errorbar(
                estimate.mean,
                row,
                xerr=estimate.standard_error or 0.0,
                fmt="o",
                markersize=4,
                color="#c2410c" if estimate.mean > 0 else "#2563a8",
            )
        axes.set_yticks(range(len(shown)), [name for name, _ in shown], fontsize=8)
        axes.set_xlabel("test bits/dim − defaults")
        axes.grid(axis="x", alpha=0.25)

    return draw
