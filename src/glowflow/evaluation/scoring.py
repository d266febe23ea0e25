"""How strange an image is to a model: its likelihood, and what corrects it (anomaly detection).

Likelihood alone is not an anomaly score: simple images are likely under models of other images.
Typicality (Nalisnick et al. 2019) asks how far log p is from what it usually is, to either side;
complexity (Serrà et al. 2020) takes off what a codec that knows no images needs. Both are
calibrated on images of the data to p-values.
"""

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..data.inputs import evenly, require_kind, require_shape, with_noise
from ..data.types import ImageData
from ..errors import InputError
from ..files import replacing
from ..latents.latent import identity
from ..models.flow import ImageFlow
from ..models.likelihood import bits_per_dim
from .baselines import png, webp

Score = Literal["log_prob", "typicality", "complexity"]

FORMAT = "1"
LEAST = float(torch.finfo(torch.float32).min)
"""log p, in nats, of a level that overflows: far from the data, for example on noise, 1/σ of a
split prior can exceed every float32."""
RESAMPLES = 1000
"""Batches that are drawn from the calibration images to compare a batch with."""


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


@dataclass(frozen=True)
class Calibration:
    """Scores of images that are not strange, to which others are compared."""

    log_prob: NDArray[np.float64]
    """(n,) in nats."""
    complexity: NDArray[np.float64] | None
    """(n,) in bits."""
    draws: int
    """Noise draws of each image."""
    model: str
    """`identity` of the model."""
    source: str = ""
    """The images, in words."""

    def __len__(self) -> int:
        return len(self.log_prob)


@dataclass(frozen=True)
class Comparison:
    """Scores of N images beside those of the calibration images; a small p-value is strange."""

    typicality: NDArray[np.float64]
    """(N,) |log p(x) − m| in nats, m the mean over the calibration images."""
    p_log_prob: NDArray[np.float64]
    """(N,) one-sided: an unlikely image is strange, a likely one never."""
    p_typicality: NDArray[np.float64]
    """(N,) both sides: a likely image is as strange as an unlikely one."""
    p_complexity: NDArray[np.float64] | None
    """(N,) one-sided."""


@dataclass(frozen=True)
class Batches:
    """Typicality of batches of successive images."""

    size: int
    """Images of each; the last batch may have fewer."""
    typicality: NDArray[np.float64]
    """(B,) |mean of log p over the batch − m| in nats."""
    p_value: NDArray[np.float64]
    """(B,)."""


def code_lengths(images: NDArray[Any], bits: int | None = 8) -> NDArray[np.float64] | None:
    """L(x): bits of the shortest lossless file of each image by itself, PNG or WebP, headers too.

    Args:
        images: uint8 (N, C, H, W).
        bits: bits per value; below 8 the quantised image is compressed.

    Returns:
        (N,), or None for float data and for images that no codec takes.
    """

    def shortest(image: NDArray[np.uint8]) -> float:
        found = (codec(image[None], bits).mean for codec in (png, webp))
        return min((mean * image.size for mean in found if mean is not None), default=math.nan)

    with ThreadPoolExecutor() as pool:  # the codecs release the interpreter lock
        lengths = np.array(list(pool.map(shortest, images)))
    return None if np.isnan(lengths).any() else lengths


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
    bits = model.config.bits
    require_kind(model, data)
    require_shape(model, data)
    if not len(data):
        raise InputError("There are no images to score: give at least one.")
    indices = evenly(len(data), limit)
    levels, lengths = [], []
    starts = range(0, len(indices), batch_size)
    for start in track(starts, title, disable=not progress, console=Console(stderr=True)):
        some = indices[start : start + batch_size]
        images = np.array(data.images[some])
        parts = []
        for draw in range(draws if bits is not None else 1):
            x = torch.from_numpy(images)
            x = x if bits is None else with_noise(x, bits, (seed, draw), some)
            found = model.log_prob_by_level(x.to(model.device, model.dtype)).double().cpu()
            parts.append(torch.nan_to_num(found, nan=LEAST, posinf=LEAST, neginf=LEAST))
        levels.append(torch.stack(parts).mean(0))
        lengths.append(code_lengths(images, bits))
    by_level = torch.cat(levels)
    log_prob = by_level.sum(1)
    dims = math.prod(model.config.image_shape)
    figures = bits_per_dim(log_prob, dims, bits).numpy()
    known = [length for length in lengths if length is not None]
    return Scores(
        indices=indices,
        log_prob=log_prob.numpy(),
        by_level=by_level.numpy(),
        bits_per_dim=figures,
        complexity=dims * figures - np.concatenate(known) if known else None,
    )


