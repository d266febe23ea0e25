"""Directions of attributes in latent space, by three estimators, in one pass over the images."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..checks import require_choice
from ..data.inputs import evenly
from ..data.types import ImageData
from ..errors import InputError
from ..models.companions import identity
from ..models.flow import ImageFlow
from ..processes import process_index, shard, sum_over_processes
from .attributes import UsableAttributes, usable_attributes
from .choices import Estimator
from .codes import encoded, unflatten
from .directions import Directions
from .matching import match
from .statistics import RunningPCA, WeightedSums, discriminant

FULL_AMOUNT = 1.6
"""An amount of 1 moves the code by so many differences of the means (official code)."""
COMPONENTS = 32
"""Principal axes of the covariance that the `linear` estimator uses."""
VANISHED = 1e-6
"""Share of a normal's squared length that has to be left once the held attributes are out."""


def estimate_directions(
    model: ImageFlow,
    data: ImageData,
    *,
    estimator: Estimator = "mean",
    names: Sequence[str] | None = None,
    minimum: int = 10,
    limit: int | None = None,
    batch_size: int = 50,
    source: str = "",
    progress: bool = True,
) -> Directions:
    """A direction in latent space for each attribute, over all levels, in one pass.

    `mean`: Δε = 1.6·(mean ε of images with it − mean ε of images without it), as published.

    `matched`: the same over pairs. Each image of the smaller side is paired with all images of the
    other side that differ in the fewest held attributes, so that the two sides have the same
    share of each.

    `linear`: the normal Σ⁻¹Δμ of a regularised linear discriminant (`discriminant`), less its part
    in the span of what the held attributes do to ε (their coefficients in the least-squares fit
    of ε by the attribute and the held ones); as long as it takes to change the classifier's score
    by as much as 1.6·Δμ does.

    Held are the other attributes that can be: all four combinations with the attribute occur at
    least `minimum` times. Hair that is black is never blond.

    Memory is some dozen rows of D for an attribute; the codes are never kept.

    Args:
        model: in eval mode.
        data: images with attributes.
        estimator: `mean`, `matched` or `linear`.
        names: attributes to find; by default all that can be.
        minimum: images that each side needs.
        limit: use so many images at most, evenly spread.
        batch_size: images at once; does not change the directions beyond float rounding.
        source: the images, in words.
        progress: show a bar on stderr.

    Raises:
        InputError: the images have no attributes, a name is unknown or has too few images on a
            side, or no attribute has enough.
    """
    directions = estimate_by_each(
        model,
        data,
        (estimator,),
        names=names,
        minimum=minimum,
        limit=limit,
        batch_size=batch_size,
        source=source,
        progress=progress,
    )
    return directions[estimator]


def estimate_by_each(
    model: ImageFlow,
    data: ImageData,
    estimators: Sequence[Estimator],
    *,
    names: Sequence[str] | None = None,
    minimum: int = 10,
    limit: int | None = None,
    batch_size: int = 50,
    source: str = "",
    progress: bool = True,
) -> dict[Estimator, Directions]:
    """`estimate_directions` by each of several estimators, in one pass over the images.

    Where a launcher has started several processes, each encodes its share of the images, and all
    of them return the same.

    Args: as `estimate_directions`.

    Raises:
        InputError: as `estimate_directions`.
    """
    for estimator in estimators:
        require_choice("estimator", estimator, Estimator)
    if minimum < 1:
        raise InputError(f"minimum is {minimum}: a side needs at least 1 image.")
    indices = evenly(len(data), limit)
    attributes = usable_attributes(data, indices, minimum, names or ())
    contrasts = {estimator: _contrast(estimator, attributes) for estimator in estimators}
    sums, pca = _sum_codes(
        model, data, indices, contrasts, batch_size=batch_size, progress=progress
    )
    own = identity(model)
    each: dict[Estimator, Directions] = {}
    for estimator, contrast in contrasts.items():
        differences, vanished = _differences(estimator, sums[estimator], attributes, pca)
        usable = attributes.without(vanished)
        deltas = unflatten((FULL_AMOUNT * differences).float(), model.latent_shapes)
        each[estimator] = Directions(
            latents=usable.named(zip(*deltas, strict=True)),
            estimator=estimator,
            model=own,
            counts=usable.named(usable.counts),
            refused={n: why for n, why in usable.refused.items() if not names or n in names},
            held=usable.named(usable.held_names(estimator)),
            imbalance=usable.named(contrast.imbalance) if estimator == "matched" else {},
            source=source,
        )
    return each


