"""What a study of attribute editing leaves behind: figures, tables, a plot, strips and a page."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure as Plot

from ...data.types import Splits
from ...latents.directions import Estimator
from ...models.flow import ImageFlow
from ...reports.page import html_page
from ...reports.pictures import png_bytes, rows
from ...reports.plots import plot_png
from .. import Findings, markdown_table
from .attributes import (
    AMOUNTS,
    FLIPS,
    LEAKAGE,
    STRIP,
    TRUSTED,
    AttributeSettings,
    AttributeStudy,
    Row,
    study_attributes,
)

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
COLOURS = dict(zip(ESTIMATORS, ("#8a8a8a", "#2563a8", "#c2410c"), strict=True))
CHOSEN = "best of each"
"""The row of averages in which each attribute has the estimator that validation images prefer."""
CHOICES: Mapping[str, Estimator | None] = {**{e: e for e in ESTIMATORS}, CHOSEN: None}
Table = tuple[list[str], list[list[str]]]


def report(
    model: ImageFlow, splits: Splits, settings: AttributeSettings, *, progress: bool = True
) -> Findings:
    """Measure (`study_attributes`), and report."""
    return findings(study_attributes(model, splits, settings, progress=progress))


def findings(study: AttributeStudy) -> Findings:
    """The study in a line, as JSON, and as attributes.md, flips.png, strips and index.html."""
    plot = _plot(study)
    strips = {name: _strip(study, name) for name in study.attributes}
    return Findings(
        sentence=sentence(study),
        facts=facts(study),
        files={
            "attributes.md": _markdown(study).encode(),
            "flips.png": plot,
            **{f"strip-{name}.png": png for name, png in strips.items()},
            "index.html": _page(study, plot, strips).encode(),
        },
    )


def average(lines: Sequence[Row]) -> dict[str, float]:
    """Means over attributes of the figures on test images."""
    measures = ("flip", "leakage", "leakage_of_all", "identity")
    if not lines:
        return {}
    return {m: float(np.mean([getattr(row.test, m).mean for row in lines])) for m in measures}


def facts(study: AttributeStudy) -> dict[str, Any]:
    """Every figure, as JSON can hold it."""
    return {
        "model_identity": study.model,
        "source": study.source,
        "checksum": study.checksum,
        "directions_from": study.directions_from,
        "judge": {
            **study.judge,
            "held_out": {name: asdict(trust) for name, trust in study.trust.items()},
        },
        "counted": list(study.counted),
        "average": {name: average(study.averaged(e)) for name, e in CHOICES.items()},
        "estimator": {name: study.best(name).estimator for name in study.attributes},
        "rows": [asdict(row) for row in study.rows],
        "unedited_flip": dict(study.unedited),
        "own_changes": {name: list(own) for name, own in study.own.items()},
        "own_pixels": dict(study.pixels),
        "refused": dict(study.refused),
        "seconds": dict(study.seconds),
    }


def sentence(study: AttributeStudy) -> str:
    """Averages of the estimator that validation images prefer, and whether they meet the target."""
    if not study.counted:
        return (
            f"The judge is right in less than {TRUSTED:.0%} of the test images for every "
            "attribute: nothing can be said; give it more --judge-images."
        )
    name = study.preferred
    best = average(study.averaged(name))
    good = best["flip"] >= FLIPS and best["leakage"] <= LEAKAGE
    return (
        f"{name}: flip rate {best['flip']:.3f} at leakage {best['leakage']:.3f}, identity "
        f"{best['identity']:.3f}, averaged over {len(study.counted)} attributes "
        f"({'meets' if good else 'misses'} {FLIPS:.2f} at {LEAKAGE:.2f})."
    )


def _averages(study: AttributeStudy) -> Table:
    lines = []
    for name, estimator in CHOICES.items():
        lines_of = study.averaged(estimator)
        figures = [f"{value:.3f}" for value in average(lines_of).values()] or ["–"] * 4
        lines.append([name, *figures, str(len(lines_of))])
    return ["estimator", "flip", "leakage", "of all", "identity", "attributes"], lines


def _edits(study: AttributeStudy) -> Table:
    lines = []
    for row in study.rows:
        test = row.test
        best = " ←" if study.best(row.attribute) is row else ""
        lines.append(
            [
                f"{row.attribute}, {row.estimator}{best}",
                f"{test.amount:g}",
                str(test.flip),
                str(test.leakage),
                f"{test.leakage_of_all.mean:.3f}",
                str(test.identity),
                str(test.images),
            ]
        )
    heads = ["attribute, estimator", "α", "flip", "leakage", "of all", "identity", "images"]
    return heads, lines


def _judge(study: AttributeStudy) -> Table:
    lines = []
    for name, trust in study.trust.items():
        unedited = study.unedited.get(name)
        lines.append(
            [
                name,
                f"{trust.accuracy:.3f}",
                f"{trust.majority:.3f}",
                f"{trust.balanced:.3f}",
                "–" if unedited is None else f"{unedited:.3f}",
            ]
        )
    return ["attribute", "accuracy", "majority", "balanced", "flip at α = 0"], lines


def _own(study: AttributeStudy) -> Table:
    lines = [
        [name, f"{study.pixels[name]:.1%}", " ".join(study.own[name]).replace("_", " ") or "–"]
        for name in study.attributes
    ]
    return ["attribute", "pixels", "changes of others"], lines


def _sections(study: AttributeStudy) -> list[tuple[str, str, Table]]:
    """Title, words and table of each section."""
    made = study.judge
    return [
        (
            "Averages",
            f"Over the {len(study.counted)} attributes on which the judge is right in at least "
            f"{TRUSTED:.0%} of the test images. Flip: the judge sees the attribute. Leakage: share "
            "of the other attributes whose verdict changes, without those changes that belong to "
            "the attribute itself; of all: with them. Identity: 1 where nothing changes outside "
            "the attribute's own pixels, 0 where it is as far away as another image. In "
            f"“{CHOSEN}” each attribute has the estimator with the largest flip − leakage on "
            "validation images.",
            _averages(study),
        ),
        (
            "Every attribute",
            f"Test images that lack the attribute, all moved by the same α. α is one of "
            f"{', '.join(f'{a:g}' for a in AMOUNTS)}: on validation images the largest flip − "
            f"leakage among those that leak at most {LEAKAGE:g}. ± is the standard error over "
            f"images. Directions from {study.directions_from:,} training images; ← marks the "
            "estimator that validation images prefer.",
            _edits(study),
        ),
        (
            "The judge",
            f"One convolutional network of {made['parameters']:,} parameters with a head for each "
            f"attribute, trained on {made['images']:,} training images, shifted and noisy, none of "
            "them generated. On the test images: accuracy, share of the larger side, mean accuracy "
            "of the two sides; and the share of the images to edit in which it sees the attribute "
            "before the edit.",
            _judge(study),
        ),
        (
            "What belongs to an attribute",
            "From training images. Pixels: mean images with and without the attribute, over pairs "
            "that agree in the others, differ by more than 2 %. Changes: −b where b never occurs "
            "with the attribute or is never missing without it, +b where b is never missing with "
            "it or never occurs without it.",
            _own(study),
        ),
    ]


def _about(study: AttributeStudy) -> str:
    return f"{study.source}, SHA-256 {study.checksum}. Model {study.model}."


def _markdown(study: AttributeStudy) -> str:
    sections = [
        f"## {title}\n\n{words}\n\n{markdown_table(*table)}"
        for title, words, table in _sections(study)
    ]
    refused = [f"- {name}: {reason}\n" for name, reason in study.refused.items()]
    if refused:
        sections.append(f"## Without a direction\n\n{''.join(refused)}")
    head = f"# Attribute editing\n\n{sentence(study)}\n\n{_about(study)}\n"
    return "\n".join([head, *sections])


def _page(study: AttributeStudy, plot: bytes, strips: Mapping[str, bytes]) -> str:
    body = [
        "<h1>Attribute editing</h1>",
        f"<p><b>{escape(sentence(study))}</b></p><p class=quiet>{escape(_about(study))}</p>",
        _picture(plot, "flip rate against leakage"),
        "<h2>Strips</h2>",
        f"<p>Test images, the first half without the attribute and the others with it, moved by "
        f"{', '.join(f'{share:+g}' for share in STRIP)} times the chosen α; the middle column is "
        "the image itself.</p>",
    ]
    for name, png in strips.items():
        row = study.best(name)
        body.append(
            f"<h3>{escape(name.replace('_', ' '))}</h3><p class=quiet>{row.estimator}, α = "
            f"{row.chosen.amount:g}; flip {row.test.flip.mean:.3f}, leakage "
            f"{row.test.leakage.mean:.3f}, identity {row.test.identity.mean:.3f}</p>"
        )
        body.append(_picture(png, f"{name} comes and goes"))
    for title, words, (heads, lines) in _sections(study):
        cells = "".join(f"<th>{escape(head)}</th>" for head in heads)
        body.append(f"<h2>{title}</h2><p>{escape(words)}</p>")
        body.append(f"<div class=wide><table><tr>{cells}</tr>{_html_lines(lines)}</table></div>")
    body += [
        f"<p>No direction: {escape(f'{name}: {reason}')}.</p>"
        for name, reason in study.refused.items()
    ]
    return html_page("Attribute editing", body)


def _html_lines(lines: Sequence[Sequence[str]]) -> str:
    return "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines
    )


def _picture(png: bytes, alternative: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(alternative)}" src="data:image/png;base64,{data}">'


def _strip(study: AttributeStudy, name: str) -> bytes:
    amount = study.best(name).chosen.amount
    without, with_it = study.strips[name]
    labelled = [*(("without", face) for face in without), *(("with", face) for face in with_it)]
    return png_bytes(rows(labelled, [f"{share * amount:+.3g}" for share in STRIP]))


def _plot(study: AttributeStudy) -> bytes:
    """Left: averages against α on validation images; right: each attribute on test images."""
    figure = Plot(figsize=(9, 3.8), dpi=110, layout="constrained")
    curves, points = figure.subplots(1, 2, sharey=True)
    largest = LEAKAGE
    for estimator in ESTIMATORS:
        lines = study.averaged(estimator)
        if not lines:
            continue
        tried = [[row.tried[i] for row in lines] for i in range(len(AMOUNTS))]
        leakage = [float(np.mean([e.leakage.mean for e in some])) for some in tried]
        flips = [float(np.mean([e.flip.mean for e in some])) for some in tried]
        style: Any = {"color": COLOURS[estimator], "label": estimator}
        curves.plot(leakage, flips, marker="o", markersize=3, **style)
        largest = max(largest, *leakage)
        points.scatter(
            [row.test.leakage.mean for row in lines],
            [row.test.flip.mean for row in lines],
            s=16,
            alpha=0.8,
            **style,
        )
    curves.set_title(f"averages at α = {AMOUNTS[0]:g} to {AMOUNTS[-1]:g}, validation images")
    points.set_title("each attribute at its α, test images")
    for axes in (curves, points):
        axes.title.set_fontsize(9)
        axes.fill_between([0, LEAKAGE], FLIPS, 1.02, color="#22883322", linewidth=0)
        axes.set_xlabel("leakage")
        axes.grid(alpha=0.25)
        axes.set_ylim(0, 1.02)
    curves.set_xlim(0, 1.05 * largest)
    points.set_xlim(left=0)
    curves.set_ylabel("flip rate")
    if study.counted:
        curves.legend(frameon=False)
    return plot_png(figure)
