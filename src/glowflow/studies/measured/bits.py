"""Bits per dimension, with how far the figure is above what the model gives the bytes themselves.

A flow is a density; what codes and published figures are about is P(x) = ∫ p(x + u) du over the
bin of the bytes x. Uniform dequantisation bounds −log₂ P(x) from above, and importance weighting
makes the bound tighter (`likelihood.importance_weighted`).
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float
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
from ...evaluation.evaluate import Evaluation, evaluate
from ...evaluation.table import MODEL, ranked
from ...models.companions import identity
from ...models.flow import ImageFlow
from ...models.likelihood import bits_per_dim, importance_weighted
from ...reports.plots import plot_png
from .. import Figure, Findings, markdown_table

COLOUR = "#2563a8"


@dataclass(frozen=True, kw_only=True)
class BitsSettings:
    """What is measured, on how many images."""

    images: int | None = 100
    """Test images, at most, evenly spread; None for all. Each goes through the model `draws` times:
    with the defaults 10,000 passes of one image."""
    draws: int = 100
    """Dequantisation noise draws of each image. K is 1, 10, 100, … and this number."""
    batch_size: int = 50
    """Images that are scored at once."""
    seed: int = 0
    """Of the noise."""


@dataclass(frozen=True)
class BitsStudy:
    """All that was measured, in bits per dimension over the same images."""

    model: str
    """`identity` of the model."""
    source: str
    checksum: str
    completeness: str
    """Of the published data set, as in `Splits`."""
    images: int
    test_images: int
    """How many there are."""
    draws: int
    uniform: Figure
    """Uniform dequantisation: each image's mean over all draws."""
    bounds: dict[int, Figure]
    """The importance-weighted bound of each K."""
    below: dict[int, Figure]
    """By how much each of them is below `uniform`, image by image."""
    effective: Figure
    """Effective draws (Σ_k w_k)² / Σ_k w_k² of all draws, w_k = p(x + u_k): where they are few,
    more draws still tighten the bound."""
    evaluation: Evaluation
    """The first draw beside baselines and published figures."""


def weightings(draws: int) -> tuple[int, ...]:
    """Each K that is reported: 1, 10, 100, … below `draws`, and `draws`."""
    return (*(10**i for i in range(len(str(draws))) if 10**i < draws), draws)


@torch.no_grad()
def study_bits(
    model: ImageFlow, splits: Splits, settings: BitsSettings, *, progress: bool = True
) -> BitsStudy:
    """Uniform and importance-weighted bounds, baselines and published figures of the same images.

    All bounds are of the same noise draws, which are those of `evaluate`. With classes the figures
    are of log p(x | label).

    Args:
        model: in eval mode, for images of bytes.
        splits: test images are scored, and baselines fitted on training images.
        settings: how much of it.
        progress: show bars on stderr.

    Raises:
        InputError: the images do not fit the model, a number is too small, or a log p is not
            finite.
    """
    check(model, splits, settings)
    indices = evenly(len(splits.test), settings.images)
    log_probs = torch.cat(list(_log_probs(model, splits.test, indices, settings, progress)), dim=1)
    if not log_probs.isfinite().all():
        raise InputError(
            "log p of a test image is not finite: train a model with --coupling-scale sigmoid or "
            "bounded."
        )
    dims, bits = math.prod(model.config.image_shape), model.config.bits
    counts = weightings(settings.draws)
    uniform = bits_per_dim(log_probs.mean(0), dims, bits)
    weighted = bits_per_dim(importance_weighted(log_probs, counts), dims, bits)
    weights = torch.softmax(log_probs, dim=0)
    return BitsStudy(
        model=identity(model),
        source=splits.source,
        checksum=splits.checksum,
        completeness=splits.completeness,
        images=len(indices),
        test_images=len(splits.test),
        draws=settings.draws,
        uniform=_over_images(uniform),
        bounds={k: _over_images(bound) for k, bound in zip(counts, weighted, strict=True)},
        below={k: _over_images(uniform - bound) for k, bound in zip(counts, weighted, strict=True)},
        effective=_over_images(1 / weights.square().sum(0)),
        evaluation=evaluate(
            model,
            splits.test,
            train=splits.train,
            limit=settings.images,
            batch_size=settings.batch_size,
            seed=settings.seed,
            dataset=splits.dataset,
            progress=progress,
        ),
    )


