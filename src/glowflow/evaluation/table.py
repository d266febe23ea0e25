"""The model among its baselines and published figures, as a table and in words."""

import math
from dataclasses import replace
from typing import Any

from rich.table import Table

from ..models.likelihood import name_of_data, unit_of
from .baselines import Baseline
from .estimate import Estimate
from .evaluate import Evaluation

MODEL = "This model"
PER_SOURCE_VALUE = "bits/source value"
"""Name of the figure that leaves the margins of `--fit pad` out of the count of values."""


def table(evaluation: Evaluation) -> Table:
    """The model among its baselines and published figures, best first, for the terminal."""
    unit, _ = unit_of(evaluation.bits)
    minus = "−log p, " if evaluation.bits is None else ""
    shown = Table(
        title=f"{minus}{unit} of {evaluation.images} {evaluation.what}",
        title_justify="left",
        caption="\n".join(remarks(evaluation)) or None,
        caption_justify="left",
    )
    inside = evaluation.mean_inside is not None
    shown.add_column("")
    for column in (unit, "±", *((PER_SOURCE_VALUE, "±") if inside else ())):
        shown.add_column(column, justify="right")
    shown.add_column("")
    for row in ranked(evaluation):
        cells = [_cell(row.mean) or "–", _cell(row.standard_error)]
        if inside:
            cells += [_cell(row.mean_inside), _cell(row.standard_error_inside)]
        style = "bold" if row.name == MODEL else None
        shown.add_row(row.name, *cells, row.note, style=style)
    return shown


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def ranked(evaluation: Evaluation) -> list[Baseline]:
    """The model, its baselines and published figures, best first, what does not apply last."""
    draws = f"{evaluation.draws} noise draw{'s' if evaluation.draws != 1 else ''} per image"
    note = draws if evaluation.bits is not None else "float data: depends on the unit"
    own = Baseline(
        MODEL,
        evaluation.mean,
        evaluation.standard_error,
        note,
        evaluation.mean_inside,
        evaluation.standard_error_inside,
    )
    _, scale = unit_of(evaluation.bits)
    return sorted(
        (_in_unit(row, scale) for row in (own, *evaluation.baselines, *evaluation.published)),
        key=lambda b: math.inf if b.mean is None else b.mean,
    )


def _in_unit(row: Baseline, scale: float) -> Baseline:
    """A row of bits, multiplied."""
    names = ("mean", "standard_error", "mean_inside", "standard_error_inside")
    values: dict[str, Any] = {
        name: None if (value := getattr(row, name)) is None else scale * value for name in names
    }
    return replace(row, **values)


def remarks(evaluation: Evaluation) -> list[str]:
    """In words: what the data were read as, and how many classes are right."""
    sentences = []
    if evaluation.dataset:
        given = "" if evaluation.bayes_accuracy is None else " given the class"
        figures = (
            "published figures for the same are"
            if evaluation.published
            else "no published figure is"
        )
        sentences.append(
            f"Read as {evaluation.dataset}, {evaluation.bits} bits{given}: {figures} set beside it."
        )
    if evaluation.values_inside is not None:
        sentences.append(
            f"The images have margins: bits/dim counts them as values, {PER_SOURCE_VALUE} counts "
            f"the source's own alone ({evaluation.values_inside:,.0f} an image) for the same bits."
        )
    if evaluation.bayes_accuracy is not None and evaluation.classifier_accuracy is not None:
        sentences.append(
            f"Right class: {evaluation.bayes_accuracy:.1%} by Bayes' rule on the likelihoods, "
            f"{evaluation.classifier_accuracy:.1%} by the classifier."
        )
    return sentences


def figure(evaluation: Evaluation) -> str:
    """The figure in words, per value of the source, too, where there are margins; of float data
    −log p in nats, for each dimension and for each sample."""
    if evaluation.bits is None:
        nats, dims = evaluation.nats, max(1, evaluation.dimensions)
        error = None if nats.standard_error is None else nats.standard_error / dims
        return f"{Estimate(nats.mean / dims, error)} nats/dim ({nats} nats per sample)"
    inside = evaluation.bits_per_source_value
    more = "" if inside is None else f" ({inside} bits per source value, margins not counted)"
    return f"{evaluation.bits_per_dim} bits/dim{more}"


def round_trip_sentence(evaluation: Evaluation) -> str:
    """What came back, in words."""
    error = f"largest float error {evaluation.largest_error:.1e}"
    if evaluation.bits is None:
        return f"{error} over {evaluation.images} {name_of_data(None)}"
    if not evaluation.bytes_changed:
        total = f"all {evaluation.bytes_compared:,} bytes of {evaluation.images} images"
        return f"{total} unchanged; {error}"
    return (
        f"{evaluation.bytes_changed:,} of {evaluation.bytes_compared:,} bytes changed, "
        f"{evaluation.images_unchanged} of {evaluation.images} images unchanged; {error}"
    )