def calibrate(
    model: ImageFlow,
    data: ImageData,
    *,
    draws: int = 1,
    limit: int | None = None,
    batch_size: int = 50,
    seed: int = 0,
    source: str = "",
    progress: bool = True,
) -> Calibration:
    """Score images that are not strange, so that others can be compared with them.

    Give images that the model was not trained on, such as the validation images: a model knows
    its training images, and new ones of the same kind look stranger beside them than they are
    (`glow study anomaly` measures both).

    Args as `score`; `source` is what the images are, in words.

    Raises:
        InputError: as `score`, or log p of an image overflows.
    """
    found = score(
        model,
        data,
        draws=draws,
        limit=limit,
        batch_size=batch_size,
        seed=seed,
        title="calibrating",
        progress=progress,
    )
    if (overflowed := int((found.log_prob < LEAST / (2 * draws)).sum())) > 0:
        raise InputError(
            f"log p of {overflowed} of {len(found)} calibration images is not finite: give images "
            "like those the model was trained on, or another model."
        )
    return Calibration(found.log_prob, found.complexity, draws, identity(model), source)


def p_values(
    scores: NDArray[np.float64], reference: NDArray[np.float64]
) -> Float[NDArray[np.float64], " N"]:
    """p = (1 + #{r ≥ s}) / (n + 1) of each score s among n reference scores r; large is strange.

    If s and all r are exchangeable, P(p ≤ a) ≤ a for every a, with equality at multiples of
    1/(n + 1) where there are no ties.
    """
    below = np.searchsorted(np.sort(reference), scores, side="left")
    values: NDArray[np.float64] = (1 + len(reference) - below) / (len(reference) + 1)
    return values


def typicality(
    log_prob: NDArray[np.float64], calibration: Calibration
) -> Float[NDArray[np.float64], " N"]:
    """|log p − m| in nats, with m the mean log p of the calibration images."""
    distance: NDArray[np.float64] = np.abs(log_prob - calibration.log_prob.mean())
    return distance


def compare(scores: Scores, calibration: Calibration) -> Comparison:
    """Typicality, and p-values of log p, typicality and complexity."""
    own = typicality(scores.log_prob, calibration)
    p_complexity = None
    if scores.complexity is not None and calibration.complexity is not None:
        p_complexity = p_values(scores.complexity, calibration.complexity)
    return Comparison(
        typicality=own,
        p_log_prob=p_values(-scores.log_prob, -calibration.log_prob),
        p_typicality=p_values(own, typicality(calibration.log_prob, calibration)),
        p_complexity=p_complexity,
    )


def batch_typicality(
    scores: Scores, calibration: Calibration, size: int, *, seed: int = 0
) -> Batches:
    """Typicality of each `size` successive images: |mean of log p − m|.

    The p-value is among `RESAMPLES` batches of the same size, drawn with replacement from the
    calibration images.

    Source: Nalisnick et al. 2019, "Detecting out-of-distribution inputs to deep generative models
    using typicality", algorithm 1.

    Raises:
        InputError: size is below 1.
    """
    if size < 1:
        raise InputError(f"The size of a batch is {size}: give at least 1.")
    random = np.random.default_rng(seed)
    distances: list[NDArray[np.float64]] = []
    values: list[NDArray[np.float64]] = []
    for count in _batch_sizes(len(scores), size):
        start = len(distances) * size
        some = scores.log_prob[start : start + count]
        drawn = random.choice(calibration.log_prob, (RESAMPLES, count)).mean(1)
        own = typicality(some.mean(keepdims=True), calibration)
        distances.append(own)
        values.append(p_values(own, typicality(drawn, calibration)))
    return Batches(size, np.concatenate(distances), np.concatenate(values))


