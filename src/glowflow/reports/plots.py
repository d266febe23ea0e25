"""Curves of a run, as PNG."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..models.likelihood import name_of_data, unit_of

LARGEST_SCALE = "largest_scale_by_level"
HEALTH = {
    "bits/dim by level": ("bits_by_level",),
    "largest cond(W) by level": ("condition_by_level",),
    "coupling scales by level": ("smallest_scale_by_level", LARGEST_SCALE),
    "round-trip error": ("round_trip_error",),
    "gradient norm": ("grad_norm",),
}
"""The titles of the plots, and the names in metrics.jsonl of what is in each."""


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


def loss_curve(
    metrics: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, float] | None = None,
    *,
    bits: int | None = 8,
) -> bytes:
    """Bits/dim, or nats/dim of float data, against training images as a PNG, baselines as dashed
    lines.

    Args:
        metrics: the lines of metrics.jsonl.
        baselines: name and bits/dim of each line to draw.
        bits: of the data's bytes; None for float data.
    """
    unit, scale = unit_of(bits)
    baselines = {name: scale * value for name, value in (baselines or {}).items()}
    figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    values: list[float] = []
    curves: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("bits_per_dim", "training", {"linewidth": 1.0, "color": "#8fb3d9"}),
        ("valid_bits_per_dim", "held-out", {"marker": "o", "markersize": 3, "color": "#c2410c"}),
    )
    for name, label, style in curves:
        points = [(m["images"], scale * m[name]) for m in metrics if name in m]
        if points:
            axes.plot([x for x, _ in points], [y for _, y in points], label=label, **style)
            values += [value for _, value in points]
    for name, value in baselines.items():
        _draw_baseline(axes, name, value)
    _cut_spikes(axes, values, tuple(baselines.values()))
    axes.set_xlabel(f"training {name_of_data(bits)}")
    axes.set_ylabel(unit)
    axes.grid(alpha=0.25)
    if axes.has_data():
        axes.legend(frameon=False)
    return plot_png(figure)


def _draw_baseline(axes: Axes, name: str, value: float) -> None:
    axes.axhline(value, linestyle="--", linewidth=0.8, color="#555555")
    axes.annotate(
        f"{name} {value:.2f}",
        (1.0, value),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=7,
    )


def _cut_spikes(axes: Axes, values: Sequence[float], others: Sequence[float]) -> None:
    """Let the first lines, which are far above the rest, and a spike leave the plot."""
    shown = values[len(values) // 50 :]
    if shown:
        low = min(*shown, *others, math.inf)
        high = max(float(np.quantile(shown, 0.98)), *others, -math.inf)
        axes.set_ylim(low - 0.05 * (high - low) - 0.01, high + 0.05 * (high - low) + 0.01)


def health_curves(metrics: Sequence[Mapping[str, Any]]) -> bytes:
    """What `Health` says at each validation, and the gradient's norm, as a PNG of small plots.

    Args:
        metrics: the lines of metrics.jsonl.
    """
    plots = [
        (title, [name for name in names if any(name in m for m in metrics)])
        for title, names in HEALTH.items()
    ]
    plots = [(title, names) for title, names in plots if names]
    lines = -(-len(plots) // 2)
    figure = Figure(figsize=(8, 2.2 * lines), dpi=110, layout="constrained")
    panels = figure.subplots(lines, 2, squeeze=False).flat
    for (title, names), axes in zip(plots, panels, strict=False):
        _draw_health(axes, names, metrics)
        axes.set_title(title, fontsize=9)
    for axes in panels:  # one is left over by an odd number
        axes.set_axis_off()
    return plot_png(figure)


def _draw_health(axes: Axes, names: Sequence[str], metrics: Sequence[Mapping[str, Any]]) -> None:
    """A curve for each level of each figure, on a logarithmic axis where they differ much."""
    low, high = math.inf, 0.0
    for name in names:
        lines = [m for m in metrics if name in m]
        values = np.array([m[name] for m in lines], dtype=np.float64).reshape(len(lines), -1)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        for level, curve in enumerate(values.T):
            labelled = name.endswith("by_level") and name != LARGEST_SCALE
            axes.plot(
                [m["images"] for m in lines],
                curve,
                marker="." if len(lines) < 50 else None,
                color=f"C{level}",
                linewidth=1.0,
                linestyle="--" if name == LARGEST_SCALE else "-",
                label=f"level {level + 1}" if labelled else None,
            )
    axes.set_yscale("log" if 0 < 10 * low < high < math.inf else "linear")
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=7)


def plot_png(figure: Figure) -> bytes:
    """The plot as a PNG in memory."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
