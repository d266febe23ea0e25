"""The latent space by principal components: what each level explains, and what can be read off it.

The figures are those of `pca.latent_pca`; `glow pca` shows the same as a page with pictures.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Plot

from ...checks import require_at_least
from ...data.inputs import require_shape
from ...data.types import Splits
from ...latents.levels import LatentPCA, LevelAxes, latent_pca
from ...models.companions import identity
from ...models.flow import ImageFlow
from ...reports.plots import plot_png
from .. import Findings, markdown_table

COLOURS = ("#8fb3d9", "#2563a8", "#c2410c", "#22883d", "#8a5fb0", "#8a8a8a")
"""Of the levels, first level first; all levels together are black."""


@dataclass(frozen=True, kw_only=True)
class ComponentSettings:
    """What is measured, on how many images."""

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


def check(model: ImageFlow, splits: Splits, settings: ComponentSettings) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: a number is too small, or the images do not fit the model.
    """
    require_at_least(settings, 1, "components", "images", "minimum", "batch_size")
    require_shape(model, splits.test)


def report(
    model: ImageFlow, splits: Splits, settings: ComponentSettings, *, progress: bool = True
) -> Findings:
    """Measure (`latent_pca`), and report.

    Raises:
        InputError: as `latent_pca`.
    """
    found = latent_pca(
        model,
        splits,
        components=settings.components,
        limit=settings.images,
        minimum=settings.minimum,
        batch_size=settings.batch_size,
        progress=progress,
    )
    about = {
        "model_identity": identity(model),
        "source": splits.source,
        "checksum": splits.checksum,
    }
    return findings(found, about)


def findings(found: LatentPCA, about: dict[str, str]) -> Findings:
    """The study in a line, as JSON, and as pca.md and pca.png."""
    return Findings(
        sentence=sentence(found),
        facts={**about, **facts(found)},
        files={"pca.md": _markdown(found, about).encode(), "pca.png": _plot(found)},
    )


def facts(found: LatentPCA) -> dict[str, Any]:
    """Every figure, as JSON can hold it."""
    return {
        "fitted": found.fitted,
        "chosen_on": found.chosen_on,
        "held_out": len(found.indices),
        "levels": [
            {
                "shape": list(level.shape),
                "explained_variance": level.shares.tolist(),
                "variances": level.variances.tolist(),
            }
            for level in found.levels
        ],
        "readouts": [
            {
                "attribute": readout.name,
                "majority": readout.majority,
                "accuracy": list(readout.accuracy[:-1]),
                "all_levels": readout.accuracy[-1],
            }
            for readout in found.readouts
        ],
        "refused": list(found.refused),
    }


def sentence(found: LatentPCA) -> str:
    """What the axes explain, and how well attributes are read off, level by level."""
    shares = ", ".join(f"{level.shares.sum():.1%}" for level in found.levels)
    explained = (
        f"{max(len(level.shares) for level in found.levels)} axes a level explain {shares} of the "
        "variance, first level first"
    )
    if not found.readouts:
        return f"{explained}; the images have no attributes to read off."
    majority, *by_level, together = _averages(found)
    read = ", ".join(f"{value:.1%}" for value in by_level)
    return (
        f"{explained}; {len(found.readouts)} attributes are read off linearly with accuracy "
        f"{read} from the levels and {together:.1%} from all together (majority {majority:.1%})."
    )


def _averages(found: LatentPCA) -> list[float]:
    """Means over attributes: the majority, each level, all levels."""
    figures = [[r.majority, *r.accuracy] for r in found.readouts]
    return [float(value) for value in np.mean(figures, axis=0)]


