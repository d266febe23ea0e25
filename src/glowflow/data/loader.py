"""From the array to batches."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .patches import Grids
from .types import ImageData


def batches(
    data: ImageData,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    skip: int = 0,
    drop_last: bool = True,
    shuffle: bool = True,
    crops: bool = False,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """One epoch, in an order that depends on `seed` and `epoch` alone.

    Args:
        data: the images.
        batch_size: images per batch.
        seed: of the order.
        epoch: of the order.
        skip: number of images to leave out at the beginning.
        drop_last: leave out a last batch that is not full.
        shuffle: false for the order of the array.
        crops: of images cut into squares, squares at random places instead of the grid's.

    Yields:
        Images (batch, C, H, W) in the array's dtype, and what they are given: rows of conditions
        (batch, V) floats where there are any, else labels (batch,) int64, or None.
    """
    count = len(data)
    order = np.random.default_rng((seed, epoch)).permutation(count) if shuffle else np.arange(count)
    stop = count - (count - skip) % batch_size if drop_last else count
    given = data.labels if data.conditions is None else data.conditions
    grids = Grids.of(data.patches) if crops and data.patches is not None else None
    for first in range(skip, stop, batch_size):
        chosen = order[first : first + batch_size]
        if grids is None:
            images = torch.from_numpy(data.images[chosen])
        else:
            random = np.random.default_rng((seed, epoch, first))
            images = torch.from_numpy(grids.crops(data.images, chosen, random))
        yield images, None if given is None else torch.from_numpy(given[chosen])
