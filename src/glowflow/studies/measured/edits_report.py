"""What is said of edits: averages, tables, a plot and strips."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..page import Plot, Section, Sheet, Table
from ..study import Findings
from .editor import AMOUNTS, EXCHANGE, EXCHANGED, LEAKAGE, LEAVING, STRIP, Left, Row
from .edits import ESTIMATORS, FLIPS, TRUSTED, Edits

MOVES = (*ESTIMATORS, EXCHANGE)
COLOURS = dict(zip(MOVES, ("#8a8a8a", "#2563a8", "#c2410c", "#15803d"), strict=True))
CHOSEN = "best of each"
"""The row of averages in which each attribute has the estimator that validation images prefer."""
CHOICES: Mapping[str, str | None] = {**{move: move for move in MOVES}, CHOSEN: None}


def findings(edits: Edits) -> Findings:
    """The edits in a line, as a plot, strips and tables."""
    plot = Plot(
        "flips.png",
        "flip rate against leakage",
        (9, 3.8),
        lambda figure: _draw(figure, edits),
    )
    return Findings(
        title="Attribute editing",
        sentence=sentence(edits),
        sections=(
            Section(pictures=[plot]),
            _strips_section(edits),
            _averages_section(edits),
            _edits_section(edits),
            _judge_section(edits),
            _belonging_section(edits),
            *([Section("Without a direction", notes=[_refusals(edits)])] if edits.refused else []),
        ),
        summary=summary(edits),
        details={
            "tried": {
                f"{row.attribute}, {row.estimator}": [asdict(edited) for edited in row.tried]
                for row in edits.all_rows
            },
        },
    )


def average(rows: Sequence[Row]) -> dict[str, float]:
    """Means over attributes of the figures on test images."""
    measures = ("flip", "leakage", "leakage_of_all", "identity")
    if not rows:
        return {}
    return {m: float(np.mean([getattr(row.test, m).mean for row in rows])) for m in measures}


def summary(edits: Edits) -> dict[str, Any]:
    """Every figure but those of the amounts that were tried."""
    return {
        "directions_from": edits.directions_from,
        "judge": {
            **edits.judge,
            "held_out": {name: asdict(trust) for name, trust in edits.trust.items()},
        },
        "counted": list(edits.counted),
        "average": {name: average(edits.averaged(e)) for name, e in CHOICES.items()},
        "estimator": {name: edits.best(name).estimator for name in edits.attributes},
        "rows": [
            {
                "attribute": row.attribute,
                "estimator": row.estimator,
                "test": asdict(row.test),
                **({"amounts": _named(row.amounts)} if row.amounts else {}),
            }
            for row in edits.all_rows
        ],
        "unedited_flip": dict(edits.unedited),
        "own_changes": {name: list(own) for name, own in edits.own.items()},
        "own_pixels": dict(edits.pixels),
        "refused": dict(edits.refused),
        "seconds": dict(edits.seconds),
    }


def sentence(edits: Edits) -> str:
    """Averages of the estimator that validation images prefer, and whether they meet the target."""
    if not edits.counted:
        return (
            f"The judge is right in less than {TRUSTED:.0%} of the test images for every "
            "attribute: nothing can be said; give it more --judge-images."
        )
    name = edits.preferred
    best = average(edits.averaged(name))
    good = best["flip"] >= FLIPS and best["leakage"] <= LEAKAGE
    return (
        f"{name}: flip rate {best['flip']:.3f} at leakage {best['leakage']:.3f}, identity "
        f"{best['identity']:.3f}, averaged over {len(edits.counted)} attributes "
        f"({'meets' if good else 'misses'} {FLIPS:.2f} at {LEAKAGE:.2f})."
        + (_of_exchange(edits) if edits.exchanged else "")
    )


def _of_exchange(edits: Edits) -> str:
    figures = average(edits.averaged(EXCHANGE))
    return (
        f" Told what leaves, as one colour of hair for another: flip rate {figures['flip']:.3f} at "
        f"leakage {figures['leakage']:.3f}, identity {figures['identity']:.3f}."
    )


def _strips_section(edits: Edits) -> Section:
    return Section(
        "Strips",
        "Test images, the first half without the attribute and the others with it, moved by "
        f"{', '.join(f'{share:+g}' for share in STRIP)} times the chosen α; the middle column is "
        "the image itself.",
        pictures=[_strip(edits, name) for name in edits.attributes],
    )


def _strip(edits: Edits, name: str) -> Sheet:
    row = edits.best(name)
    without, with_it = edits.strips[name]
    faces = [*(("without", face) for face in without), *(("with", face) for face in with_it)]
    test = row.test
    return Sheet(
        f"strip-{name}.png",
        f"{name} comes and goes",
        faces,
        [f"{share:+g}x" if row.amounts else f"{share * row.chosen.amount:+.3g}" for share in STRIP],
        caption=f"{name.replace('_', ' ')}: {row.estimator}, α = {_amounts(row)}; flip "
        f"{test.flip.mean:.3f}, leakage {test.leakage.mean:.3f}, identity "
        f"{test.identity.mean:.3f}",
    )


def _amounts(row: Row) -> str:
    """The row's α, and those of images that lose something else."""
    others = [f"{amount:g} of {name}" for name, amount in _named(row.amounts).items()]
    return ", ".join([f"{row.chosen.amount:g}", *others])