def _markdown(found: LatentPCA, about: dict[str, str]) -> str:
    levels = [f"level {i + 1}" for i in range(len(found.levels))]
    explained = [
        [
            f"{name}: {'x'.join(map(str, level.shape))}",
            f"{mean_variance(level):.3f}",
            *(f"{level.shares[:n].sum():.2%}" for n in _steps(found)),
            f"{share_of_noise(level, found.fitted):.2%}",
        ]
        for name, level in zip(levels, found.levels, strict=True)
    ]
    steps = [f"{n} axes" if n > 1 else "1 axis" for n in _steps(found)]
    heads = ["", "mean variance", *steps, "1 axis of noise"]
    parts = [
        f"# Latent space by principal components\n\n{sentence(found)}\n\n"
        f"{about['source']}, SHA-256 {about['checksum']}. Model {about['model_identity']}.\n",
        "## Explained variance\n\n"
        f"Share of the variance of each level's whitened latents along its first principal axes, "
        f"fitted to {found.fitted:,} training images. Mean variance: over the level's dimensions, "
        "1 if the model fitted perfectly. 1 axis of noise: the share that the first axis would "
        "have if all directions were alike, for so many images: (1 + √(D/N))² / D.\n\n"
        f"{markdown_table(heads, explained)}",
    ]
    if found.readouts:
        read = [
            [r.name, *(f"{value:.1%}" for value in (r.majority, *r.accuracy))]
            for r in found.readouts
        ]
        read.append(["mean", *(f"{value:.1%}" for value in _averages(found))])
        widest = max(math.sqrt(a * (1 - a)) for r in found.readouts for a in r.accuracy)
        error = widest / math.sqrt(len(found.indices))
        parts.append(
            "## What can be read linearly off each level\n\n"
            f"Accuracy on {len(found.indices):,} held-out images (standard error at most "
            f"{error:.1%}), beside the share of the larger side: linear discriminants fitted to "
            f"{found.fitted:,} training images, thresholds chosen on {found.chosen_on:,} "
            "validation images.\n\n"
            f"{markdown_table(['attribute', 'majority', *levels, 'all levels'], read)}"
        )
    if found.refused:
        parts.append(f"Too few images on a side: {', '.join(found.refused)}.\n")
    return "\n".join(parts)


def mean_variance(level: LevelAxes) -> float:
    """Variance of ε, the mean over the D dimensions of a level."""
    return float(level.variances.sum() / level.shares.sum()) / math.prod(level.shape)


def share_of_noise(level: LevelAxes, images: int) -> float:
    """(1 + √(D/N))² / D: the first axis' share of the variance of N points without structure.

    Source: Marchenko & Pastur 1967, the upper edge of the spectrum.
    """
    dims = math.prod(level.shape)
    return min(1.0, (1 + math.sqrt(dims / images)) ** 2 / dims)


def _steps(found: LatentPCA) -> list[int]:
    """1, 2, 4, … axes, and all of them."""
    most = max(len(level.shares) for level in found.levels)
    return [*(2**i for i in range(most.bit_length()) if 2**i < most), most]


def _plot(found: LatentPCA) -> bytes:
    """Left: variance explained by the first axes; right: accuracy of each attribute by level."""
    height = max(3.4, 0.16 * len(found.readouts) + 1.0)
    figure = Plot(figsize=(9, height), dpi=110, layout="constrained")
    panels = figure.subplots(1, 2 if found.readouts else 1, squeeze=False)[0]
    explained = panels[0]
    for i, level in enumerate(found.levels):
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
    if found.readouts:
        _draw_readouts(panels[1], found)
    explained.legend(frameon=False, fontsize=8)
    for axes in panels:
        axes.grid(alpha=0.25)
    return plot_png(figure)


def _draw_readouts(axes: Any, found: LatentPCA) -> None:
    readouts = sorted(found.readouts, key=lambda r: r.accuracy[-1] - r.majority)
    lines = np.arange(len(readouts))
    majority = [100 * r.majority for r in readouts]
    axes.barh(lines, majority, color="#e5e5e5", label="majority")
    for i in range(len(found.levels) + 1):
        together = i == len(found.levels)
        axes.scatter(
            [100 * r.accuracy[i] for r in readouts],
            lines,
            s=14,
            marker="|" if together else "o",
            color="black" if together else COLOURS[i % len(COLOURS)],
            label="all levels" if together else f"level {i + 1}",
            zorder=3,
        )
    axes.set_yticks(lines, [r.name.replace("_", " ") for r in readouts], fontsize=7)
    axes.set_xlim(max(0, min(majority) - 5), 100.5)
    axes.set_xlabel("held-out accuracy, %")
    above = {"loc": "lower center", "bbox_to_anchor": (0.4, 1.0), "ncols": len(found.levels) + 2}
    axes.legend(frameon=False, fontsize=7, columnspacing=1, handletextpad=0.3, **above)
