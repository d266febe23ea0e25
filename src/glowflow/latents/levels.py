"""What the latents of each level look like: principal axes, and what can be read off linearly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..data.inputs import evenly
from ..data.types import ImageData, Splits
from ..errors import InputError
from ..models.flow import ImageFlow, Latents
from .codes import encoded, unflatten
from .statistics import RunningPCA, WeightedSums, discriminant

MOST_CLASSES = 40
"""Classes that are taken for attributes, where there are none."""


@dataclass(frozen=True)
class LevelAxes:
    """The principal axes of one level's ε."""

    shape: tuple[int, int, int]
    mean: Float[Tensor, " D"]
    axes: Float[Tensor, "k D"]
    variances: Float[Tensor, " k"]
    """Of ε along each axis; 1 on average where the model fits."""
    shares: Float[Tensor, " k"]
    """Explained variance, as a share of the level's."""


@dataclass(frozen=True)
class Readout:
    """How well an attribute can be read linearly off the latents of images not fitted to."""

    name: str
    majority: float
    """Share of the held-out images that are on the larger side."""
    accuracy: tuple[float, ...]
    """Of each level, first level first, then of all levels together."""


@dataclass(frozen=True)
class LatentPCA:
    """The axes of every level and the held-out images on them."""

    levels: tuple[LevelAxes, ...]
    readouts: tuple[Readout, ...]
    refused: tuple[str, ...]
    """Attributes with too few images on a side."""
    fitted: int
    """Training images that the axes and the readouts are fitted to."""
    chosen_on: int
    """Validation images that the readouts' thresholds are chosen on."""
    coordinates: tuple[NDArray[np.float64], ...]
    """(M, k) of each level: held-out images along its axes."""
    data: ImageData
    """The held-out images, with their attributes."""
    indices: NDArray[np.int64]
    """(M,) which of them."""


def latent_pca(
    model: ImageFlow,
    splits: Splits,
    *,
    components: int = 16,
    limit: int | None = None,
    minimum: int = 10,
    batch_size: int = 50,
    progress: bool = True,
) -> LatentPCA:
    """Principal axes of each level's ε, and linear readouts of the attributes from each level.

    Axes and normals are fitted to training images in one pass (`RunningPCA`, `discriminant`); the
    threshold of a readout is the one with the fewest errors on validation images, and its accuracy
    that on test images. All levels together: the sum of the levels' scores.

    Args:
        model: in eval mode.
        splits: images; classes stand in for attributes where there are none.
        components: axes of each level.
        limit: use so many images of each part at most, evenly spread.
        minimum: training images that each side of an attribute needs.
        batch_size: images at once.
        progress: show a bar on stderr.

    Raises:
        InputError: the images do not fit the model, or components or limit is below 1.
    """
    train, valid, test = map(_with_classes, (splits.train, splits.valid, splits.test))
    indices = evenly(len(train), limit)
    sizes = [int(np.prod(shape)) for shape in model.latent_shapes]
    truth = _attributes(train, indices)
    positive = truth.sum(0)
    enough = np.minimum(positive, len(indices) - positive) >= minimum
    usable = np.flatnonzero(enough).tolist()
    centred = torch.from_numpy(truth[:, usable] - truth[:, usable].mean(0))
    pcas = [RunningPCA(components) for _ in sizes]
    sums = [WeightedSums(len(usable), size) for size in sizes]
    seen = 0
    for some, rows in encoded(
        model, train, indices, batch_size=batch_size, title="fitting", progress=progress
    ):
        weights = centred[seen : seen + len(some)]
        seen += len(some)
        for pca, total, part in zip(pcas, sums, torch.split(rows, sizes, dim=1), strict=True):
            pca.update(part)
            total.update(weights, part)
    if len(indices) < 2:
        raise InputError(f"There is {len(indices)} training image: give at least 2.")
    scale = centred.square().sum(0).clamp_min(1e-12)[:, None]
    normals = [discriminant(s.sums / scale, pca) for s, pca in zip(sums, pcas, strict=True)]
    levels = tuple(
        LevelAxes(shape, pca.mean, pca.components, pca.variances, pca.shares)
        for shape, pca in zip(model.latent_shapes, pcas, strict=True)
    )

    def project(
        data: ImageData, title: str
    ) -> tuple[NDArray[np.int64], list[NDArray[np.float64]], NDArray[np.float64]]:
        """Indices, coordinates (M, k) by level, and scores (levels + 1, M, A)."""
        chosen = evenly(len(data), limit)
        coordinates: list[list[Tensor]] = [[] for _ in sizes]
        scores: list[Tensor] = []
        for _, rows in encoded(
            model, data, chosen, batch_size=batch_size, title=title, progress=progress
        ):
            parts = torch.split(rows, sizes, dim=1)
            for found, part, level in zip(coordinates, parts, levels, strict=True):
                found.append((part - level.mean) @ level.axes.T)
            by_level = [part @ w.T for part, w in zip(parts, normals, strict=True)]
            scores.append(torch.stack([*by_level, torch.stack(by_level).sum(0)]))
        joined = [torch.cat(found).numpy() for found in coordinates]
        return chosen, joined, torch.cat(scores, dim=1).numpy()

    chosen_valid, _, valid_scores = project(valid, "choosing thresholds")
    chosen, coordinates, scores = project(test, "held-out images")
    valid_truth, held_out = _attributes(valid, chosen_valid), _attributes(test, chosen)
    readouts = tuple(
        Readout(
            train.attribute_names[a],
            float(max(held_out[:, a].mean(), 1 - held_out[:, a].mean())),
            tuple(
                float(
                    (
                        (s[:, i] > best_threshold(v[:, i], valid_truth[:, a])) == held_out[:, a]
                    ).mean()
                )
                for s, v in zip(scores, valid_scores, strict=True)
            ),
        )
        for i, a in enumerate(usable)
    )
    return LatentPCA(
        levels=levels,
        readouts=readouts,
        refused=tuple(
            n for n, there in zip(train.attribute_names, enough, strict=True) if not there
        ),
        fitted=len(indices),
        chosen_on=len(chosen_valid),
        coordinates=tuple(coordinates),
        data=test,
        indices=chosen,
    )


