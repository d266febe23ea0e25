"""Directions of attributes in latent space, by three estimators, in one pass over the images."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..checks import require_choice
from ..data.inputs import evenly, require_attributes
from ..data.types import ImageData
from ..errors import InputError
from ..models.companions import identity
from ..models.flow import ImageFlow
from ..processes import (
    process_index,
    shard,
    sum_over_processes,
)
from .codes import encoded, unflatten
from .directions import Directions, Estimator
from .matching import Pairs, held_attributes, match
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
    found = estimate_by_each(
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
    return found[estimator]


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
    all_attributes = require_attributes(data, names or ())
    if minimum < 1:
        raise InputError(f"minimum is {minimum}: a side needs at least 1 image.")
    indices = evenly(len(data), limit)
    attributes = np.asarray(all_attributes[indices])
    count = len(attributes)
    positive = attributes.sum(0)
    usable, too_few = [], {}
    for column, name in enumerate(data.attribute_names):
        with_it = int(positive[column])
        if min(with_it, count - with_it) >= minimum:
            usable.append(column)
            continue
        reason = (
            f"{name} is true of {with_it:,} and false of {count - with_it:,} images: "
            f"at least {minimum} of each are needed"
        )
        if name in (names or ()):
            raise InputError(f"{reason}.")
        too_few[name] = reason
    if not usable:
        raise InputError(f"No attribute can be used: {next(iter(too_few.values()))}.")
    held = held_attributes(attributes, usable, minimum)
    pairs: list[Pairs] = []
    if "matched" in estimators:
        pairs = [match(attributes[:, a], attributes[:, held[a]]) for a in usable]
    centred = attributes[:, usable] - attributes[:, usable].mean(0)
    weights = {
        estimator: np.stack([of_one.weights for of_one in pairs], axis=1)
        if estimator == "matched"
        else centred
        for estimator in estimators
    }
    size = sum(map(math.prod, model.latent_shapes))
    sums = {estimator: WeightedSums(len(usable), size) for estimator in estimators}
    pca = RunningPCA(COMPONENTS)
    at = {int(index): row for row, index in enumerate(indices)}
    visible = progress and process_index() == 0
    batches = encoded(model, data, shard(indices), batch_size=batch_size, progress=visible)
    for some, rows in batches:
        of_batch = [at[int(i)] for i in some]
        for estimator, total in sums.items():
            total.update(torch.from_numpy(weights[estimator][of_batch]), rows)
        if "linear" in estimators:
            pca.update(rows)
    pca.add_up()
    own = identity(model)
    every: dict[Estimator, Directions] = {}
    for estimator, total in sums.items():
        found, refused = sum_over_processes(total.sums), dict(too_few)
        if estimator == "mean":
            found = found / torch.from_numpy(centred).square().sum(0)[:, None]
        if estimator == "linear":
            found, vanished = _normals(found, centred, usable, held, pca)
            for row in vanished:
                name = data.attribute_names[usable[row]]
                reason = f"{name} cannot be told from the attributes that are held"
                if name in (names or ()):
                    raise InputError(f"{reason}: use the estimator mean or matched.")
                refused[name] = reason
        kept = {
            name: row
            for row, name in enumerate(data.attribute_names[column] for column in usable)
            if name not in refused and (names is None or name in names)
        }
        if not kept:
            raise InputError(f"No attribute can be used: {next(iter(refused.values()))}.")
        every[estimator] = Directions(
            latents={
                name: tuple(
                    eps[0].float()
                    for eps in unflatten(FULL_AMOUNT * found[row : row + 1], model.latent_shapes)
                )
                for name, row in kept.items()
            },
            estimator=estimator,
            model=own,
            counts={
                name: (int(positive[usable[row]]), count - int(positive[usable[row]]))
                for name, row in kept.items()
            },
            refused=refused,
            held={
                name: ()
                if estimator == "mean"
                else tuple(data.attribute_names[b] for b in held[usable[row]])
                for name, row in kept.items()
            },
            imbalance={name: pairs[row].imbalance for name, row in kept.items()}
            if estimator == "matched"
            else {},
            source=source,
        )
    return every


def _normals(
    sums: Float[Tensor, "A D"],
    weights: NDArray[np.float64],
    usable: Sequence[int],
    held: Mapping[int, Sequence[int]],
    pca: RunningPCA,
) -> tuple[Float[Tensor, "A D"], list[int]]:
    """Normals less what the held attributes do, and the rows of which nothing is left."""
    covariance = torch.from_numpy(weights.T @ weights)
    differences = sums / covariance.diagonal()[:, None]
    normals = discriminant(differences, pca)
    vanished = []
    for row, column in enumerate(usable):
        normal, difference = normals[row].clone(), differences[row]
        score = normal @ difference
        others = [usable.index(b) for b in held[column]]
        if others:
            both = [row, *others]
            inverse = torch.linalg.pinv(covariance[both][:, both], rtol=1e-8, hermitian=True)
            effects = (inverse @ sums[both])[1:]
            gram = effects @ effects.T
            along = torch.linalg.pinv(gram, rtol=1e-8, hermitian=True) @ (effects @ normal)
            rest = normal - along @ effects
        else:
            rest = normal
        moved = normal @ rest
        if moved <= VANISHED * normal.square().sum():
            vanished.append(row)
        normals[row] = rest * (score / moved.clamp_min(1e-300))
    return normals, vanished
