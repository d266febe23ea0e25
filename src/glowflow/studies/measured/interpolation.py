"""Paths between images, measured: how probable are the images on the way?"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import get_args

import numpy as np
import torch
from matplotlib.figure import Figure as Plot
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ...checks import require_at_least
from ...data.inputs import require_shape
from ...data.types import ImageData, Splits
from ...errors import InputError
from ...evaluation.estimate import mean_and_error
from ...latents.edits import Curve, interpolate
from ...models.companions import identity
from ...models.flow import ImageFlow
from ...models.likelihood import bits_per_dim
from ...reports.pictures import png_bytes, rows
from ...reports.plots import plot_png
from .. import Figure, Findings, markdown_table

CROSS_FADE = "cross-fade"
"""(1 − t)·a + t·b of the pixels."""
PATHS = (*get_args(Curve), CROSS_FADE)
COLOURS = dict(zip(PATHS, ("#c2410c", "#2563a8", "#8a8a8a"), strict=True))
SHOWN = 3
"""Pairs in the strip."""


@dataclass(frozen=True, kw_only=True)
class InterpolationSettings:
    """What is measured, on how many images."""

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


@dataclass(frozen=True)
class InterpolationStudy:
    """All that was measured."""

    model: str
    """`identity` of the model."""
    source: str
    checksum: str
    pairs: int
    draws: int
    positions: tuple[float, ...]
    """t, from 0 to 1."""
    bits: Mapping[str, tuple[Figure, ...]]
    """Bits/dim of each path at each t, over pairs."""
    along: Mapping[str, Figure]
    """Mean over the images between the ends."""
    below: Mapping[str, Figure]
    """By how much a latent path is below the cross-fade, pair by pair, between the ends."""
    strips: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    """(pairs, steps, C, H, W) of the first pairs."""


@torch.no_grad()
def study_interpolation(
    model: ImageFlow, splits: Splits, settings: InterpolationSettings, *, progress: bool = True
) -> InterpolationStudy:
    """Bits/dim along latent paths and along the cross-fade between the same test images.

    Every image of every path is rounded to the model's bytes first and scored like any other image,
    and all images of a pair have the same noise: what differs is the path.

    Args:
        model: in eval mode, for images of bytes.
        splits: the pairs are from the test images.
        settings: how much of it.
        progress: show a bar on stderr.

    Raises:
        InputError: the images do not fit the model, the model is class-conditional, there are
            too few images for a pair, or a number is too small.
    """
    check(model, splits, settings)
    chosen = _pairs(len(splits.test), settings)
    positions = np.linspace(0, 1, settings.steps).tolist()
    scores: dict[str, list[NDArray[np.float64]]] = {path: [] for path in PATHS}
    strips: dict[str, NDArray[np.uint8]] = {}
    starts = range(0, len(chosen), settings.batch_size)
    for start in track(starts, "scoring", disable=not progress, console=Console(stderr=True)):
        some = chosen[start : start + settings.batch_size]
        for path, images in _paths(model, splits.test, some, positions):
            if not start:
                strips[path] = torch.stack(images, 1)[:SHOWN].numpy()
            along = [_score(model, image, settings, start) for image in images]
            scores[path].append(np.stack(along, axis=1))
    scored = {path: np.concatenate(parts) for path, parts in scores.items()}
    between = {path: values[:, 1:-1].mean(1) for path, values in scored.items()}
    return InterpolationStudy(
        model=identity(model),
        source=splits.source,
        checksum=splits.checksum,
        pairs=len(chosen),
        draws=settings.draws,
        positions=tuple(positions),
        bits={
            path: tuple(Figure(*mean_and_error(column)) for column in values.T)
            for path, values in scored.items()
        },
        along={path: Figure(*mean_and_error(values)) for path, values in between.items()},
        below={
            path: Figure(*mean_and_error(between[CROSS_FADE] - between[path]))
            for path in get_args(Curve)
        },
        strips=strips,
    )


def check(model: ImageFlow, splits: Splits, settings: InterpolationSettings) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: as `study_interpolation`.
    """
    require_at_least(settings, 1, "pairs", "draws", "batch_size")
    require_at_least(settings, 3, "steps")
    if model.config.bits is None:
        raise InputError("This model is for float data: a cross-fade of pixels is of images.")
    data = splits.test
    require_shape(model, data)
    if model.config.classes:
        raise InputError(
            "The model is class-conditional, and a path between two classes has none: give another "
            "--model."
        )
    if len(data) < 2:
        raise InputError("There is 1 test image: a pair needs 2.")


