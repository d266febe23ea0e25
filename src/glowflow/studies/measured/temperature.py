"""Samples at each temperature, measured beside the data that the model was trained on."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure as Plot
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ...checks import require_at_least
from ...data.inputs import evenly, labels_of, require_fit, with_noise
from ...data.types import ImageData, Splits
from ...errors import InputError
from ...evaluation.estimate import mean_and_error
from ...evaluation.nearest import nearest
from ...latents.codes import unflatten
from ...models.companions import identity
from ...models.flow import ImageFlow
from ...models.likelihood import bits_per_dim
from ...reports.pictures import png_bytes, rows
from ...reports.plots import plot_png
from .. import Figure, Findings, markdown_table

SHOWN = 10
"""Samples of each temperature in the sheet."""
COLOURS = ("#2563a8", "#c2410c")


@dataclass(frozen=True, kw_only=True)
class TemperatureSettings:
    """What is measured, on how many images."""

    temperatures: tuple[float, ...] = tuple(round(0.1 * i, 1) for i in range(15))
    """Standard deviations of the latents."""
    count: int = 250
    """Samples at each temperature, all from the same noise; also training and test images that they
    are measured beside, at most, evenly spread."""
    draws: int = 1
    """Dequantisation noise draws of each image, for its bits/dim."""
    batch_size: int = 50
    """Images that are decoded or scored at once."""
    seed: int = 0
    """Of the samples, which are those of `glow sample`, and of the noise."""


@dataclass(frozen=True)
class Look:
    """What a set of images looks like beside the test images. Distances are root mean squares over
    the values of two images, in bytes."""

    bits: Figure | None
    """Bits/dim under the model, over the images for which it is finite; None where there is none.
    """
    to_test: Figure
    """Distance from each image to the nearest test image: small where the images look like data."""
    from_test: Figure
    """Distance from each test image to the nearest image: small where all of the data is covered.
    """
    variance: float
    """Mean over values of the variance across images, as a share of that of the test images."""
    saturated: float
    """Share of the values that are the lowest or the highest that there is."""
    broken: float
    """Share of the images with a value or a log p that is not finite, or that are wholly black."""


@dataclass(frozen=True)
class TemperatureStudy:
    """All that was measured."""

    model: str
    """`identity` of the model."""
    source: str
    checksum: str
    samples: int
    """Of each temperature, and training images."""
    test_images: int
    draws: int
    temperatures: tuple[float, ...]
    looks: tuple[Look, ...]
    """Of the samples of each temperature."""
    training: Look
    """Of training images: what samples would be if the model were the data's own distribution."""
    test_bits: Figure | None
    sheet: tuple[UInt8[NDArray[np.uint8], "shown channels height width"], ...] = field(repr=False)
    """The first samples of each temperature."""
    originals: UInt8[NDArray[np.uint8], "shown channels height width"] = field(repr=False)
    """The first test images that were used."""

    @property
    def gaps(self) -> tuple[float, ...]:
        """How far each temperature is from the data: the mean over bits/dim, both distances and the
        variance of |a − b| / max(|a|, |b|).

        a is the samples' figure, b the test images' bits/dim, or the figure of training images.
        0 is like data; a bits/dim that is nowhere finite counts as 1.
        """
        own, found = self.training, []
        for look in self.looks:
            pairs = [
                (look.to_test.mean, own.to_test.mean),
                (look.from_test.mean, own.from_test.mean),
                (look.variance, own.variance),
            ]
            bits = 1.0
            if look.bits is not None and self.test_bits is not None:
                bits = _apart(look.bits.mean, self.test_bits.mean)
            found.append((bits + sum(_apart(a, b) for a, b in pairs)) / 4)
        return tuple(found)

    @property
    def best(self) -> float:
        """The temperature of the smallest gap."""
        return self.temperatures[int(np.argmin(self.gaps))]


def _apart(a: float, b: float) -> float:
    return 0.0 if a == b else abs(a - b) / max(abs(a), abs(b))


