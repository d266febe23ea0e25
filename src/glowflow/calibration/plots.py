"""What the checks found, as pictures."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .coverage import Coverage
from .spectrum import Ratio, Spectrum
from .uniform import shares_below, simultaneous_band

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND = {"color": "#c2410c", "alpha": 0.18, "linewidth": 0}
LINE = {"color": "#1d4e89", "linewidth": 1.4}


def draw_ranks(figure: "Figure", ranks: dict[str, NDArray[np.int64]], draws: int) -> None:
    """The share of each set of ranks below a level, less the level, in its 95 % band."""
    columns = min(3, len(ranks))
    rows = -(-len(ranks) // columns)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, some) in zip(panels, ranks.items(), strict=False):
        band = simultaneous_band(len(some), draws)
        axes.fill_between(band.levels, band.low - band.levels, band.high - band.levels, **BAND)
        axes.plot(band.levels, shares_below(some, draws, band) - band.levels, **LINE)
        axes.axhline(0, color="0.6", linewidth=0.7)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("level", fontsize=8)
        axes.set_ylabel("share below − level", fontsize=8)
    for axes in panels[len(ranks) :]:
        axes.set_axis_off()


def draw_coverage(figure: "Figure", coverage: Coverage) -> None:
    """Empirical against nominal coverage, with two standard errors."""
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.7)
    axes.errorbar(
        coverage.nominal, coverage.empirical, 2 * coverage.standard_error, fmt="o", markersize=3,
        color=LINE["color"], linewidth=1.2,
    )  # fmt: skip
    axes.set_xlabel("probability of the interval")
    axes.set_ylabel("share of truths in it")
    axes.set_aspect("equal")


def draw_p_values(figure: "Figure", p_values: NDArray[np.float64]) -> None:
    """The p-value of each place of a field (C, H, W), the first channel; a line for fewer axes."""
    axes = figure.subplots()
    shown = p_values
    while shown.ndim > 2:
        shown = shown[0]
    if shown.ndim == 2:
        picture = axes.imshow(np.log10(np.maximum(shown, 1e-6)), vmin=-6, vmax=0, cmap="magma")
        figure.colorbar(picture, ax=axes, label="log10 p")
        axes.set_axis_off()
    else:
        axes.semilogy(np.atleast_1d(shown), "o", markersize=3, color=LINE["color"])
        axes.set_xlabel("value")
        axes.set_ylabel("p")


def draw_spectra(figure: "Figure", spectra: tuple[Spectrum, Spectrum], ratio: Ratio) -> None:
    """Power of samples and data, and below it their ratio with two standard errors."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for spectrum, name, colour in zip(
        spectra, ("samples", "data"), (LINE["color"], BAND["color"]), strict=True
    ):
        above.loglog(spectrum.wavenumber, spectrum.power, label=name, color=colour, linewidth=1.4)
    above.set_ylabel("power of a mode")
    above.legend(frameon=False)
    below.axhline(1, color="0.6", linewidth=0.7)
    below.errorbar(
        ratio.wavenumber, ratio.ratio, 2 * ratio.standard_error, fmt="o", markersize=2.5,
        color=LINE["color"], linewidth=1,
    )  # fmt: skip
    _around_one(below, ratio)
    below.set_ylabel("samples ÷ data")
    below.set_xlabel("wavenumber (cycles across the longest side)")


def _around_one(axes: "Axes", ratio: Ratio) -> None:
    farthest = float(np.abs(np.nan_to_num(ratio.ratio, nan=1.0, posinf=1.0) - 1).max())
    reach = min(1.0, max(0.05, 1.5 * farthest))
    axes.set_ylim(1 - reach, 1 + reach)