def _pairs(count: int, settings: InterpolationSettings) -> NDArray[np.int64]:
    """(pairs, 2): both images of a pair differ; an image is used again only when all are used."""
    random = np.random.default_rng(settings.seed)
    rounds = -(-settings.pairs // (count // 2))
    orders = [random.permutation(count)[: count // 2 * 2].reshape(-1, 2) for _ in range(rounds)]
    return np.concatenate(orders)[: settings.pairs]


def _paths(
    model: ImageFlow, data: ImageData, pairs: NDArray[np.int64], positions: list[float]
) -> Iterator[tuple[str, list[Tensor]]]:
    """Each path's images, uint8 (pairs, C, H, W) at each t on the CPU."""
    ends = [torch.tensor(data.images[pairs[:, side]]) for side in (0, 1)]
    a, b = (model.encode(model.to_float(end, noise="center").to(model.device)) for end in ends)
    for curve in get_args(Curve):
        codes = (interpolate(a, b, t, curve) for t in positions)
        yield curve, [model.to_images(model.decode(code)).cpu() for code in codes]
    first, second = (end.double() for end in ends)
    yield (
        CROSS_FADE,
        [((1 - t) * first + t * second).round().to(torch.uint8) for t in positions],
    )


def _score(
    model: ImageFlow, images: Tensor, settings: InterpolationSettings, first: int
) -> NDArray[np.float64]:
    """Bits/dim (pairs,), the mean over draws; the noise depends on seed, pair and draw alone."""
    dims = math.prod(model.config.image_shape)
    total = np.zeros(len(images))
    for draw in range(settings.draws):
        noisy = []
        for pair, image in enumerate(images, start=first):
            state = np.random.SeedSequence((settings.seed, pair, draw)).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(state[0]) % 2**63)
            noisy.append(model.to_float(image[None], generator=generator))
        log_prob = model.log_prob(torch.cat(noisy).to(model.device))
        total += bits_per_dim(log_prob, dims, model.config.bits).double().cpu().numpy()
    return total / settings.draws


def report(
    model: ImageFlow, splits: Splits, settings: InterpolationSettings, *, progress: bool = True
) -> Findings:
    """Measure (`study_interpolation`), and report."""
    return findings(study_interpolation(model, splits, settings, progress=progress))


def findings(study: InterpolationStudy) -> Findings:
    """The study in a line, as JSON, and as interpolation.md, interpolation.png and strip.png."""
    return Findings(
        sentence=sentence(study),
        facts={
            "model_identity": study.model,
            "source": study.source,
            "checksum": study.checksum,
            "pairs": study.pairs,
            "draws": study.draws,
            "t": list(study.positions),
            "bits_per_dim": {p: [asdict(f) for f in study.bits[p]] for p in PATHS},
            "between_the_ends": {p: asdict(study.along[p]) for p in PATHS},
            "below_the_cross_fade": {p: asdict(f) for p, f in study.below.items()},
        },
        files={
            "interpolation.md": _markdown(study).encode(),
            "interpolation.png": _plot(study),
            "strip.png": _strip(study),
        },
    )


def sentence(study: InterpolationStudy) -> str:
    """Each path's mean between the ends."""
    figures = ", ".join(f"{path} {study.along[path]}" for path in PATHS)
    return f"bits/dim between the ends, over {study.pairs} pairs: {figures}."


def _markdown(study: InterpolationStudy) -> str:
    lines = [
        [f"{t:.3g}", *(str(study.bits[path][i]) for path in PATHS)]
        for i, t in enumerate(study.positions)
    ]
    lines.append(["between the ends", *(str(study.along[path]) for path in PATHS)])
    lines.append(["below the cross-fade", *(str(f) for f in study.below.values()), "–"])
    return (
        f"# Interpolation\n\n{sentence(study)}\n\n"
        f"{study.source}, SHA-256 {study.checksum}. Model {study.model}.\n\n"
        f"Bits/dim of the images on the way between two test images, mean ± standard error over "
        f"{study.pairs} pairs. linear, spherical: between their latents; {CROSS_FADE}: of their "
        "pixels. Every image is rounded to bytes and scored as the mean of "
        f"{study.draws} dequantisation noise draws, the same ones for all images of a pair.\n\n"
        f"{markdown_table(['t', *PATHS], lines)}"
    )


def _plot(study: InterpolationStudy) -> bytes:
    figure = Plot(figsize=(6, 3.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for path in PATHS:
        means = np.array([f.mean for f in study.bits[path]])
        errors = np.array([f.standard_error or 0.0 for f in study.bits[path]])
        axes.plot(study.positions, means, marker="o", ms=3, color=COLOURS[path], label=path)
        axes.fill_between(
            study.positions,
            means - errors,
            means + errors,
            color=COLOURS[path],
            alpha=0.2,
            linewidth=0,
        )
    axes.set_xlabel("t")
    axes.set_ylabel("bits/dim")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return plot_png(figure)


def _strip(study: InterpolationStudy) -> bytes:
    pairs = range(len(study.strips[CROSS_FADE]))
    labelled = [(path, study.strips[path][pair]) for pair in pairs for path in PATHS]
    return png_bytes(rows(labelled, [f"{t:.3g}" for t in study.positions]))