def _batch_sizes(count: int, size: int) -> list[int]:
    whole, rest = divmod(count, size)
    return [size] * whole + [rest] * (rest > 0)


def strangeness(scores: Scores, comparison: Comparison, by: Score) -> NDArray[np.float64]:
    """One score (N,), so that large is strange: −log p, typicality or complexity.

    Raises:
        InputError: there is no complexity.
    """
    if by == "log_prob":
        return -scores.log_prob
    if by == "typicality":
        return comparison.typicality
    if scores.complexity is None:
        raise InputError(
            "No codec takes these images, so there is no complexity: choose typicality or log_prob."
        )
    return scores.complexity


def columns(
    scores: Scores, comparison: Comparison, batches: Batches | None = None
) -> dict[str, NDArray[Any]]:
    """Every score and p-value by name, (N,) each: the columns of scores.csv."""
    found: dict[str, NDArray[Any]] = {
        "log_prob": scores.log_prob,
        "bits_per_dim": scores.bits_per_dim,
        "typicality": comparison.typicality,
    }
    if scores.complexity is not None:
        found["complexity"] = scores.complexity
    for level, part in enumerate(scores.by_level.T, 1):
        found[f"log_prob_level_{level}"] = part
    found["p_log_prob"] = comparison.p_log_prob
    found["p_typicality"] = comparison.p_typicality
    if comparison.p_complexity is not None:
        found["p_complexity"] = comparison.p_complexity
    if batches is not None:
        batch = np.arange(len(scores)) // batches.size
        found["batch"] = batch
        found["batch_typicality"] = batches.typicality[batch]
        found["p_batch_typicality"] = batches.p_value[batch]
    return found


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as safetensors.

    Raises:
        InputError: the folder cannot be written.
    """
    arrays = {"log_prob": calibration.log_prob}
    if calibration.complexity is not None:
        arrays["complexity"] = calibration.complexity
    metadata = {
        "kind": "glowflow calibration",
        "format": FORMAT,
        "model": calibration.model,
        "draws": json.dumps(calibration.draws),
        "source": calibration.source,
    }
    with replacing(path) as temporary:
        save_file(
            {name: np.ascontiguousarray(a) for name, a in arrays.items()}, temporary, metadata
        )


def load_calibration(path: Path, model: ImageFlow) -> Calibration:
    """Read a calibration of this model.

    Raises:
        InputError: there is no such file, it is damaged or another kind of file, or it is another
            model's.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}: leave --calibration out, glow score makes one.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != "glowflow calibration" or metadata.get("format") != FORMAT:
                raise InputError(
                    f"{path} does not hold a calibration of format {FORMAT}: make it with glow "
                    "score."
                )
            if metadata["model"] != identity(model):
                raise InputError(
                    f"The calibration in {path} is of another model: make one for this model with "
                    "glow score."
                )
            names = file.keys()
            found = Calibration(
                log_prob=file.get_tensor("log_prob"),
                complexity=file.get_tensor("complexity") if "complexity" in names else None,
                draws=int(metadata["draws"]),
                model=metadata["model"],
                source=metadata["source"],
            )
        _require_usable([a for a in (found.log_prob, found.complexity) if a is not None])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"Cannot read {path}: it is damaged or not safetensors ({error}); "
            "make it again with glow score."
        ) from error
    return found


def _require_usable(arrays: Sequence[NDArray[Any]]) -> None:
    for array in arrays:
        if array.dtype != np.float64 or array.shape != (len(arrays[0]),) or not len(array):
            raise ValueError(f"scores are {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError("a score is not finite")
