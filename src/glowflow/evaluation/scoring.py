"""How strange an image is to a model: its likelihood, and what corrects it (anomaly detection).

Likelihood alone is not an anomaly score: simple images are likely under models of other images.
Typicality (Nalisnick et al. 2019) asks how far log p is from what it usually is, to either side;
complexity (Serrà et al. 2020) takes off what a codec that knows no images needs. Both are
calibrated on images of the data to p-values.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..data.inputs import evenly, require_kind, require_shape
from ..data.types import ImageData
from ..errors import InputError
from ..models.flow import ImageFlow
from ..models.likelihood import bits_per_dim
from ..progress import in_batches
from .codecs import code_lengths
from .noise import noise_draws

LEAST = float(torch.finfo(torch.float32).min)
"""log p, in nats, of a level that overflows: far from the data, for example on noise, 1/σ of a
split prior can exceed every float32."""


@dataclass(frozen=True)
class Scores:
    """Scores of N images under one model, without comparison to others."""

    indices: NDArray[np.int64]
    """(N,) which images of the data these are."""
    log_prob: NDArray[np.float64]
    """(N,) log p(x) in nats, the mean over noise draws."""
    by_level: NDArray[np.float64]
    """(N, levels) each level's part of log p(x), as `ImageFlow.log_prob_by_level`, in nats."""
    bits_per_dim: NDArray[np.float64]
    """(N,)."""
    complexity: NDArray[np.float64] | None
    """(N,) S(x) = −log₂ P(x) − L(x) in bits, with L as in `code_lengths`: how much worse the model
    codes the image than a codec does; large is strange. None for data that no codec takes."""

    def __len__(self) -> int:
        return len(self.log_prob)


@torch.no_grad()
def score(
    model: ImageFlow,
    data: ImageData,
    *,
    draws: int = 1,
    limit: int | None = None,
    batch_size: int = 50,
    seed: int = 0,
    title: str = "scoring",
    progress: bool = True,
) -> Scores:
    """log p, its parts by level, bits/dim and complexity of each image.

    Figures are means over `draws` dequantisation noise draws. The noise of an image depends on the
    seed, the draw and its index alone, as in `evaluate`. Labels are not looked at: see
    `ImageFlow.log_prob_by_level`. A level that float32 cannot hold has `LEAST`.

    Args:
        model: in eval mode.
        data: images to score.
        draws: noise draws per image.
        limit: score so many images at most, evenly spread.
        batch_size: images at once; does not change the scores beyond float rounding.
        seed: of the noise.
        title: of the bar.
        progress: show it, on stderr.

    Raises:
        InputError: the images do not fit the model, or a number is below 1.
    """
    for name, value in (("draws", draws), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"{name} is {value}: give at least 1.")
    require_kind(model, data)
    require_shape(model, data)
    if not len(data):
        raise InputError("There are no images to score: give at least one.")
    indices = evenly(len(data), limit)
    levels, lengths = [], []
    with model.frozen():
        for some in in_batches(indices, batch_size, title, visible=progress):
            images = np.array(data.images[some])
            levels.append(_log_prob_by_level(model, images, some, draws, seed))
            lengths.append(code_lengths(images, model.config.bits))
    by_level = torch.cat(levels)
    log_prob = by_level.sum(1)
    dims = math.prod(model.config.image_shape)
    figures = bits_per_dim(log_prob, dims, model.config.bits).numpy()
    known = [length for length in lengths if length is not None]
    return Scores(
        indices=indices,
        log_prob=log_prob.numpy(),
        by_level=by_level.numpy(),
        bits_per_dim=figures,
        complexity=dims * figures - np.concatenate(known) if known else None,
    )


def _log_prob_by_level(
    model: ImageFlow, images: NDArray[Any], indices: NDArray[np.int64], draws: int, seed: int
) -> Float[Tensor, "batch levels"]:
    """The mean over noise draws, float64 on the CPU; `LEAST` for what float32 cannot hold."""
    parts = [
        model.log_prob_by_level(x).double().cpu()
        for x in noise_draws(model, torch.from_numpy(images), indices, draws=draws, seed=seed)
    ]
    return torch.stack(parts).nan_to_num(nan=LEAST, posinf=LEAST, neginf=LEAST).mean(0)