class _Contrast(NamedTuple):
    """What each code is multiplied by, so that the sum is a difference of two sides."""

    weights: NDArray[np.float64]
    """(N, A)."""
    imbalance: tuple[float, ...] = ()
    """Of each attribute, where the sides are matched: `Pairs.imbalance`."""


def _contrast(estimator: Estimator, attributes: UsableAttributes) -> _Contrast:
    if estimator != "matched":
        return _Contrast(attributes.centred)
    pairs = [
        match(attributes.values[:, a], attributes.values[:, others])
        for a, others in enumerate(attributes.held)
    ]
    weights = np.stack([of_one.weights for of_one in pairs], axis=1)
    return _Contrast(weights, tuple(of_one.imbalance for of_one in pairs))


def _sum_codes(
    model: ImageFlow,
    data: ImageData,
    indices: NDArray[np.int64],
    contrasts: Mapping[Estimator, _Contrast],
    *,
    batch_size: int,
    progress: bool,
) -> tuple[dict[Estimator, Float[Tensor, "A D"]], RunningPCA]:
    """Each contrast of the codes, and for `linear` their principal axes, over all processes."""
    size = sum(map(math.prod, model.latent_shapes))
    sums = {
        estimator: WeightedSums(contrast.weights.shape[1], size)
        for estimator, contrast in contrasts.items()
    }
    pca = RunningPCA(COMPONENTS)
    visible = progress and process_index() == 0
    with model.frozen():
        for some, rows in encoded(
            model, data, shard(indices), batch_size=batch_size, progress=visible
        ):
            of_batch = np.searchsorted(indices, some)
            for estimator, total in sums.items():
                weights = contrasts[estimator].weights[of_batch]
                total.update(torch.from_numpy(weights), rows)
            if "linear" in sums:
                pca.update(rows)
    pca.add_up()
    return {estimator: sum_over_processes(total.sums) for estimator, total in sums.items()}, pca


def _differences(
    estimator: Estimator,
    sums: Float[Tensor, "A D"],
    attributes: UsableAttributes,
    pca: RunningPCA,
) -> tuple[Float[Tensor, "A D"], list[int]]:
    """Δε / `FULL_AMOUNT` of each attribute, and the columns of those that have nothing left."""
    if estimator == "mean":
        squares = torch.from_numpy(attributes.centred).square().sum(0)
        return sums / squares[:, None], []
    if estimator == "linear":
        return _normals(sums, attributes, pca)
    return sums, []


def _normals(
    sums: Float[Tensor, "A D"], attributes: UsableAttributes, pca: RunningPCA
) -> tuple[Float[Tensor, "A D"], list[int]]:
    """Normals less what the held attributes do, and the rows of which nothing is left."""
    weights = attributes.centred
    covariance = torch.from_numpy(weights.T @ weights)
    differences = sums / covariance.diagonal()[:, None]
    normals = discriminant(differences, pca)
    vanished = []
    for row, others in enumerate(attributes.held):
        normal = normals[row]
        rest = normal
        if others:
            rest = normal - _within(normal, _effects(sums, covariance, row, others))
        moved = normal @ rest
        if moved <= VANISHED * normal.square().sum():
            vanished.append(row)
        normals[row] = rest * (normal @ differences[row] / moved.clamp_min(1e-300))
    return normals, vanished


def _effects(
    sums: Float[Tensor, "A D"], covariance: Float[Tensor, "A A"], row: int, others: Sequence[int]
) -> Float[Tensor, "B D"]:
    """What the others do to ε: their coefficients in its fit by the attribute and the others."""
    both = [row, *others]
    inverse = torch.linalg.pinv(covariance[both][:, both], rtol=1e-8, hermitian=True)
    return (inverse @ sums[both])[1:]


def _within(normal: Float[Tensor, " D"], effects: Float[Tensor, "B D"]) -> Float[Tensor, " D"]:
    """The part of a normal that is in the span of the effects."""
    inverse = torch.linalg.pinv(effects @ effects.T, rtol=1e-8, hermitian=True)
    return inverse @ (effects @ normal) @ effects