def best_threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The threshold above which to say yes with the fewest errors, in the middle of a gap."""
    order = np.argsort(scores, kind="stable")
    sorted_scores, sorted_truth = scores[order], truth[order]
    missed = np.concatenate([[0], np.cumsum(sorted_truth)])
    wrongly = np.concatenate([np.cumsum(~sorted_truth[::-1])[::-1], [0]])
    edges = np.concatenate([[-np.inf], sorted_scores, [np.inf]])
    possible = np.concatenate([[True], sorted_scores[1:] > sorted_scores[:-1], [True]])
    best = int(np.argmin(np.where(possible, missed + wrongly, len(scores) + 1)))
    return float((edges[best] + edges[best + 1]) / 2)


def along_axis(
    model: ImageFlow,
    found: LatentPCA,
    level: int,
    axis: int,
    steps: Sequence[float],
    label: Tensor | None = None,
) -> NDArray[np.uint8]:
    """Images (N, C, H, W) along an axis, in standard deviations from the mean code."""
    own = found.levels[level]
    distance = torch.tensor(steps, dtype=torch.float64)[:, None] * own.variances[axis].sqrt()
    rows = [
        each.mean + (distance * own.axes[axis] if each is own else torch.zeros_like(distance))
        for each in found.levels
    ]
    codes: Latents = unflatten(torch.cat(rows, dim=1), model.latent_shapes)
    images = []
    for i in range(len(steps)):
        code = tuple(eps[i : i + 1].to(model.device, model.dtype) for eps in codes)
        images.append(model.to_images(model.decode(code, label)).cpu())
    return torch.cat(images).numpy()


def _with_classes(data: ImageData) -> ImageData:
    classes = len(data.class_names)
    if data.attributes is not None or data.labels is None or not 2 <= classes <= MOST_CLASSES:
        return data
    truth = data.labels[:, None] == np.arange(classes)
    return replace(data, attributes=truth, attribute_names=data.class_names)


def _attributes(data: ImageData, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
    if data.attributes is None:
        return np.zeros((len(indices), 0), dtype=bool)
    return np.asarray(data.attributes[indices])
