"""The latent space by principal components: what each level explains, and what is read off it.

The figures are those of `latent_pca`; `glow pca` shows the same as a page with pictures.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...checks import require_at_least
from ...data.types import Splits
from ..page import Plot, Section, Table
from ..study import Findings
from .study import MeasuredStudy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...latents.levels import LatentPCA, LevelAxes
    from ...models.flow import ImageFlow

COLOURS = ("#8fb3d9", "#2563a8", "#c2410c", "#22883d", "#8a5fb0", "#8a8a8a")
"""Of the levels, first level first; all levels together are black."""


@dataclass(frozen=True, kw_only=True)
class Components(MeasuredStudy):
    """What each level's principal axes explain, and what can be read linearly off it."""

    components: int = 16
    """Principal axes of each level."""
    images: int | None = 5000
    """Images of each part, at most; None for all."""
    minimum: int = 10
    """Training images that are needed with an attribute, and without it."""
    batch_size: int = 50
    """Images that are encoded at once."""
    seed: int = 0
    """Nothing here is random; taken for the sake of scripts."""

    def check(self, model: "ImageFlow", splits: Splits) -> None:
        """Refuse numbers that are too small, and images that do not fit the model."""
        from ...data.inputs import require_shape

        require_at_least(self, 1, "components", "images", "minimum", "batch_size")
        require_shape(model, splits.test)

    def measure(self, model: "ImageFlow", splits: Splits, *, progress: bool = True) -> Findings:
        """By `latent_pca`."""
        from ...latents.levels import latent_pca

        return findings(
            latent_pca(
                model,
                splits,
                components=self.components,
                limit=self.images,
                minimum=self.minimum,
                batch_size=self.batch_size,
                progress=progress,
            )
        )


def findings(pca: "LatentPCA") -> Findings:
    """The levels in a line, as tables and as a plot."""
    height = max(3.4, 0.16 * len(pca.readouts) + 1.0)
    plot = Plot(
        "pca.png", "explained variance and readouts", (9, height), lambda figure: _draw(figure, pca)
    )
    return Findings(
        title="Latent space by principal components",
        sentence=sentence(pca),
        sections=(
            Section(pictures=[plot]),
            _explained_section(pca),
            *([_readout_section(pca)] if pca.readouts else []),
            *(
                [Section(words=f"Too few images on a side: {', '.join(pca.refused)}.")]
                if pca.refused
                else []
            ),
        ),
        summary=facts(pca),
    )


def facts(pca: "LatentPCA") -> dict[str, Any]:
    """Every figure, as JSON can hold it."""
    return {
        "fitted": pca.fitted,
        "chosen_on": pca.chosen_on,
        "held_out": len(pca.indices),
        "levels": [
            {
                "shape": list(level.shape),
                "explained_variance": level.shares.tolist(),
                "variances": level.variances.tolist(),
            }
            for level in pca.levels
        ],
        "readouts": [
            {
                "attribute": readout.name,
                "majority": readout.majority,
                "accuracy": list(readout.accuracy[:-1]),
                "all_levels": readout.accuracy[-1],
            }
            for readout in pca.readouts
        ],
        "refused": list(pca.refused),
    }


def sentence(pca: "LatentPCA") -> str:
    """What the axes explain, and how well attributes are read off, level by level."""
    shares = ", ".join(f"{level.shares.sum():.1%}" for level in pca.levels)
    explained = (
        f"{max(len(level.shares) for level in pca.levels)} axes a level explain {shares} of the "
        "variance, first level first"
    )
    if not pca.readouts:
        return f"{explained}; the images have no attributes to read off."
    majority, *by_level, of_all = _averages(pca)
    read = ", ".join(f"{value:.1%}" for value in by_level)
    return (
        f"{explained}; {len(pca.readouts)} attributes are read off linearly with accuracy "
        f"{read} from the levels and {of_all:.1%} from all together (majority {majority:.1%})."
    )


def _averages(pca: "LatentPCA") -> list[float]:
    """Means over attributes: the majority, each level, all levels."""
    accuracies = [[r.majority, *r.accuracy] for r in pca.readouts]
    return [float(value) for value in np.mean(accuracies, axis=0)]


