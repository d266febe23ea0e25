"""Samples at each temperature, beside the data that the model was trained on."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ...checks import require_at_least
from ...data.types import Splits
from ...errors import InputError
from ...evaluation.estimate import Estimate
from ..page import Plot, Section, Sheet, Table
from ..study import Findings
from .study import MeasuredStudy, require_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...models.flow import ImageFlow
    from .samples import Look, Samples

COLOURS = ("#2563a8", "#c2410c")


@dataclass(frozen=True, kw_only=True)
class Temperature(MeasuredStudy):
    """Samples at each temperature: bits/dim, distances to and from the data, variance, a sheet."""

    temperatures: tuple[float, ...] = tuple(round(0.1 * i, 1) for i in range(15))
    """Standard deviations of the latents, or one."""
    count: int = 250
    """Samples at each temperature, all from the same noise; also training and test images that they
    are measured beside, at most, evenly spread."""
    draws: int = 1
    """Dequantisation noise draws of each image, for its bits/dim."""
    batch_size: int = 50
    """Images that are decoded or scored at once."""
    seed: int = 0
    """Of the samples, which are those of `glow sample`, and of the noise."""

    def check(self, model: "ImageFlow", splits: Splits) -> None:
        """Refuse numbers that cannot be used, float data, and images that do not fit."""
        from ...data.inputs import require_fit

        require_at_least(self, 2, "count")
        require_at_least(self, 1, "draws", "batch_size")
        if not self.temperatures or not all(0 <= t < math.inf for t in self.temperatures):
            raise InputError(f"temperatures are {self.temperatures}: give numbers from 0 up.")
        require_bytes(model, "there are no pictures to show of it")
        for name, data in (("training", splits.train), ("test", splits.test)):
            require_fit(model, data)
            if len(data) < 2:
                raise InputError(f"There is {len(data)} {name} image: give data with at least 2.")
        if (splits.test.images == splits.test.images[:1]).all():
            raise InputError("All test images are the same: give other data.")

    def measure(self, model: "ImageFlow", splits: Splits, *, progress: bool = True) -> Findings:
        """The same noise at each temperature, looked at as one looks at data."""
        from .samples import measure_samples

        return findings(
            measure_samples(
                model,
                splits,
                self.temperatures,
                count=self.count,
                draws=self.draws,
                batch_size=self.batch_size,
                seed=self.seed,
                progress=progress,
            )
        )


def findings(samples: "Samples") -> Findings:
    """The temperatures in a line, as a table, a plot and a sheet."""
    return Findings(
        title="Temperature",
        sentence=sentence(samples),
        sections=(_section(samples),),
        summary={
            "samples": samples.count,
            "test_images": samples.test_images,
            "draws": samples.draws,
            "temperatures": [
                {"temperature": t, "gap": gap, **asdict(look)}
                for t, gap, look in zip(
                    samples.temperatures, samples.gaps, samples.looks, strict=True
                )
            ],
            "training_images": asdict(samples.training),
            "test_bits_per_dim": None if samples.test_bits is None else asdict(samples.test_bits),
            "best_temperature": samples.best,
        },
    )


def sentence(samples: "Samples") -> str:
    """Which temperature is nearest to the data, and by what."""
    look = samples.looks[samples.temperatures.index(samples.best)]
    return (
        f"T = {samples.best:g} is nearest to the data in bits/dim, both distances and variance: "
        f"{_or_dash(look.bits)} bits/dim (test images {_or_dash(samples.test_bits)}), a gap of "
        f"{min(samples.gaps):.3f}."
    )


def _section(samples: "Samples") -> Section:
    shown = zip(samples.temperatures, samples.sheet, strict=True)
    rows = [*((f"T = {t:g}", images) for t, images in shown), ("test images", samples.originals)]
    return Section(
        words=f"{samples.count:,} samples at each temperature, all from the same noise, beside as "
        f"many training images and {samples.test_images:,} test images; mean ± standard error. "
        f"bits/dim: of the images as bytes, {samples.draws} dequantisation noise "
        f"draw{'s' if samples.draws != 1 else ''} each. To test: from an image to the nearest test "
        "image, root mean square over values in bytes. From test: from a test image to the nearest "
        "image of the row. Variance: across images, mean over values, as a share of the test "
        "images'. Saturated: values that are the lowest or the highest. Broken: images with a "
        "value or a log p that is not finite, or wholly black. Gap: |a − b| / max(|a|, |b|) of a "
        "figure a of the samples and the same b of the data, the mean over bits/dim (b of test "
        "images), both distances and the variance (b of training images): 0 is like the data, and "
        "← is the smallest.",
        pictures=[
            Plot(
                "temperature.png",
                "every figure against the temperature",
                (9, 5.6),
                lambda figure: _draw(figure, samples),
            ),
            Sheet("samples.png", "samples of each temperature", rows),
        ],
        table=_table(samples),
    )


def _table(samples: "Samples") -> Table:
    lines = [
        [f"T = {t:g}" + (" ←" if t == samples.best else ""), *_cells(look), f"{gap:.3f}"]
        for t, look, gap in zip(samples.temperatures, samples.looks, samples.gaps, strict=True)
    ]
    lines.append(["training images", *_cells(samples.training), "–"])
    lines.append(["test images", _or_dash(samples.test_bits), "–", "–", "1.000", *["–"] * 3])
    heads = ["bits/dim", "to test", "from test", "variance", "saturated", "broken", "gap"]
    return Table(["", *heads], lines)


def _cells(look: "Look") -> list[str]:
    return [
        _or_dash(look.bits),
        str(look.to_test),
        str(look.from_test),
        f"{look.variance:.3f}",
        f"{look.saturated:.2%}",
        f"{look.broken:.1%}",
    ]


def _or_dash(estimate: Estimate | None) -> str:
    return "–" if estimate is None else str(estimate)


def _draw(figure: "Figure", samples: "Samples") -> None:
    """Every figure against the temperature; dashed: the data's."""
    (bits, distances), (variance, shares) = figure.subplots(2, 2, sharex=True)
    looks, own = samples.looks, samples.training
    nothing = Estimate(math.nan, None)

    def draw(
        axes: "Axes", name: str, values: Sequence[float], reference: float, colour: str
    ) -> None:
        axes.plot(samples.temperatures, values, marker="o", ms=3, color=colour, label=name)
        axes.axhline(reference, color=colour, linestyle="--", linewidth=1)

    means = [(look.bits or nothing).mean for look in looks]
    draw(bits, "bits/dim", means, (samples.test_bits or nothing).mean, COLOURS[0])
    bits.set_ylabel("bits/dim of samples")
    to_test, from_test = ([getattr(x, n).mean for x in looks] for n in ("to_test", "from_test"))
    draw(distances, "sample to test image", to_test, own.to_test.mean, COLOURS[0])
    draw(distances, "test image to sample", from_test, own.from_test.mean, COLOURS[1])
    distances.set_ylabel("distance to the nearest, bytes")
    draw(variance, "variance", [look.variance for look in looks], own.variance, COLOURS[0])
    variance.set_ylabel("variance, share of the data's")
    saturated, broken = ([100 * getattr(x, n) for x in looks] for n in ("saturated", "broken"))
    draw(shares, "saturated values", saturated, 100 * own.saturated, COLOURS[0])
    draw(shares, "broken samples", broken, 100 * own.broken, COLOURS[1])
    shares.set_ylabel("%")
    for axes in (bits, distances, variance, shares):
        axes.axvline(samples.best, color="#8a8a8a", linewidth=0.8)
        axes.grid(alpha=0.25)
    for axes in (distances, shares):
        axes.legend(frameon=False, fontsize=8)
    for axes in (variance, shares):
        axes.set_xlabel("temperature; dashed: the data")