@torch.no_grad()
def study_temperature(
    model: ImageFlow, splits: Splits, settings: TemperatureSettings, *, progress: bool = True
) -> TemperatureStudy:
    """Draw the same noise at each temperature, and look at the samples as one looks at data.

    Distances to the nearest of a set depend on its size: there are as many training images as
    samples, and all are measured against the same test images.

    Args:
        model: in eval mode, for images of bytes.
        splits: training and test images to measure beside.
        settings: how much of it.
        progress: show a bar on stderr.

    Raises:
        InputError: the images do not fit the model, or a number cannot be used.
    """
    check(model, splits, settings)
    count = min(settings.count, len(splits.train))
    training, training_labels = _chosen(model, splits.train, count)
    test, test_labels = _chosen(model, splits.test, settings.count)
    variance = _variance(test)

    def look(
        images: NDArray[np.uint8], bits: NDArray[np.float64], finite: NDArray[np.bool_]
    ) -> Look:
        possible = np.isfinite(bits)
        _, to_test = nearest(images, test)
        _, from_test = nearest(test, images)
        highest = 256 - 256 // 2 ** (model.config.bits or 8)
        black = ~images.any(axis=(1, 2, 3))
        return Look(
            bits=Figure(*mean_and_error(bits[possible])) if possible.any() else None,
            to_test=Figure(*mean_and_error(to_test)),
            from_test=Figure(*mean_and_error(from_test)),
            variance=_variance(images) / variance,
            saturated=float(((images == 0) | (images == highest)).mean()),
            broken=float((~finite | ~possible | black).mean()),
        )

    noise, labels = _noise(model, count, settings.seed)
    looks, sheet = [], []
    for temperature in track(
        settings.temperatures, "sampling", disable=not progress, console=Console(stderr=True)
    ):
        images, finite = _decoded(model, temperature * noise, labels, settings.batch_size)
        looks.append(look(images, _bits(model, images, labels, settings), finite))
        sheet.append(images[:SHOWN])
    known = np.ones(count, dtype=bool)
    test_bits = _bits(model, test, test_labels, settings)
    test_bits = test_bits[np.isfinite(test_bits)]
    return TemperatureStudy(
        model=identity(model),
        source=splits.source,
        checksum=splits.checksum,
        samples=count,
        test_images=len(test),
        draws=settings.draws,
        temperatures=settings.temperatures,
        looks=tuple(looks),
        training=look(training, _bits(model, training, training_labels, settings), known),
        test_bits=Figure(*mean_and_error(test_bits)) if len(test_bits) else None,
        sheet=tuple(sheet),
        originals=test[:SHOWN],
    )


def check(model: ImageFlow, splits: Splits, settings: TemperatureSettings) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: as `study_temperature`.
    """
    require_at_least(settings, 2, "count")
    require_at_least(settings, 1, "draws", "batch_size")
    if not settings.temperatures or not all(0 <= t < math.inf for t in settings.temperatures):
        raise InputError(f"temperatures are {settings.temperatures}: give numbers from 0 up.")
    if model.config.bits is None:
        raise InputError("This model is for float data: there are no pictures to show of it.")
    for name, data in (("training", splits.train), ("test", splits.test)):
        require_fit(model, data)
        if len(data) < 2:
            raise InputError(f"There is {len(data)} {name} image: give data with at least 2.")
    if not np.ptp(splits.test.images, axis=0).any():
        raise InputError("All test images are the same: give other data.")


def _chosen(
    model: ImageFlow, data: ImageData, count: int
) -> tuple[NDArray[np.uint8], Tensor | None]:
    """Images in the model's bits, evenly spread, and their labels for a model with classes."""
    indices = evenly(len(data), count)
    images = model.to_images(model.to_float(torch.tensor(data.images[indices]), noise="center"))
    return images.numpy(), labels_of(model, data, indices)


