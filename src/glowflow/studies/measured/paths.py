"""Bits per dimension along paths between images."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.types import ImageData
from ...evaluation.estimate import Estimate
from ...latents.choices import Curve
from ...latents.edits import interpolate
from ...models.flow import ImageFlow
from ...models.likelihood import bits_per_dim
from ...progress import with_bar

CROSS_FADE = "cross-fade"
"""(1 − t)·a + t·b of the pixels."""
PATHS = (*get_args(Curve), CROSS_FADE)
SHOWN = 3
"""Pairs in the strip."""


@dataclass(frozen=True)
class Paths:
    """Of several pairs of images."""

    pairs: int
    draws: int
    positions: tuple[float, ...]
    """t, from 0 to 1."""
    bits: Mapping[str, tuple[Estimate, ...]]
    """Bits/dim of each path at each t, over pairs."""
    along: Mapping[str, Estimate]
    """Mean over the images between the ends."""
    below: Mapping[str, Estimate]
    """By how much a latent path is below the cross-fade, pair by pair, between the ends."""
    strips: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    """(pairs, steps, C, H, W) of the first pairs."""


@torch.no_grad()
def measure_paths(
    model: ImageFlow,
    data: ImageData,
    *,
    pairs: int,
    steps: int,
    draws: int,
    batch_size: int = 50,
    seed: int = 0,
    progress: bool = True,
) -> Paths:
    """Bits/dim along latent paths and along the cross-fade between the same images.

    Every image of every path is rounded to the model's bytes first and scored like any other image,
    and all images of a pair have the same noise: what differs is the path.

    Args:
        model: in eval mode, for images of bytes, without classes.
        data: the pairs are from these images.
        pairs: of different images.
        steps: images of a path, both ends among them.
        draws: dequantisation noise draws of each image.
        batch_size: pairs at once.
        seed: of the pairs and of the noise.
        progress: show a bar on stderr.
    """
    chosen = _pairs(len(data), pairs, seed)
    positions = np.linspace(0, 1, steps).tolist()
    scores: dict[str, list[NDArray[np.float64]]] = {path: [] for path in PATHS}
    strips: dict[str, NDArray[np.uint8]] = {}
    for start in with_bar(range(0, len(chosen), batch_size), "scoring", visible=progress):
        some = chosen[start : start + batch_size]
        for path, images in _paths(model, data, some, positions):
            if not start:
                strips[path] = torch.stack(images, 1)[:SHOWN].numpy()
            along = [_score(model, image, draws, seed, start) for image in images]
            scores[path].append(np.stack(along, axis=1))
    scored = {path: np.concatenate(parts) for path, parts in scores.items()}
    between = {path: values[:, 1:-1].mean(1) for path, values in scored.items()}
    return Paths(
        pairs=len(chosen),
        draws=draws,
        positions=tuple(positions),
        bits={p: tuple(map(Estimate.of, values.T)) for p, values in scored.items()},
        along={path: Estimate.of(values) for path, values in between.items()},
        below={p: Estimate.of(between[CROSS_FADE] - between[p]) for p in get_args(Curve)},
        strips=strips,
    )


def _pairs(count: int, pairs: int, seed: int) -> NDArray[np.int64]:
    """(pairs, 2): both images of a pair differ; an image is used again only when all are used."""
    random = np.random.default_rng(seed)
    rounds = -(-pairs // (count // 2))
    orders = [random.permutation(count)[: count // 2 * 2].reshape(-1, 2) for _ in range(rounds)]
    return np.concatenate(orders)[:pairs]


def _paths(
    model: ImageFlow, data: ImageData, pairs: NDArray[np.int64], positions: list[float]
) -> Iterator[tuple[str, list[Tensor]]]:
    """Each path's images, uint8 (pairs, C, H, W) at each t on the CPU."""
    ends = [torch.tensor(data.images[pairs[:, side]]) for side in (0, 1)]
    a, b = (model.encode(model.to_float(end, noise="center").to(model.device)) for end in ends)
    for curve in get_args(Curve):
        codes = (interpolate(a, b, t, curve) for t in positions)
        yield curve, [model.to_images(model.decode(code)).cpu() for code in codes]
    one, other = (end.double() for end in ends)
    faded = (((1 - t) * one + t * other).round().to(torch.uint8) for t in positions)
    yield CROSS_FADE, list(faded)


def _score(
    model: ImageFlow, images: Tensor, draws: int, seed: int, start: int
) -> NDArray[np.float64]:
    """Bits/dim (pairs,), the mean over draws; the noise depends on seed, pair and draw alone."""
    dims = math.prod(model.config.image_shape)
    total = np.zeros(len(images))
    for draw in range(draws):
        noisy = []
        for pair, image in enumerate(images, start=start):
            state = np.random.SeedSequence((seed, pair, draw)).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(state[0]) % 2**63)
            noisy.append(model.to_float(image[None], generator=generator))
        log_prob = model.log_prob(torch.cat(noisy).to(model.device))
        total += bits_per_dim(log_prob, dims, model.config.bits).double().cpu().numpy()
    return total / draws