def _explained_section(pca: "LatentPCA") -> Section:
    most = max(len(level.shares) for level in pca.levels)
    counts = [*(2**i for i in range(most.bit_length()) if 2**i < most), most]
    lines = [
        [
            f"level {i}: {'x'.join(map(str, level.shape))}",
            f"{mean_variance(level):.3f}",
            *(f"{level.shares[:n].sum():.2%}" for n in counts),
            f"{share_of_noise(level, pca.fitted):.2%}",
        ]
        for i, level in enumerate(pca.levels, 1)
    ]
    axes = [f"{n} axes" if n > 1 else "1 axis" for n in counts]
    return Section(
        "Explained variance",
        f"Share of the variance of each level's whitened latents along its first principal axes, "
        f"fitted to {pca.fitted:,} training images. Mean variance: over the level's dimensions, "
        "1 if the model fitted perfectly. 1 axis of noise: the share that the first axis would "
        "have if all directions were alike, for so many images: (1 + √(D/N))² / D.",
        table=Table(["", "mean variance", *axes, "1 axis of noise"], lines),
    )


def mean_variance(level: "LevelAxes") -> float:
    """Variance of ε, the mean over the D dimensions of a level."""
    return float(level.variances.sum() / level.shares.sum()) / math.prod(level.shape)


def share_of_noise(level: "LevelAxes", images: int) -> float:
    """(1 + √(D/N))² / D: the first axis' share of the variance of N points without structure.

    Source: Marchenko & Pastur 1967, the upper edge of the spectrum.
    """
    dims = math.prod(level.shape)
    return min(1.0, (1 + math.sqrt(dims / images)) ** 2 / dims)


def _readout_section(pca: "LatentPCA") -> Section:
    lines = [
        [r.name, *(f"{value:.1%}" for value in (r.majority, *r.accuracy))] for r in pca.readouts
    ]
    lines.append(["mean", *(f"{value:.1%}" for value in _averages(pca))])
    widest = max(math.sqrt(a * (1 - a)) for r in pca.readouts for a in r.accuracy)
    error = widest / math.sqrt(len(pca.indices))
    levels = [f"level {i + 1}" for i in range(len(pca.levels))]
    return Section(
        "What can be read linearly off each level",
        f"Accuracy on {len(pca.indices):,} held-out images (standard error at most "
        f"{error:.1%}), beside the share of the larger side: linear discriminants fitted to "
        f"{pca.fitted:,} training images, thresholds chosen on {pca.chosen_on:,} "
        "validation images.",
        table=Table(["attribute", "majority", *levels, "all levels"], lines),
    )


def _draw(figure: "Figure", pca: "LatentPCA") -> None:
    """Left: variance explained by the first axes; right: accuracy of each attribute by level."""
    panels = figure.subplots(1, 2 if pca.readouts else 1, squeeze=False)[0]
    explained = panels[0]
    for i, level in enumerate(pca.levels):
        explained.plot(
            np.arange(1, len(level.shares) + 1),
            100 * np.cumsum(level.shares.numpy()),
            marker="o",
            markersize=3,
            color=COLOURS[i % len(COLOURS)],
            label=f"level {i + 1}: {'x'.join(map(str, level.shape))}",
        )
    explained.set_xlabel("principal axes")
    explained.xaxis.get_major_locator().set_params(integer=True)
    explained.set_ylabel("explained variance, %")
    explained.set_ylim(bottom=0)
    if pca.readouts:
        _draw_readouts(panels[1], pca)
    explained.legend(frameon=False, fontsize=8)
    for axes in panels:
        axes.grid(alpha=0.25)


def _draw_readouts(axes: "Axes", pca: "LatentPCA") -> None:
    readouts = sorted(pca.readouts, key=lambda r: r.accuracy[-1] - r.majority)
    lines = np.arange(len(readouts))
    majority = [100 * r.majority for r in readouts]
    axes.barh(lines, majority, color="#e5e5e5", label="majority")
    for i in range(len(pca.levels) + 1):
        of_all = i == len(pca.levels)
        axes.scatter(
            [100 * r.accuracy[i] for r in readouts],
            lines,
            s=14,
            marker="|" if of_all else "o",
            color="black" if of_all else COLOURS[i % len(COLOURS)],
            label="all levels" if of_all else f"level {i + 1}",
            zorder=3,
        )
    axes.set_yticks(lines, [r.name.replace("_", " ") for r in readouts], fontsize=7)
    axes.set_xlim(max(0, min(majority) - 5), 100.5)
    axes.set_xlabel("held-out accuracy, %")
    above: dict[str, Any] = {
        "loc": "lower center",
        "bbox_to_anchor": (0.4, 1.0),
        "ncols": len(pca.levels) + 2,
    }
    axes.legend(frameon=False, fontsize=7, columnspacing=1, handletextpad=0.3, **above)
