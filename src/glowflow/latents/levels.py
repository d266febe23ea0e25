"""What the latents of each level look like: principal axes, and what can be read off linearly."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from ..data.inputs import evenly
from ..data.types import ImageData, Splits
from ..errors import InputError
from ..models.flow import ImageFlow
from .codes import encoded, unflatten
from .readouts import Readout, read_out
from .statistics import RunningPCA, WeightedSums, discriminant

Codes = Iterable[tuple[NDArray[np.int64], Float[Tensor, "batch D"]]]

MOST_CLASSES = 40
"""Classes that are taken for attributes, where there are none."""


@dataclass(frozen=True)
class LevelAxes:
    """The principal axes of one level's ε."""

    shape: tuple[int, ...]
    mean: Float[Tensor, " D"]
    axes: Float[Tensor, "k D"]
    variances: Float[Tensor, " k"]
    """Of ε along each axis; 1 on average where the model fits."""
    shares: Float[Tensor, " k"]
    """Explained variance, as a share of the level's."""


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
    train, valid, test = (_part(d, limit) for d in (splits.train, splits.valid, splits.test))
    if len(train.indices) < 2:
        raise InputError(
            f"Axes need at least 2 training images, and there are {len(train.indices)}: give more."
        )
    names, enough = train.data.attribute_names, train.with_enough(minimum)

    def encode(part: _Part, title: str) -> Codes:
        return encoded(model, part.data, part.indices, batch_size=batch_size, title=title,
                       progress=progress)  # fmt: skip

    with model.frozen():
        codes = encode(train, "fitting")
        fit = _fit(codes, train.truth[:, enough], model.latent_shapes, components)
        _, choosing = _project(encode(valid, "choosing thresholds"), fit)
        coordinates, scores = _project(encode(test, "held-out images"), fit)
    readouts = (
        read_out(names[a], choosing[i], valid.truth[:, a], scores[i], test.truth[:, a])
        for i, a in enumerate(enough)
    )
    return LatentPCA(
        levels=fit.levels,
        readouts=tuple(readouts),
        refused=tuple(name for a, name in enumerate(names) if a not in enough),
        fitted=len(train.indices),
        chosen_on=len(valid.indices),
        coordinates=tuple(coordinates),
        data=test.data,
        indices=test.indices,
    )


class _Part(NamedTuple):
    """Images that are used, and which attributes they have."""

    data: ImageData
    indices: NDArray[np.int64]
    truth: Bool[NDArray[np.bool_], "N A"]

    def with_enough(self, minimum: int) -> list[int]:
        """Attributes that at least `minimum` of the images have, and as many have not."""
        positive = self.truth.sum(0)
        fewer = np.minimum(positive, len(self.truth) - positive)
        return np.flatnonzero(fewer >= minimum).tolist()


def _part(data: ImageData, limit: int | None) -> _Part:
    """`limit` images at most; classes stand in for attributes where there are none."""
    classes = len(data.class_names)
    if data.attributes is None and data.labels is not None and 2 <= classes <= MOST_CLASSES:
        truth = data.labels[:, None] == np.arange(classes)
        data = replace(data, attributes=truth, attribute_names=data.class_names)
    indices = evenly(len(data), limit)
    if data.attributes is None:
        return _Part(data, indices, np.zeros((len(indices), 0), dtype=bool))
    return _Part(data, indices, np.asarray(data.attributes[indices]))


class _Fit(NamedTuple):
    """Axes of each level, and the normal of each attribute in it."""

    levels: tuple[LevelAxes, ...]
    normals: tuple[Float[Tensor, "A D"], ...]

    def split(self, rows: Float[Tensor, "batch D"]) -> tuple[Float[Tensor, "batch d"], ...]:
        """The part of each level."""
        return torch.split(rows, [math.prod(level.shape) for level in self.levels], dim=1)


def _fit(
    codes: Codes,
    truth: Bool[NDArray[np.bool_], "N A"],
    shapes: Sequence[tuple[int, ...]],
    components: int,
) -> _Fit:
    """Axes and normals of each level, in one pass."""
    sizes = [math.prod(shape) for shape in shapes]
    pcas = [RunningPCA(components) for _ in sizes]
    sums = [WeightedSums(truth.shape[1], size) for size in sizes]
    centred = torch.from_numpy(truth - truth.mean(0))
    seen = 0
    for some, rows in codes:
        weights = centred[seen : seen + len(some)]
        seen += len(some)
        for pca, total, part in zip(pcas, sums, torch.split(rows, sizes, dim=1), strict=True):
            pca.update(part)
            total.update(weights, part)
    scale = centred.square().sum(0).clamp_min(1e-12)[:, None]
    return _Fit(
        levels=tuple(
            LevelAxes(shape, pca.mean, pca.components, pca.variances, pca.shares)
            for shape, pca in zip(shapes, pcas, strict=True)
        ),
        normals=tuple(discriminant(s.sums / scale, pca) for s, pca in zip(sums, pcas, strict=True)),
    )


def _project(
    codes: Codes, fit: _Fit
) -> tuple[list[Float[NDArray[np.float64], "M k"]], Float[NDArray[np.float64], "A levels M"]]:
    """Coordinates along the axes of each level; scores by each level, and by all together."""
    coordinates: list[list[Tensor]] = [[] for _ in fit.levels]
    scores: list[Tensor] = []
    for _, rows in codes:
        parts = fit.split(rows)
        for of_level, part, level in zip(coordinates, parts, fit.levels, strict=True):
            of_level.append((part - level.mean) @ level.axes.T)
        by_level = [part @ w.T for part, w in zip(parts, fit.normals, strict=True)]
        scores.append(torch.stack([*by_level, torch.stack(by_level).sum(0)]))
    along = [torch.cat(of_level).numpy() for of_level in coordinates]
    return along, torch.cat(scores, dim=1).permute(2, 0, 1).numpy()


def along_axis(
    model: ImageFlow,
    pca: LatentPCA,
    level: int,
    axis: int,
    steps: Sequence[float],
    label: Tensor | None = None,
) -> NDArray[np.uint8]:
    """Images (N, C, H, W) along an axis, in standard deviations from the mean code."""
    own = pca.levels[level]
    distance = torch.tensor(steps, dtype=torch.float64)[:, None] * own.variances[axis].sqrt()
    rows = [
        each.mean + (distance * own.axes[axis] if each is own else torch.zeros_like(distance))
        for each in pca.levels
    ]
    codes = unflatten(torch.cat(rows, dim=1), model.latent_shapes)
    images = []
    with model.frozen():
        for i in range(len(steps)):
            code = tuple(eps[i : i + 1].to(model.device, model.dtype) for eps in codes)
            images.append(model.to_images(model.decode(code, label)).cpu())
    return torch.cat(images).numpy()
