"""One self-contained HTML page about a run."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..evaluation.evaluate import Evaluation
from ..evaluation.table import MODEL, figure, ranked, remarks, round_trip_sentence
from ..files import write_text
from ..training.health import concerns
from .page import html_page
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
    samples: Sequence[tuple[float, NDArray[Any]]]
    """Temperature, and images (N, C, H, W)."""
    reconstructions: tuple[NDArray[Any], NDArray[Any]]
    """Test images, and what came back of them."""
    neighbours: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    """Samples, the training image nearest to each, and their distances in units of the values."""


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    write_text(path, _page(report))


def _page(report: Report) -> str:
    evaluation = report.evaluation
    originals, decoded = report.reconstructions
    drawn, closest, distances = report.neighbours
    shown = {b.name: b.mean for b in evaluation.baselines if b.mean is not None}
    typical = ", ".join(f"{d:.1f}" for d in distances)
    temperatures = ", ".join(f"T = {temperature:g}" for temperature, _ in report.samples)
    sheet = rows([(f"T = {temperature:g}", images) for temperature, images in report.samples])
    body = [
        f"<h1>{escape(report.title)}</h1>",
        f"<p>{escape(report.summary)}</p>",
        _headline(evaluation),
        "<h2>Samples by temperature</h2>",
        "<p class=quiet>Each column is one latent code, multiplied by the temperature at every "
        f"level and decoded; from the top, {temperatures}.</p>",
        _picture(png_bytes(sheet), f"samples at {temperatures}"),
        "<h2>Training</h2>",
        _picture(loss_curve(report.metrics, shown), "bits per dimension against training images"),
        *_health(report),
        "<h2>Bits per dimension</h2>",
        _figures(evaluation),
        "<h2>Reconstruction</h2>",
        f"<p>Encoded and decoded: {escape(round_trip_sentence(evaluation))}.</p>",
        _picture(
            png_bytes(rows([("image", originals), ("decoded", decoded)])),
            "test images above their reconstructions",
        ),
        "<h2>Nearest training images</h2>",
        "<p>Below each sample, the training image that is nearest to it by root mean square over "
        "the values. A model that memorises draws the same picture twice; here the distances are "
        f"{typical} (bytes run from 0 to 255).</p>",
        _picture(
            png_bytes(rows([("sample", drawn), ("nearest", closest)])),
            "samples above the nearest training images",
        ),
        "<h2>Data</h2>",
        f"<p>{escape(report.source)}<br><span class=quiet>SHA-256 of the array: "
        f"{escape(report.checksum)}</span></p>",
        _skipped(report.skipped),
        "<h2>Configuration and environment</h2>",
        f"<details><summary>Configuration</summary>{_table(_flat(report.config))}</details>",
        "<details open><summary>Environment</summary>"
        f"{_table(_flat(report.environment))}</details>",
    ]
    return html_page(report.title, body)


def _health(report: Report) -> list[str]:
    """Nothing for a run of a version that did not look."""
    figures = {name: value for line in report.metrics for name, value in line.items()}
    if "round_trip_error" not in figures:
        return []
    said = concerns(figures, bits=report.evaluation.bits, clip=report.config["train"]["clip"])
    return [
        "<h2>Health</h2>",
        "<p class=quiet>At each validation, of the averaged weights. The levels' bits/dim (the "
        "first level is nearest the image) add up to the model's, less the bits of a byte. "
        "Coupling scales: the smallest as a line, the largest dashed.</p>",
        *(f"<p><b>Warning:</b> {escape(line)}</p>" for line in said),
        "" if said else "<p>At the end every figure is in its healthy range.</p>",
        _picture(health_curves(report.metrics), "figures by level against training images"),
    ]


def _headline(evaluation: Evaluation) -> str:
    boxes = [(figure(evaluation), f"bits/dim, {evaluation.images} test images")]
    webp = next(b for b in evaluation.baselines if b.name.startswith("WebP"))
    if webp.mean is not None:
        word = "below" if evaluation.mean < webp.mean else "above"
        boxes.append((f"{abs(webp.mean - evaluation.mean):.3f} {word}", "lossless WebP"))
    if evaluation.bits is not None:
        share = evaluation.images_unchanged / evaluation.images
        boxes.append((f"{share:.0%}", "of the images come back with every byte unchanged"))
    inner = "".join(f"<div><b>{escape(a)}</b>{escape(b)}</div>" for a, b in boxes)
    return f"<div class=headline>{inner}</div>"


def _figures(evaluation: Evaluation) -> str:
    figures = ranked(evaluation)
    largest = max((abs(b.mean) for b in figures if b.mean is not None), default=1.0)
    lines = []
    for row in figures:
        value = "–" if row.mean is None else f"{row.mean:.3f}"
        error = "" if row.standard_error is None else f"± {row.standard_error:.3f}"
        width = 0.0 if row.mean is None else 100 * max(row.mean, 0.0) / largest
        mark = " class=model" if row.name == MODEL else ""
        lines.append(
            f"<tr{mark}><td>{escape(row.name)}</td><td class=figure>{value}</td>"
            f"<td class=figure>{error}</td>"
            f'<td class=barcell><div class=bar style="width:{width:.1f}%"></div></td>'
            f"<td class=quiet>{escape(row.note)}</td></tr>"
        )
    said = "".join(f"<p>{escape(remark)}</p>" for remark in remarks(evaluation))
    return f"<div class=wide><table>{''.join(lines)}</table></div>{said}"


def _skipped(skipped: Sequence[str]) -> str:
    if not skipped:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in skipped[:100])
    return f"<p>{len(skipped)} files could not be read:</p><ul>{items}</ul>"


def _flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, value in nested.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((f"{prefix}{name}", str(value)))
    return lines


def _table(lines: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in lines)
    return f"<table>{cells}</table>"


def _picture(png: bytes, alternative: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(alternative)}" src="data:image/png;base64,{data}">'
