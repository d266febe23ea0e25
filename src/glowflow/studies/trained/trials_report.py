"""What a study of trials leaves behind: tables, curves and a page."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ...data.types import Splits
from ...reports.page import html_page
from ...training.config import TrainConfig
from .. import Figure, markdown_table
from .trials import WITHOUT_END, Trial, TrialResult, TrialSettings, difference, of, over_seeds

Table = tuple[list[str], list[list[str]]]
COLOURS = ("#2563a8", "#c2410c", "#228833", "#8a5fb0", "#8a8a8a", "#b08900")
TOLD_APART = 2.0
"""Standard errors beyond which a difference is called one."""


@dataclass(frozen=True)
class Section:
    """A part of a study's page."""

    title: str
    words: str
    table: Table | None = None
    plot: tuple[str, bytes] | None = None
    """File name and PNG."""


def files(
    name: str, title: str, sentence: str, about: str, sections: Sequence[Section]
) -> dict[str, bytes]:
    """NAME.md, index.html, and the plots."""
    plots = dict(section.plot for section in sections if section.plot)
    return {
        f"{name}.md": _markdown(title, sentence, about, sections).encode(),
        "index.html": _page(title, sentence, about, sections).encode(),
        **plots,
    }


def _markdown(title: str, sentence: str, about: str, sections: Sequence[Section]) -> str:
    parts = [f"# {title}\n\n{sentence}\n\n{about}\n"]
    for section in sections:
        plot = f"\n![{section.title}]({section.plot[0]})\n" if section.plot else ""
        table = f"\n{markdown_table(*section.table)}" if section.table else ""
        parts.append(f"## {section.title}\n\n{section.words}\n{plot}{table}")
    return "\n".join(parts)


def _page(title: str, sentence: str, about: str, sections: Sequence[Section]) -> str:
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p><b>{escape(sentence)}</b></p><p class=quiet>{escape(about)}</p>",
    ]
    for section in sections:
        body.append(f"<h2>{escape(section.title)}</h2><p>{escape(section.words)}</p>")
        if section.plot:
            data = base64.b64encode(section.plot[1]).decode()
            body.append(f'<img alt="{escape(section.title)}" src="data:image/png;base64,{data}">')
        if section.table:
            heads, lines = section.table
            rows = "".join(
                f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines
            )
            cells = "".join(f"<th>{escape(head)}</th>" for head in heads)
            body.append(f"<div class=wide><table><tr>{cells}</tr>{rows}</table></div>")
    return html_page(title, body)


def about(splits: Splits, settings: TrialSettings, results: Sequence[TrialResult]) -> str:
    """Data, budget, how it was scored, on what, how long."""
    seeds = ", ".join(map(str, settings.all_seeds))
    budget = (
        f"{settings.images:,} training images"
        if settings.minutes is None
        else f"{settings.minutes:g} minutes"
    )
    scored = min(settings.test_images, len(splits.test))
    machines = "; ".join(sorted({result.hardware for result in results}))
    minutes = sum(result.seconds for result in results) / 60
    return (
        f"{splits.source}, SHA-256 {splits.checksum}. {budget} a trial, seeds {seeds}. Test "
        f"bits/dim: averaged weights, {scored} images, mean of {settings.draws} noise draws. "
        f"Trained on {machines} in {minutes:.1f} minutes."
    )


def recipe(config: TrainConfig) -> str:
    """How a family is trained, in words."""
    return (
        f"{config.optimizer} at {config.lr:g}, batches of {config.batch_size}, warm-up over "
        f"{config.warmup_images:,} images, {config.decay} decay"
    )


def with_sign(figure: Figure | None) -> str:
    """+0.012 ± 0.003, or – where there is none."""
    return "–" if figure is None else f"{'+' if figure.mean >= 0 else ''}{figure}"


def verdict(figure: Figure | None) -> str:
    """What a difference in bits/dim says about the one that is not the reference."""
    if figure is None:
        return "no pair of trials"
    if figure.standard_error is None:
        return "one seed: no standard error"
    if abs(figure.mean) <= TOLD_APART * figure.standard_error:
        return "not told apart"
    return "worse" if figure.mean > 0 else "better"


def compared(results: Sequence[TrialResult], name: str, reference: str, called: str) -> str:
    """`called` +0.012 ± 0.003 (worse)."""
    found = difference(results, name, reference)
    return f"{called} {with_sign(found)} ({verdict(found)})"