def _noise(
    model: ImageFlow, count: int, seed: int
) -> tuple[Float[Tensor, "count D"], Tensor | None]:
    """The latents and classes that `ImageFlow.sample` draws with this seed, at temperature 1."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, sum(map(math.prod, model.latent_shapes)), generator=generator)
    if not model.config.classes:
        return noise, None
    return noise, torch.randint(model.config.classes, (count,), generator=generator)


def _decoded(
    model: ImageFlow, noise: Float[Tensor, "count D"], labels: Tensor | None, batch_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The images (N, C, H, W), and whether every value of each was finite."""
    images, finite = [], []
    for start in range(0, len(noise), batch_size):
        some = slice(start, start + batch_size)
        codes = unflatten(noise[some].to(model.device, model.dtype), model.latent_shapes)
        theirs = None if labels is None else labels[some].to(model.device)
        x = model.decode(codes, theirs)
        images.append(model.to_images(x).cpu())
        finite.append(x.isfinite().flatten(1).all(1).cpu())
    return torch.cat(images).numpy(), torch.cat(finite).numpy()


def _bits(
    model: ImageFlow,
    images: NDArray[np.uint8],
    labels: Tensor | None,
    settings: TemperatureSettings,
) -> NDArray[np.float64]:
    """Bits/dim (N,) of each image, the mean over draws; given its label for a model with classes.

    The noise depends on seed, draw and index alone: it is the same at each temperature.
    """
    bits = model.config.bits
    parts = []
    for start in range(0, len(images), settings.batch_size):
        some = np.arange(start, min(start + settings.batch_size, len(images)))
        theirs = None if labels is None else labels[some].to(model.device)
        drawn = []
        for draw in range(settings.draws):
            x = with_noise(torch.from_numpy(images[some]), bits or 8, (settings.seed, draw), some)
            drawn.append(model.log_prob(x.to(model.device, model.dtype), theirs).double().cpu())
        parts.append(torch.stack(drawn).mean(0))
    return bits_per_dim(torch.cat(parts), math.prod(model.config.image_shape), bits).numpy()


def _variance(images: NDArray[np.uint8]) -> float:
    return float(images.astype(np.float32).var(axis=0).mean())


def report(
    model: ImageFlow, splits: Splits, settings: TemperatureSettings, *, progress: bool = True
) -> Findings:
    """Measure (`study_temperature`), and report."""
    return findings(study_temperature(model, splits, settings, progress=progress))


def findings(study: TemperatureStudy) -> Findings:
    """The study in a line, as JSON, and as temperature.md, temperature.png and samples.png."""
    return Findings(
        sentence=sentence(study),
        facts={
            "model_identity": study.model,
            "source": study.source,
            "checksum": study.checksum,
            "samples": study.samples,
            "test_images": study.test_images,
            "draws": study.draws,
            "temperatures": [
                {"temperature": t, "gap": gap, **asdict(look)}
                for t, gap, look in zip(study.temperatures, study.gaps, study.looks, strict=True)
            ],
            "training_images": asdict(study.training),
            "test_bits_per_dim": None if study.test_bits is None else asdict(study.test_bits),
            "best_temperature": study.best,
        },
        files={
            "temperature.md": _markdown(study).encode(),
            "temperature.png": _plot(study),
            "samples.png": _samples(study),
        },
    )


def sentence(study: TemperatureStudy) -> str:
    """Which temperature is nearest to the data, and by what."""
    look = study.looks[study.temperatures.index(study.best)]
    return (
        f"T = {study.best:g} is nearest to the data in bits/dim, both distances and variance: "
        f"{_or_dash(look.bits)} bits/dim (test images {_or_dash(study.test_bits)}), a gap of "
        f"{min(study.gaps):.3f}."
    )


