"""The results of trials beside those of their references: a table, and what is said."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...data.types import Splits
from ...evaluation.estimate import Estimate
from ...training.config import TrainConfig
from ..page import Section, Table
from ..study import Findings
from .results import TrialResult, difference, of, over_seeds
from .study import WITHOUT_END, TrainedStudy, Trial

DISTINCT = 2.0
"""Standard errors beyond which a difference is called one."""


@dataclass(frozen=True)
class TrialComparison:
    """The results of a study's trials, and which configuration each is compared with."""

    study: TrainedStudy
    splits: Splits
    trials: Sequence[Trial]
    """One a configuration, at least."""
    results: Sequence[TrialResult]
    references: Mapping[str, str]
    """The reference of each configuration; its own is itself."""

    def findings(self, title: str, sentence: str, *sections: Section, **figures: Any) -> Findings:
        """The page and its figures, with those of every trial and with why any was stopped."""
        return Findings(
            title=title,
            sentence=sentence,
            about=_about(self),
            sections=(*sections, *_stopped_sections(self.results)),
            summary={**_summary(self), **figures},
            details={
                "curves": {f"{r.name}-s{r.seed}": [list(p) for p in r.curve] for r in self.results}
            },
        )

    def section(self, words: str) -> Section:
        """A line a configuration: what it costs, and its bits/dim beside those of its reference."""
        lines = [_line(of(self.results, name), name, self.beside(name)) for name in self.references]
        heads = [
            "",
            "parameters",
            "images",
            "seconds",
            "images/s",
            "valid bits/dim",
            "test bits/dim",
            "− reference",
            "trials ended",
        ]
        return Section("Results", f"{words} {TABLE_WORDS}", table=Table(heads, lines))

    def beside(self, name: str) -> str:
        """Test bits/dim − those of the reference."""
        if self.references[name] == name:
            return "0"
        return with_sign(difference(self.results, name, self.references[name]))


TABLE_WORDS = (
    "± is the standard error over seeds. − reference: the difference, seed by seed, so that the "
    "order of the images and the noise are the same. What is called worse or better is so by more "
    f"than {DISTINCT:g} standard errors; of three seeds, chance alone does that in 18 % of "
    "cases. images/s: median over a trial's log lines, mean over trials; on a machine that does "
    "other work too, it is lower."
)


def recipe(config: TrainConfig) -> str:
    """How a family is trained, in words."""
    return (
        f"{config.optimizer} at {config.lr:g}, batches of {config.batch_size}, warm-up over "
        f"{config.warmup_images:,} images, {config.decay} decay"
    )


def with_sign(estimate: Estimate | None) -> str:
    """+0.012 ± 0.003, or – where there is none."""
    return "–" if estimate is None else f"{'+' if estimate.mean >= 0 else ''}{estimate}"


def verdict(estimate: Estimate | None) -> str:
    """What a difference in bits/dim says about the one that is not the reference."""
    if estimate is None:
        return "no pair of trials"
    if estimate.standard_error is None:
        return "one seed: no standard error"
    if abs(estimate.mean) <= DISTINCT * estimate.standard_error:
        return "not told apart"
    return "worse" if estimate.mean > 0 else "better"


def compared(results: Sequence[TrialResult], name: str, reference: str, called: str) -> str:
    """`called` +0.012 ± 0.003 (worse)."""
    apart = difference(results, name, reference)
    return f"{called} {with_sign(apart)} ({verdict(apart)})"


def _line(results: Sequence[TrialResult], name: str, beside: str) -> list[str]:
    """Of the table of results."""
    speed, seconds = (over_seeds(results, m) for m in ("images_per_second", "seconds"))
    ended = [result for result in results if not result.stopped]
    images = sorted({result.images for result in ended})
    return [
        name,
        f"{results[0].parameters:,}" if results else "–",
        " to ".join(f"{n:,}" for n in dict.fromkeys((*images[:1], *images[-1:]))) or "–",
        "–" if seconds is None else f"{seconds.mean:.1f}",
        "–" if speed is None else f"{speed.mean:.1f}",
        str(over_seeds(results, "valid_bits_per_dim") or "–"),
        str(over_seeds(results, "test_bits_per_dim") or "–"),
        beside,
        f"{len(ended)} of {len(results)}",
    ]


def _about(comparison: TrialComparison) -> str:
    """Data, budget, how it was scored, on what, how long."""
    study, splits, results = comparison.study, comparison.splits, comparison.results
    seeds = ", ".join(map(str, study.all_seeds))
    budget = f"{study.images:,} training images"
    if study.minutes is not None:
        budget = "1 minute" if study.minutes == 1 else f"{study.minutes:g} minutes"
    scored = min(study.test_images, len(splits.test))
    machines = "; ".join(sorted({result.hardware for result in results}))
    minutes = sum(result.seconds for result in results) / 60
    return (
        f"{splits.source}, SHA-256 {splits.checksum}. {budget} a trial, seeds {seeds}. Test "
        f"bits/dim: averaged weights, {scored} images, mean of {study.draws} noise draws. "
        f"Trained on {machines} in {minutes:.1f} minutes."
    )


def _stopped_sections(results: Sequence[TrialResult]) -> list[Section]:
    """Why trials were stopped; nothing where all came to their end."""
    lines = [[f"{r.name}, seed {r.seed}", r.stopped] for r in results if r.stopped]
    table = Table(["trial", "stopped"], lines)
    return [Section("Stopped trials", "They count in no average.", table=table)] if lines else []


def _summary(comparison: TrialComparison) -> dict[str, Any]:
    """Every figure of the trials but their curves, as JSON can hold it."""
    by_name = {}
    for name, reference in comparison.references.items():
        some = of(comparison.results, name)
        estimates = {
            measure: over_seeds(some, measure)
            for measure in (
                "test_bits_per_dim",
                "valid_bits_per_dim",
                "images_per_second",
                "seconds",
            )
        }
        estimates["minus_reference"] = difference(comparison.results, name, reference)
        by_name[name] = {
            "reference": reference,
            **{key: None if value is None else asdict(value) for key, value in estimates.items()},
        }
    trials = [asdict(result) for result in comparison.results]
    return {
        "source": comparison.splits.source,
        "checksum": comparison.splits.checksum,
        "recipes": {trial.name: _recipe_facts(trial.config) for trial in comparison.trials},
        "summary": by_name,
        "trials": [{k: v for k, v in trial.items() if k != "curve"} for trial in trials],
    }


def _recipe_facts(config: TrainConfig) -> dict[str, Any]:
    named = ("optimizer", "lr", "batch_size", "warmup_images", "decay", "ema", "clip", "minutes")
    images = {} if config.images == WITHOUT_END else {"images": config.images}
    model = {"family": config.model.family, **asdict(config.model)}
    return {"model": model, **{name: getattr(config, name) for name in named}, **images}