def _named(amounts: Mapping[Left, float]) -> dict[str, float]:
    return {" and ".join(left) or "nothing": amount for left, amount in amounts.items()}


def _averages_section(edits: Edits) -> Section:
    lines = []
    for name, estimator in CHOICES.items():
        rows = edits.averaged(estimator)
        figures = [f"{value:.3f}" for value in average(rows).values()] or ["–"] * 4
        lines.append([name, *figures, str(len(rows))])
    return Section(
        "Averages",
        f"Over the {len(edits.counted)} attributes on which the judge is right in at least "
        f"{TRUSTED:.0%} of the test images. Flip: the judge sees the attribute. Leakage: share "
        "of the other attributes whose verdict changes, without those changes that belong to "
        "the attribute itself; of all: with them. Identity: 1 where nothing changes outside "
        "the attribute's own pixels, 0 where it is as far away as another image. "
        f"“{EXCHANGE}” moves each image from the mean of those with what, by its labels, it has "
        "and loses, as another colour of hair, by an α that is chosen for what leaves where "
        f"{LEAVING} validation images lose the same, and is “{EXCHANGED}” where nothing leaves. In "
        f"“{CHOSEN}” each attribute has the estimator with the largest flip − leakage on "
        "validation images.",
        table=Table(["estimator", "flip", "leakage", "of all", "identity", "attributes"], lines),
    )


def _edits_section(edits: Edits) -> Section:
    lines = []
    for row in edits.all_rows:
        test = row.test
        best = " ←" if edits.best(row.attribute) is row else ""
        lines.append(
            [
                f"{row.attribute}, {row.estimator}{best}",
                _amounts(row),
                str(test.flip),
                str(test.leakage),
                f"{test.leakage_of_all.mean:.3f}",
                str(test.identity),
                str(test.images),
            ]
        )
    heads = ["attribute, estimator", "α", "flip", "leakage", "of all", "identity", "images"]
    return Section(
        "Every attribute",
        "Test images that lack the attribute, all moved by the same α or, by “exchange”, by one "
        "for what leaves. α is one of "
        f"{', '.join(f'{a:g}' for a in AMOUNTS)}: on validation images the largest flip − "
        f"leakage among those that leak at most {LEAKAGE:g}. ± is the standard error over "
        f"images. Directions from {edits.directions_from:,} training images; ← marks the "
        "estimator that validation images prefer.",
        table=Table(heads, lines),
    )


def _judge_section(edits: Edits) -> Section:
    lines = []
    for name, trust in edits.trust.items():
        unedited = edits.unedited.get(name)
        lines.append(
            [
                name,
                f"{trust.accuracy:.3f}",
                f"{trust.majority:.3f}",
                f"{trust.balanced:.3f}",
                "–" if unedited is None else f"{unedited:.3f}",
            ]
        )
    return Section(
        "The judge",
        f"One convolutional network of {edits.judge['parameters']:,} parameters with a head for "
        f"each attribute, trained on {edits.judge['images']:,} training images, shifted and noisy, "
        "none of them generated. On the test images: accuracy, share of the larger side, mean "
        "accuracy of the two sides; and the share of the images to edit in which it sees the "
        "attribute before the edit.",
        table=Table(["attribute", "accuracy", "majority", "balanced", "flip at α = 0"], lines),
    )


def _belonging_section(edits: Edits) -> Section:
    lines = [
        [name, f"{edits.pixels[name]:.1%}", " ".join(edits.own[name]).replace("_", " ") or "–"]
        for name in edits.attributes
    ]
    return Section(
        "What belongs to an attribute",
        "From training images. Pixels: mean images with and without the attribute, over pairs "
        "that agree in the others, differ by more than 2 %. Changes: −b where b never occurs "
        "with the attribute or is never missing without it, +b where b is never missing with "
        "it or never occurs without it.",
        table=Table(["attribute", "pixels", "changes of others"], lines),
    )


def _refusals(edits: Edits) -> list[str]:
    return [f"{name}: {reason}" for name, reason in edits.refused.items()]


def _draw(figure: Figure, edits: Edits) -> None:
    """Left: averages against α on validation images; right: each attribute on test images."""
    curves, points = figure.subplots(1, 2, sharey=True)
    largest = LEAKAGE
    for estimator in MOVES if edits.exchanged else ESTIMATORS:
        rows = edits.averaged(estimator)
        if not rows:
            continue
        tried = [[row.tried[i] for row in rows] for i in range(len(AMOUNTS))]
        leakage = [float(np.mean([e.leakage.mean for e in some])) for some in tried]
        flips = [float(np.mean([e.flip.mean for e in some])) for some in tried]
        style: Any = {"color": COLOURS[estimator], "label": estimator}
        curves.plot(leakage, flips, marker="o", markersize=3, **style)
        largest = max(largest, *leakage)
        points.scatter(
            [row.test.leakage.mean for row in rows],
            [row.test.flip.mean for row in rows],
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
    if edits.counted:
        curves.legend(frameon=False)
