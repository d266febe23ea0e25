"""Grids of images and curves, as PNG."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..data.images import from_array
from ..files import replacing

CELL = 64
"""Images smaller than this are shown enlarged by a whole factor."""
GAP = 2
MARGIN = 72
"""Pixels left of a row for its label, or more where the label is longer."""
FONT = 12
BACKGROUND = (255, 255, 255)
INK = (60, 60, 60)
SCALES = ("smallest_scale_by_level", "largest_scale_by_level")


def to_pil(image: NDArray[Any]) -> Image.Image:
    """A Pillow image from uint8 (C, H, W).

    1, 3 and 4 channels are grey, RGB and RGBA; of other numbers the first three are shown, or the
    first. Float images are scaled from their own range.
    """
    if image.dtype != np.uint8:
        low, high = float(np.min(image)), float(np.max(image))
        image = (255 * (image - low) / max(high - low, 1e-12)).astype(np.uint8)
    if len(image) not in (1, 3, 4):
        image = image[:3] if len(image) > 3 else image[:1]
    return from_array(image)


def grid(images: NDArray[Any], columns: int | None = None) -> Image.Image:
    """Images (N, C, H, W) in rows of `columns`, by default about a square."""
    columns = columns or max(1, round(len(images) ** 0.5))
    starts = range(0, len(images), columns)
    return _sheet([("", images[start : start + columns]) for start in starts], margin=0)


def rows(labelled: Sequence[tuple[str, NDArray[Any]]], headings: Sequence[str] = ()) -> Image.Image:
    """One row of images (N, C, H, W) per label, with a heading over each column if given."""
    font = ImageFont.load_default(size=FONT)
    longest = max(font.getlength(label) for label, _ in labelled)
    return _sheet(labelled, margin=max(MARGIN, round(longest) + 12), headings=headings)


def save_animation(path: Path, images: NDArray[Any], *, milliseconds: int = 120) -> None:
    """There and back through uint8 (N, C, H, W), without end: GIF or lossless WebP by the suffix.

    Raises:
        InputError: the folder cannot be written.
    """
    frames = [grid(image[None]) for image in images]
    first, *others = [*frames, *frames[-2:0:-1]]
    with replacing(path) as temporary:
        first.save(
            temporary,
            format=path.suffix[1:].upper(),
            save_all=True,
            append_images=others,
            duration=milliseconds,
            loop=0,
            lossless=True,
        )


def path_curve(positions: Sequence[float], bits: Mapping[str, Sequence[float]]) -> bytes:
    """Bits/dim along paths between two codes as a PNG."""
    figure = Figure(figsize=(6, 2.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, values in bits.items():
        axes.plot(positions, values, marker="o", markersize=3, label=name)
    axes.set_xlabel("t")
    axes.set_ylabel("bits/dim")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return plot_png(figure)


def save_png(path: Path, image: Image.Image) -> None:
    """Write a PNG, whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG in memory."""
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def plot_png(figure: Figure) -> bytes:
    """The plot as a PNG in memory."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def loss_curve(
    metrics: Sequence[Mapping[str, Any]], baselines: Mapping[str, float] | None = None
) -> bytes:
    """Bits/dim against training images as a PNG, baselines as dashed lines.

    Args:
        metrics: the lines of metrics.jsonl.
        baselines: name and bits/dim of each line to draw.
    """
    figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    values: list[float] = []
    curves: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("bits_per_dim", "training", {"linewidth": 1.0, "color": "#8fb3d9"}),
        ("valid_bits_per_dim", "held-out", {"marker": "o", "markersize": 3, "color": "#c2410c"}),
    )
    for name, label, style in curves:
        points = [(m["images"], m[name]) for m in metrics if name in m]
        if points:
            axes.plot([x for x, _ in points], [y for _, y in points], label=label, **style)
            values += [value for _, value in points]
    for name, value in (baselines or {}).items():
        axes.axhline(value, linestyle="--", linewidth=0.8, color="#555555")
        axes.annotate(
            f"{name} {value:.2f}",
            (1.0, value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=7,
        )
    shown = values[len(values) // 50 :]  # the first lines are far above the rest
    if shown:
        others = (baselines or {}).values()
        low = min(*shown, *others, math.inf)
        # A spike may leave the plot.
        high = max(float(np.quantile(shown, 0.98)), *others, -math.inf)
        axes.set_ylim(low - 0.05 * (high - low) - 0.01, high + 0.05 * (high - low) + 0.01)
    axes.set_xlabel("training images")
    axes.set_ylabel("bits/dim")
    axes.grid(alpha=0.25)
    if axes.has_data():
        axes.legend(frameon=False)
    return plot_png(figure)


def health_curves(metrics: Sequence[Mapping[str, Any]]) -> bytes:
    """What `Health` says at each validation, and the gradient's norm, as a PNG of small plots.

    Args:
        metrics: the lines of metrics.jsonl.
    """
    plots = [
        (title, found)
        for title, names in (
            ("bits/dim by level", ("bits_by_level",)),
            ("largest cond(W) by level", ("condition_by_level",)),
            ("coupling scales by level", SCALES),
            ("round-trip error", ("round_trip_error",)),
            ("gradient norm", ("grad_norm",)),
        )
        if (found := [name for name in names if any(name in m for m in metrics)])
    ]
    figure = Figure(figsize=(8, 2.2 * -(-len(plots) // 2)), dpi=110, layout="constrained")
    panels = figure.subplots(-(-len(plots) // 2), 2, squeeze=False).flat
    for (title, names), axes in zip(plots, panels, strict=False):
        low, high = math.inf, 0.0
        for name in names:
            lines = [m for m in metrics if name in m]
            values = np.array([m[name] for m in lines], dtype=np.float64).reshape(len(lines), -1)
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            for level, curve in enumerate(values.T):
                label = f"level {level + 1}" if name.endswith("by_level") else None
                axes.plot(
                    [m["images"] for m in lines],
                    curve,
                    marker="." if len(lines) < 50 else None,
                    color=f"C{level}",
                    linewidth=1.0,
                    linestyle="--" if name == SCALES[1] else "-",
                    label=None if name == SCALES[1] else label,
                )
        axes.set_title(title, fontsize=9)
        axes.set_yscale("log" if 0 < 10 * low < high < math.inf else "linear")
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=7)
    for axes in panels:  # one is left over by an odd number
        axes.set_axis_off()
    return plot_png(figure)


def _sheet(
    labelled: Sequence[tuple[str, NDArray[Any]]], margin: int, headings: Sequence[str] = ()
) -> Image.Image:
    height, width = labelled[0][1].shape[2:]
    scale = max(1, -(-CELL // max(height, width)))
    step_x, step_y = width * scale + GAP, height * scale + GAP
    columns = max(len(images) for _, images in labelled)
    above = FONT + 8 if headings else 0
    size = (margin + columns * step_x + GAP, above + len(labelled) * step_y + GAP)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=FONT)
    for column, heading in enumerate(headings):
        middle = margin + GAP + column * step_x + width * scale / 2
        draw.text((middle, above / 2), heading, fill=INK, anchor="mm", font=font)
    for row, (label, images) in enumerate(labelled):
        top = above + GAP + row * step_y
        if label:
            draw.text((6, top + step_y / 2), label, fill=INK, anchor="lm", font=font)
        for column, image in enumerate(images):
            picture = to_pil(image).resize(
                (width * scale, height * scale), Image.Resampling.NEAREST
            )
            left = margin + GAP + column * step_x
            sheet.paste(picture.convert("RGBA"), (left, top), picture.convert("RGBA"))
    return sheet