def check(model: ImageFlow, splits: Splits, settings: BitsSettings) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: as `study_bits`.
    """
    require_at_least(settings, 1, "images", "draws", "batch_size")
    if model.config.bits is None:
        raise InputError("This model is for float data: only bytes have bits per dimension.")
    require_fit(model, splits.test)


def _log_probs(
    model: ImageFlow,
    data: ImageData,
    indices: NDArray[np.int64],
    settings: BitsSettings,
    progress: bool,
) -> Iterator[Float[Tensor, "draws batch"]]:
    """log p(x + u_k) of each batch of images, in nats, float64 on the CPU."""
    starts = range(0, len(indices), settings.batch_size)
    passes = [(start, draw) for start in starts for draw in range(settings.draws)]
    drawn: list[Tensor] = []
    for start, draw in track(
        passes, "drawing noise", disable=not progress, console=Console(stderr=True)
    ):
        some = indices[start : start + settings.batch_size]
        images = torch.from_numpy(data.images[some])
        x = with_noise(images, model.config.bits or 8, (settings.seed, draw), some)
        labels = labels_of(model, data, some)
        drawn.append(model.log_prob(x.to(model.device, model.dtype), labels).double().cpu())
        if draw + 1 == settings.draws:
            yield torch.stack(drawn)
            drawn.clear()


def _over_images(values: Float[Tensor, " batch"]) -> Figure:
    return Figure(*mean_and_error(values.numpy()))


def report(
    model: ImageFlow, splits: Splits, settings: BitsSettings, *, progress: bool = True
) -> Findings:
    """Measure (`study_bits`), and report."""
    return findings(study_bits(model, splits, settings, progress=progress))


def findings(study: BitsStudy) -> Findings:
    """The study in a line, as JSON, and as bits.md and bits.png."""
    return Findings(
        sentence=sentence(study),
        facts={
            "model_identity": study.model,
            "source": study.source,
            "checksum": study.checksum,
            "completeness": study.completeness,
            "images": study.images,
            "test_images": study.test_images,
            "draws": study.draws,
            "uniform": asdict(study.uniform),
            "importance_weighted": {str(k): asdict(f) for k, f in study.bounds.items()},
            "below_uniform": {str(k): asdict(f) for k, f in study.below.items()},
            "effective_draws": asdict(study.effective),
            "evaluation": study.evaluation.to_dict(),
        },
        files={"bits.md": _markdown(study).encode(), "bits.png": _plot(study)},
    )


def sentence(study: BitsStudy) -> str:
    """The uniform bound and the tightest one, and on what."""
    published = ", ".join(f"{b.name} {b.mean:.2f}" for b in study.evaluation.published)
    return (
        f"{study.uniform} bits/dim by uniform dequantisation, {study.bounds[study.draws]} by "
        f"importance weighting with K = {study.draws}: upper bounds, on {study.images:,} of "
        f"{study.test_images:,} test images" + (f"; {published}." if published else ".")
    )


def _markdown(study: BitsStudy) -> str:
    bits, dataset = study.evaluation.bits, study.evaluation.dataset
    version = f"{dataset}, {study.completeness}" if study.completeness else dataset
    named = f"The published data set {version}. " if dataset else ""
    lines = [[f"uniform, mean of {study.draws} draws", str(study.uniform), "–"]]
    lines += [
        [f"importance-weighted, K = {k}" + (" (uniform, 1 draw)" if k == 1 else ""),
         str(study.bounds[k]), _small(study.below[k])]
        for k in study.bounds
    ]  # fmt: skip
    beside = [
        [f"{b.name} ({b.note})", "–" if b.mean is None else str(Figure(b.mean, b.standard_error))]
        for b in ranked(study.evaluation)
    ]
    given = ""
    if study.evaluation.bayes_accuracy is not None:
        given = " The model is class-conditional: all of them are given the image's label."
    return (
        f"# Bits per dimension\n\n{sentence(study)}\n\n"
        f"{study.source}, SHA-256 {study.checksum}. {named}{bits} bits. Model {study.model}.\n\n"
        "## Bounds\n\n"
        f"Mean ± standard error over {study.images:,} test images, all rows with the same "
        "noise draws. In expectation over the noise every row is an upper bound on −log₂ P(x) / D, "
        "the bits per dimension of the bytes x themselves, and the importance-weighted bound "
        "−(1/D) log₂ (1/K) Σ p(x + u_k) 2^(−nD) falls as K grows. Below uniform: the difference "
        "image by image, free of the spread between images. "
        f"Of {study.draws} draws, {study.effective.mean:.1f} count on average ((Σw)² / Σw²): where "
        f"they are few, a larger K would be lower still.{given}\n\n"
        f"{markdown_table(['bound', 'bits/dim', 'below uniform'], lines)}\n"
        "## Beside other figures\n\n"
        f"The same {study.images:,} images, the first noise draw alone; published figures are of "
        "the whole test part, and shown only for the same data set, release and bits.\n\n"
        f"{markdown_table(['', 'bits/dim'], beside)}"
    )


def _small(figure: Figure) -> str:
    """A difference, with a digit more than a figure has."""
    error = "" if figure.standard_error is None else f" ± {figure.standard_error:.4f}"
    return f"{figure.mean:.4f}{error}"


def _plot(study: BitsStudy) -> bytes:
    """Left: the bounds against K; right: the model among baselines and published figures."""
    figure = Plot(figsize=(9, 3.4), dpi=110, layout="constrained")
    bounds, beside = figure.subplots(1, 2)
    counts = list(study.below)
    errors = [study.below[k].standard_error or 0.0 for k in counts]
    bounds.errorbar(
        counts,
        [study.uniform.mean - study.below[k].mean for k in counts],
        yerr=errors,
        marker="o",
        markersize=4,
        capsize=3,
        color=COLOUR,
        label="importance-weighted, K draws",
    )
    bounds.axhline(
        study.uniform.mean,
        color="#8a8a8a",
        linestyle="--",
        linewidth=1,
        label=f"uniform, mean of {study.draws} draws",
    )
    bounds.set_xscale("log")
    bounds.set_xlabel("K")
    bounds.set_ylabel("bits/dim, an upper bound")
    bounds.set_title("bars: standard error of the difference", fontsize=9)
    bounds.grid(alpha=0.25)
    bounds.legend(frameon=False, fontsize=8)
    shown = [b for b in reversed(ranked(study.evaluation)) if b.mean is not None]
    bars = beside.barh(
        [b.name for b in shown],
        [b.mean for b in shown],
        color=["#c2410c" if b.name == MODEL else "#8fb3d9" for b in shown],
    )
    beside.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    beside.set_xlabel("bits/dim")
    beside.margins(x=0.15)
    beside.tick_params(labelsize=8)
    return plot_png(figure)
