"""Bounds on the bits per dimension of the bytes themselves.

A flow is a density; what codes and published figures are about is P(x) = ∫ p(x + u) du over the
bin of the bytes x. Uniform dequantisation bounds −log₂ P(x) from above, and importance weighting
makes the bound tighter (`likelihood.importance_weighted`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ...data.inputs import evenly, labels_of, with_noise
from ...data.types import ImageData, Splits
from ...errors import InputError
from ...evaluation.estimate import Estimate
from ...evaluation.evaluate import Evaluation, evaluate
from ...models.flow import ImageFlow
from ...models.likelihood import bits_per_dim, importance_weighted
from ...progress import with_bar


@dataclass(frozen=True)
class Bounds:
    """In bits per dimension, over the same images."""

    completeness: str
    """Of the published data set, as in `Splits`."""
    images: int
    test_images: int
    """How many there are."""
    draws: int
    noise: str
    """The model's dequantisation: uniform or variational."""
    uniform: Estimate
    """Without importance weighting: each image's mean over all draws."""
    weighted: dict[int, Estimate]
    """The importance-weighted bound of each K."""
    below: dict[int, Estimate]
    """By how much each of them is below `uniform`, image by image."""
    effective: Estimate
    """Effective draws (Σ_k w_k)² / Σ_k w_k² of all draws, w_k = p(x + u_k): where they are few,
    more draws still tighten the bound."""
    evaluation: Evaluation
    """The first draw beside baselines and published figures."""


@torch.no_grad()
def measure_bounds(
    model: ImageFlow,
    splits: Splits,
    *,
    limit: int | None,
    draws: int,
    batch_size: int = 50,
    seed: int = 0,
    progress: bool = True,
) -> Bounds:
    """Uniform and importance-weighted bounds, baselines and published figures of the same images.

    All bounds are of the same noise draws, which are those of `evaluate`. With classes the figures
    are of log p(x | label).

    Args:
        model: in eval mode, for images of bytes.
        splits: test images are scored, and baselines fitted on training images.
        limit: test images, at most, evenly spread; None for all.
        draws: of each image.
        batch_size: images at once.
        seed: of the noise.
        progress: show bars on stderr.

    Raises:
        InputError: the images do not fit the model, or a log p is not finite.
    """
    data = splits.test
    indices = evenly(len(data), limit)
    passes = _log_probs(model, data, indices, draws, batch_size, seed, progress)
    log_probs = torch.cat(list(passes), dim=1)
    if not log_probs.isfinite().all():
        raise InputError(
            "log p of a test image is not finite: train a model with --coupling-scale sigmoid or "
            "bounded."
        )
    dims, bits = math.prod(model.config.image_shape), model.config.bits
    counts = weightings(draws)
    uniform = bits_per_dim(log_probs.mean(0), dims, bits)
    weighted = bits_per_dim(importance_weighted(log_probs, counts), dims, bits)
    weights = torch.softmax(log_probs, dim=0)
    return Bounds(
        completeness=splits.completeness,
        images=len(indices),
        test_images=len(data),
        draws=draws,
        noise=getattr(model.config, "dequantization", "uniform"),
        uniform=Estimate.of(uniform.numpy()),
        weighted={k: Estimate.of(bound.numpy()) for k, bound in zip(counts, weighted, strict=True)},
        below={
            k: Estimate.of((uniform - bound).numpy())
            for k, bound in zip(counts, weighted, strict=True)
        },
        effective=Estimate.of((1 / weights.square().sum(0)).numpy()),
        evaluation=evaluate(
            model,
            data,
            train=splits.train,
            limit=limit,
            batch_size=batch_size,
            seed=seed,
            dataset=splits.dataset,
            progress=progress,
        ),
    )


def weightings(draws: int) -> tuple[int, ...]:
    """Each K that is reported: 1, 10, 100, … below `draws`, and `draws`."""
    return (*(10**i for i in range(len(str(draws))) if 10**i < draws), draws)


def _log_probs(
    model: ImageFlow,
    data: ImageData,
    indices: NDArray[np.int64],
    draws: int,
    batch_size: int,
    seed: int,
    progress: bool,
) -> Iterator[Float[Tensor, "draws batch"]]:
    """log p(x + u_k) of each batch of images, in nats, float64 on the CPU."""
    starts = range(0, len(indices), batch_size)
    passes = [(start, draw) for start in starts for draw in range(draws)]
    of_batch: list[Tensor] = []
    for start, draw in with_bar(passes, "drawing noise", visible=progress):
        some = indices[start : start + batch_size]
        images = torch.from_numpy(data.images[some])
        x = with_noise(images, model.config.bits or 8, (seed, draw), some)
        labels = labels_of(model, data, some)
        of_batch.append(model.log_prob(x.to(model.device, model.dtype), labels).double().cpu())
        if draw + 1 == draws:
            yield torch.stack(of_batch)
            of_batch.clear()
