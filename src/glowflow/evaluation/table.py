"""The model among its baselines and published figures, as a table and in words."""

import math

from rich.table import Table

from .baselines import Baseline
from .evaluate import Evaluation

MODEL = "This model"


def table(evaluation: Evaluation) -> Table:
    """The model among its baselines and published figures, best first, for the terminal."""
    unit = "differential " if evaluation.bits is None else ""
    shown = Table(
        title=f"{unit}bits/dim of {evaluation.images} held-out images",
        title_justify="left",
        caption="\n".join(remarks(evaluation)) or None,
        caption_justify="left",
    )
    for column, justify in (("", "left"), ("bits/dim", "right"), ("±", "right"), ("", "left")):
        shown.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in ranked(evaluation):
        value = "–" if row.mean is None else f"{row.mean:.3f}"
        error = "" if row.standard_error is None else f"{row.standard_error:.3f}"
        style = "bold" if row.name == MODEL else None
        shown.add_row(row.name, value, error, row.note, style=style)
    return shown


def ranked(evaluation: Evaluation) -> list[Baseline]:
    """The model, its baselines and published figures, best first, what does not apply last."""
    draws = f"{evaluation.draws} noise draw{'s' if evaluation.draws != 1 else ''} per image"
    note = draws if evaluation.bits is not None else "float data: depends on the unit"
    own = Baseline(MODEL, evaluation.mean, evaluation.standard_error, note)
    return sorted(
        (own, *evaluation.baselines, *evaluation.published),
        key=lambda b: math.inf if b.mean is None else b.mean,
    )


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
    if evaluation.bayes_accuracy is not None and evaluation.classifier_accuracy is not None:
        sentences.append(
            f"Right class: {evaluation.bayes_accuracy:.1%} by Bayes' rule on the likelihoods, "
            f"{evaluation.classifier_accuracy:.1%} by the classifier."
        )
    return sentences


def round_trip_sentence(evaluation: Evaluation) -> str:
    """What came back, in words."""
    error = f"largest float error {evaluation.largest_error:.1e}"
    if evaluation.bits is None:
        return f"{error} over {evaluation.images} images"
    if not evaluation.bytes_changed:
        total = f"all {evaluation.bytes_compared:,} bytes of {evaluation.images} images"
        return f"{total} unchanged; {error}"
    return (
        f"{evaluation.bytes_changed:,} of {evaluation.bytes_compared:,} bytes changed, "
        f"{evaluation.images_unchanged} of {evaluation.images} images unchanged; {error}"
    )
