"""One self-contained HTML page about a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..evaluation.baselines import Baseline
from ..evaluation.estimate import Estimate
from ..evaluation.evaluate import Evaluation
from ..evaluation.table import MODEL, PER_SOURCE_VALUE, ranked, remarks, round_trip_sentence
from ..files import write_text
from ..models.flow import OF_FLOATS
from ..models.likelihood import name_of_data, unit_of
from ..training.health import concerns
from .page import bar_cell, html_page, picture, table
from .pictures import png_bytes, rows
from .plots import health_curves, loss_curve


@dataclass(frozen=True)
class Report:
    """What a report shows."""

    title: str
    summary: str
    source: str
    checksum: str
    skipped: Sequence[str]
    config: Mapping[str, Any]
    """Nested hyperparameters."""
    environment: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    """The lines of metrics.jsonl."""
    evaluation: Evaluation
    samples: Sequence[tuple[str, NDArray[Any]]]
    """Name of a row (its temperature, and how many are no pictures), and images (N, C, H, W)."""
    reconstructions: tuple[NDArray[Any], NDArray[Any]]
    """Test images, and what came back of them."""
    neighbours: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    """Samples, the training image nearest to each, and their distances in units of the values."""
    unusable: int = 0
    """Samples that were left out there: not finite, or far outside of the range."""


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    write_text(path, _page(report))


def _page(report: Report) -> str:
    sections = (
        _head,
        _samples,
        _training,
        _health,
        _bits_per_dim,
        _reconstruction,
        _neighbours,
        _data,
        _settings,
    )
    return html_page(report.title, (section(report) for section in sections))


def _head(report: Report) -> str:
    evaluation = report.evaluation
    unit, scale = unit_of(evaluation.bits)
    own, error = evaluation.bits_per_dim.mean, evaluation.bits_per_dim.standard_error
    shown = Estimate(scale * own, None if error is None else scale * error)
    name = name_of_data(evaluation.bits)
    boxes = [(str(shown), f"{unit}, {evaluation.images} test {name}")]
    if evaluation.bits_per_source_value is not None:
        inside = str(evaluation.bits_per_source_value)
        boxes.append((inside, "bits per value of the source, its margins not counted"))
    webp = next((b for b in evaluation.baselines if b.name.startswith("WebP")), None)
    if webp is not None and webp.mean is not None:
        word = "below" if evaluation.mean < webp.mean else "above"
        boxes.append((f"{abs(webp.mean - evaluation.mean):.3f} {word}", "lossless WebP"))
    if evaluation.bits is not None:
        share = evaluation.images_unchanged / evaluation.images
        boxes.append((f"{share:.0%}", "of the images come back with every byte unchanged"))
    inner = "".join(f"<div><b>{escape(a)}</b>{escape(b)}</div>" for a, b in boxes)
    return (
        f"<h1>{escape(report.title)}</h1><p>{escape(report.summary)}</p>"
        f"<div class=headline>{inner}</div>"
    )


def _samples(report: Report) -> str:
    labelled = list(report.samples)
    temperatures = ", ".join(label for label, _ in labelled)
    sheet = picture(png_bytes(rows(labelled)), f"samples at {temperatures}")
    return (
        "<h2>Samples by temperature</h2>"
        "<p class=quiet>Each column is one latent code, multiplied by the temperature at every "
        f"level and decoded; from the top, {temperatures}.</p>{sheet}"
    )


def _training(report: Report) -> str:
    baselines = {b.name: b.mean for b in report.evaluation.baselines if b.mean is not None}
    bits = report.evaluation.bits
    curve = loss_curve(report.metrics, baselines, bits=bits)
    what = f"{unit_of(bits)[0]} against training {name_of_data(bits)}"
    return f"<h2>Training</h2>{picture(curve, what)}"


def _health(report: Report) -> str:
    """Nothing for a run of a version that did not look."""
    figures = {name: value for line in report.metrics for name, value in line.items()}
    if "round_trip_error" not in figures:
        return ""
    bits, clip = report.evaluation.bits, report.config["train"]["clip"]
    warnings = concerns(figures, bits=bits, clip=clip, name=name_of_data(bits))
    verdict = "".join(f"<p><b>Warning:</b> {escape(line)}</p>" for line in warnings)
    return (
        "<h2>Health</h2>"
        "<p class=quiet>At each validation, of the averaged weights. The levels' bits/dim (the "
        f"first level is nearest the {name_of_data(bits)}) add up to the model's"
        f"{', less the bits of a byte' * (bits is not None)}. "
        "Coupling scales: the smallest as a line, the largest dashed.</p>"
        f"{verdict or '<p>At the end every figure is in its healthy range.</p>'}"
        f"{picture(health_curves(report.metrics), 'figures by level, while it trained')}"
    )


def _bits_per_dim(report: Report) -> str:
    baselines = ranked(report.evaluation)
    largest = max((abs(b.mean) for b in baselines if b.mean is not None), default=1.0)
    lines = "".join(_baseline(baseline, largest) for baseline in baselines)
    words = "".join(f"<p>{escape(remark)}</p>" for remark in remarks(report.evaluation))
    what = "Bits per dimension" if report.evaluation.bits is not None else "Nats per dimension"
    return f"<h2>{what}</h2><div class=wide><table>{lines}</table></div>{words}"


def _baseline(baseline: Baseline, largest: float) -> str:
    """A row of the table of figures, with a bar beside the largest."""
    mean = "–" if baseline.mean is None else f"{baseline.mean:.3f}"
    error = "" if baseline.standard_error is None else f"± {baseline.standard_error:.3f}"
    inside = (
        "" if baseline.mean_inside is None else f"{baseline.mean_inside:.3f} {PER_SOURCE_VALUE}"
    )
    note = "; ".join(filter(None, (inside, baseline.note)))
    mark = " class=model" if baseline.name == MODEL else ""
    return (
        f"<tr{mark}><td>{escape(baseline.name)}</td><td class=figure>{mean}</td>"
        f"<td class=figure>{error}</td>{bar_cell(max(baseline.mean or 0.0, 0.0) / largest)}"
        f"<td class=quiet>{escape(note)}</td></tr>"
    )


def _reconstruction(report: Report) -> str:
    originals, decoded = report.reconstructions
    name = name_of_data(report.evaluation.bits)
    sheet = png_bytes(rows([(name.removesuffix("s"), originals), ("decoded", decoded)]))
    return (
        "<h2>Reconstruction</h2>"
        f"<p>Encoded and decoded: {escape(round_trip_sentence(report.evaluation))}.</p>"
        f"{picture(sheet, f'test {name} above their reconstructions')}"
    )


def _neighbours(report: Report) -> str:
    drawn, closest, distances = report.neighbours
    sheet = png_bytes(rows([("sample", drawn), ("nearest", closest)]))
    floats = report.evaluation.bits is None
    name = name_of_data(report.evaluation.bits)
    figures = ", ".join(f"{distance:{'.3g' if floats else '.1f'}}" for distance in distances)
    unit = "in units of the data" if floats else "bytes run from 0 to 255"
    return (
        f"<h2>Nearest training {name}</h2>"
        f"<p>Below each sample, the training {name.removesuffix('s')} that is nearest to it by "
        "root mean square over the values. A model that memorises draws the same twice; here the "
        f"distances are {figures} ({unit})."
        f"{_unusable(report.unusable, OF_FLOATS if floats else name)}</p>"
        f"{picture(sheet, f'samples above the nearest training {name}')}"
    )


def _unusable(count: int, of: str) -> str:
    if not count:
        return ""
    return (
        f" {count} of the samples are not finite or far outside of the range of {of}, and left out."
    )


def _data(report: Report) -> str:
    return (
        f"<h2>Data</h2><p>{escape(report.source)}<br><span class=quiet>SHA-256 of the array: "
        f"{escape(report.checksum)}</span></p>{_skipped(report.skipped)}"
    )


def _settings(report: Report) -> str:
    config, environment = table(_dotted(report.config)), table(_dotted(report.environment))
    return (
        "<h2>Configuration and environment</h2>"
        f"<details><summary>Configuration</summary>{config}</details>"
        f"<details open><summary>Environment</summary>{environment}</details>"
    )


def _skipped(skipped: Sequence[str]) -> str:
    if not skipped:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in skipped[:100])
    return f"<p>{len(skipped)} files could not be read:</p><ul>{items}</ul>"


def _dotted(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """`model.levels` and its value, of a field in a field."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
