"""Training curves of trials."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .results import TrialResult, of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2563a8", "#c2410c", "#228833", "#8a5fb0", "#8a8a8a", "#b08900")


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
    axes: "Axes",
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