def results_table(
    results: Sequence[TrialResult], names: Sequence[str], references: Mapping[str, str]
) -> Table:
    """A line a configuration: what it costs, and its bits/dim beside those of its reference."""
    lines = []
    for name in names:
        some = of(results, name)
        speed, seconds = (over_seeds(some, m) for m in ("images_per_second", "seconds"))
        ended = [result for result in some if not result.stopped]
        images = sorted({result.images for result in ended})
        lines.append(
            [
                name,
                f"{some[0].parameters:,}" if some else "–",
                " to ".join(f"{n:,}" for n in dict.fromkeys((*images[:1], *images[-1:]))) or "–",
                "–" if seconds is None else f"{seconds.mean:.1f}",
                "–" if speed is None else f"{speed.mean:.1f}",
                str(over_seeds(some, "valid_bits_per_dim") or "–"),
                str(over_seeds(some, "test_bits_per_dim") or "–"),
                "0"
                if references[name] == name
                else with_sign(difference(results, name, references[name])),
                f"{len(ended)} of {len(some)}",
            ]
        )
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
    return heads, lines


TABLE_WORDS = (
    "± is the standard error over seeds. − reference: the difference, seed by seed, so that the "
    "order of the images and the noise are the same. What is called worse or better is so by more "
    f"than {TOLD_APART:g} standard errors; of three seeds, chance alone does that in 18 % of "
    "cases. images/s: median over a trial's log lines, mean over trials; on a machine that does "
    "other work too, it is lower."
)


def stopped_section(results: Sequence[TrialResult]) -> list[Section]:
    """Why trials were stopped; nothing where all came to their end."""
    lines = [[f"{r.name}, seed {r.seed}", r.stopped] for r in results if r.stopped]
    words = "They count in no average."
    return [Section("Stopped trials", words, (["trial", "stopped"], lines))] if lines else []


def facts(
    splits: Splits,
    trials: Sequence[Trial],
    results: Sequence[TrialResult],
    references: Mapping[str, str],
) -> dict[str, Any]:
    """Every figure of the trials, as JSON can hold it."""
    summary = {}
    for name, reference in references.items():
        some = of(results, name)
        figures = {
            measure: over_seeds(some, measure)
            for measure in (
                "test_bits_per_dim",
                "valid_bits_per_dim",
                "images_per_second",
                "seconds",
            )
        }
        figures["minus_reference"] = difference(results, name, reference)
        summary[name] = {
            "reference": reference,
            **{key: None if value is None else asdict(value) for key, value in figures.items()},
        }
    return {
        "source": splits.source,
        "checksum": splits.checksum,
        "recipes": {trial.name: _recipe_facts(trial.config) for trial in trials},
        "summary": summary,
        "trials": [asdict(result) for result in results],
    }


def _recipe_facts(config: TrainConfig) -> dict[str, Any]:
    named = ("optimizer", "lr", "batch_size", "warmup_images", "decay", "ema", "clip", "minutes")
    images = {} if config.images == WITHOUT_END else {"images": config.images}
    model = {"family": config.model.family, **asdict(config.model)}
    return {"model": model, **{name: getattr(config, name) for name in named}, **images}


def mean_curve(
    results: Sequence[TrialResult], by: str = "images"
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Training bits/dim against images or seconds: mean and standard error over seeds.

    Other trials' curves are interpolated at the points of the shortest one.

    Returns:
        Where, mean and standard error (0 for one trial), (points,) each; empty without a curve.
    """
    column = {"images": 0, "seconds": 1}[by]
    curves = [np.array(r.curve, dtype=np.float64) for r in results if r.curve and not r.stopped]
    if not curves:
        empty = np.zeros(0)
        return empty, empty, empty
    where = min((curve[:, column] for curve in curves), key=lambda points: float(points[-1]))
    values = np.stack([np.interp(where, curve[:, column], curve[:, 2]) for curve in curves])
    spread = values.std(0, ddof=1) if len(curves) > 1 else np.zeros(len(where))
    return where, values.mean(0), spread / np.sqrt(len(curves))


def draw_curves(
    axes: Axes,
    results: Sequence[TrialResult],
    names: Mapping[str, str],
    *,
    by: str = "images",
    colours: Sequence[str] = COLOURS,
) -> None:
    """A curve a configuration, with a band of one standard error; `names` has their labels."""
    shown: list[float] = []
    for (name, label), colour in zip(names.items(), colours, strict=False):
        where, mean, error = mean_curve(of(results, name), by)
        if not len(where):
            continue
        axes.plot(where, mean, color=colour, label=label, linewidth=1.3)
        axes.fill_between(where, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
        shown += mean[len(mean) // 8 :].tolist()  # the first points are far above the rest
    if shown:
        low, high = min(shown), float(np.quantile(shown, 0.97))  # a spike may leave the plot
        axes.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3)
        axes.legend(frameon=False)
    axes.set_xlabel({"images": "training images", "seconds": "seconds of training"}[by])
    axes.set_ylabel("training bits/dim")
    axes.grid(alpha=0.25)
