"""Paths between images: how probable are the images on the way?"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ...checks import require_at_least
from ...data.types import Splits
from ...errors import InputError
from ..page import Plot, Section, Sheet, Table
from ..study import Findings
from .study import MeasuredStudy, require_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ...models.flow import ImageFlow
    from .paths import Paths

COLOURS = ("#c2410c", "#2563a8", "#8a8a8a")


@dataclass(frozen=True, kw_only=True)
class Interpolation(MeasuredStudy):
    """Bits/dim along paths between test images, beside those of a cross-fade."""

    pairs: int = 100
    """Pairs of different test images."""
    steps: int = 9
    """Images of a path, both ends among them."""
    draws: int = 4
    """Dequantisation noise draws of each image."""
    batch_size: int = 50
    """Pairs that are encoded, decoded or scored at once."""
    seed: int = 0
    """Of the pairs and of the noise."""

    def check(self, model: "ImageFlow", splits: Splits) -> None:
        """Refuse numbers that are too small, float data, classes, and images that do not fit."""
        from ...data.inputs import require_shape

        require_at_least(self, 1, "pairs", "draws", "batch_size")
        require_at_least(self, 3, "steps")
        require_bytes(model, "a cross-fade of pixels is of images")
        require_shape(model, splits.test)
        if model.config.classes:
            raise InputError(
                "The model is class-conditional, and a path between two classes has none: give "
                "another --model."
            )
        if len(splits.test) < 2:
            raise InputError("There is 1 test image: a pair needs 2.")

    def measure(self, model: "ImageFlow", splits: Splits, *, progress: bool = True) -> Findings:
        """Every image of every path is scored like any other image."""
        from .paths import measure_paths

        return findings(
            measure_paths(
                model,
                splits.test,
                pairs=self.pairs,
                steps=self.steps,
                draws=self.draws,
                batch_size=self.batch_size,
                seed=self.seed,
                progress=progress,
            )
        )


def findings(paths: "Paths") -> Findings:
    """The paths in a line, as a table, a plot and a strip."""
    return Findings(
        title="Interpolation",
        sentence=sentence(paths),
        sections=(
            Section(
                words="Bits/dim of the images on the way between two test images, mean ± standard "
                f"error over {paths.pairs} pairs. linear, spherical: between their latents; "
                "cross-fade: of their pixels. Every image is rounded to bytes and scored as the "
                f"mean of {paths.draws} dequantisation noise draws, the same ones for all images "
                "of a pair.",
                pictures=[
                    Plot(
                        "interpolation.png",
                        "bits/dim against t",
                        (6, 3.2),
                        lambda figure: _draw(figure, paths),
                    ),
                    _strip(paths),
                ],
                table=_table(paths),
            ),
        ),
        summary={
            "pairs": paths.pairs,
            "draws": paths.draws,
            "t": list(paths.positions),
            "bits_per_dim": {p: [asdict(e) for e in along] for p, along in paths.bits.items()},
            "between_the_ends": {p: asdict(e) for p, e in paths.along.items()},
            "below_the_cross_fade": {p: asdict(e) for p, e in paths.below.items()},
        },
    )


def sentence(paths: "Paths") -> str:
    """Each path's mean between the ends."""
    figures = ", ".join(f"{path} {estimate}" for path, estimate in paths.along.items())
    return f"bits/dim between the ends, over {paths.pairs} pairs: {figures}."


def _table(paths: "Paths") -> Table:
    lines = [
        [f"{t:.3g}", *(str(along[i]) for along in paths.bits.values())]
        for i, t in enumerate(paths.positions)
    ]
    lines.append(["between the ends", *map(str, paths.along.values())])
    lines.append(["below the cross-fade", *map(str, paths.below.values()), "–"])
    return Table(["t", *paths.bits], lines)


def _draw(figure: "Figure", paths: "Paths") -> None:
    axes = figure.subplots()
    for (path, along), colour in zip(paths.bits.items(), COLOURS, strict=True):
        means = [estimate.mean for estimate in along]
        low, high = ([e.mean + side * (e.standard_error or 0.0) for e in along] for side in (-1, 1))
        axes.plot(paths.positions, means, marker="o", ms=3, color=colour, label=path)
        axes.fill_between(paths.positions, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlabel("t")
    axes.set_ylabel("bits/dim")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def _strip(paths: "Paths") -> Sheet:
    rows = [
        (path, strip)
        for strips in zip(*paths.strips.values(), strict=True)
        for path, strip in zip(paths.strips, strips, strict=True)
    ]
    return Sheet("strip.png", "the first pairs", rows, [f"{t:.3g}" for t in paths.positions])
