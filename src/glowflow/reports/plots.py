"""Curves of a run, as PNG."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

SCALES = ("smallest_scale_by_level", "largest_scale_by_level")


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


def plot_png(figure: Figure) -> bytes:
    """The plot as a PNG in memory."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