def _markdown(study: TemperatureStudy) -> str:
    lines = [
        [f"T = {t:g}" + (" ←" if t == study.best else ""), *_cells(look), f"{gap:.3f}"]
        for t, look, gap in zip(study.temperatures, study.looks, study.gaps, strict=True)
    ]
    lines.append(["training images", *_cells(study.training), "–"])
    lines.append(["test images", _or_dash(study.test_bits), "–", "–", "1.000", *["–"] * 3])
    figures = ["bits/dim", "to test", "from test", "variance", "saturated", "broken", "gap"]
    return (
        f"# Temperature\n\n{sentence(study)}\n\n"
        f"{study.source}, SHA-256 {study.checksum}. Model {study.model}.\n\n"
        f"{study.samples:,} samples at each temperature, all from the same noise, beside as many "
        f"training images and {study.test_images:,} test images; mean ± standard error. bits/dim: "
        f"of the images as bytes, {study.draws} dequantisation noise "
        f"draw{'s' if study.draws != 1 else ''} each. To test: from an image to the nearest test "
        "image, root mean square over values in bytes. From test: from a test image to the nearest "
        "image of the row. Variance: across images, mean over values, as a share of the test "
        "images'. Saturated: values that are the lowest or the highest. Broken: images with a "
        "value or a log p that is not finite, or wholly black. Gap: |a − b| / max(|a|, |b|) of a "
        "figure a of the samples and the same b of the data, the mean over bits/dim (b of test "
        "images), both distances and the variance (b of training images): 0 is like the data, and "
        "← is the smallest.\n\n"
        f"{markdown_table(['', *figures], lines)}"
    )


def _cells(look: Look) -> list[str]:
    return [
        _or_dash(look.bits),
        str(look.to_test),
        str(look.from_test),
        f"{look.variance:.3f}",
        f"{look.saturated:.2%}",
        f"{look.broken:.1%}",
    ]


def _or_dash(figure: Figure | None) -> str:
    return "–" if figure is None else str(figure)


def _plot(study: TemperatureStudy) -> bytes:
    """Every figure against the temperature; dashed: the data's."""
    figure = Plot(figsize=(9, 5.6), dpi=110, layout="constrained")
    (bits, distances), (variance, shares) = figure.subplots(2, 2, sharex=True)
    looks, own = study.looks, study.training
    nothing = Figure(math.nan, None)

    def draw(axes: Any, name: str, values: Sequence[float], reference: float, colour: str) -> None:
        axes.plot(study.temperatures, values, marker="o", ms=3, color=colour, label=name)
        axes.axhline(reference, color=colour, linestyle="--", linewidth=1)

    means = [(look.bits or nothing).mean for look in looks]
    draw(bits, "bits/dim", means, (study.test_bits or nothing).mean, COLOURS[0])
    bits.set_ylabel("bits/dim of samples")
    for name, colour in zip(("to_test", "from_test"), COLOURS, strict=True):
        label = {"to_test": "sample to test image", "from_test": "test image to sample"}[name]
        values = [getattr(look, name).mean for look in looks]
        draw(distances, label, values, getattr(own, name).mean, colour)
    distances.set_ylabel("distance to the nearest, bytes")
    draw(variance, "variance", [look.variance for look in looks], own.variance, COLOURS[0])
    variance.set_ylabel("variance, share of the data's")
    for name, colour in zip(("saturated", "broken"), COLOURS, strict=True):
        label = {"saturated": "saturated values", "broken": "broken samples"}[name]
        shown = [100 * getattr(look, name) for look in looks]
        draw(shares, label, shown, 100 * getattr(own, name), colour)
    shares.set_ylabel("%")
    for axes in (bits, distances, variance, shares):
        axes.axvline(study.best, color="#8a8a8a", linewidth=0.8)
        axes.grid(alpha=0.25)
    for axes in (distances, shares):
        axes.legend(frameon=False, fontsize=8)
    for axes in (variance, shares):
        axes.set_xlabel("temperature; dashed: the data")
    return plot_png(figure)


def _samples(study: TemperatureStudy) -> bytes:
    drawn = zip(study.temperatures, study.sheet, strict=True)
    labelled = [(f"T = {t:g}", images) for t, images in drawn]
    return png_bytes(rows([*labelled, ("test images", study.originals)]))
