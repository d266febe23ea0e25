"""Which images are trained on, which are chosen by, and which are reported on."""

import numpy as np
from numpy.typing import NDArray

from .types import TEST, TRAIN, VALID

SPLIT_NAMES = {"train": TRAIN, "valid": VALID, "val": VALID, "validation": VALID, "test": TEST}
"""What folders and hub data sets call their parts."""


def split_of(count: int, held_out: float) -> NDArray[np.int64]:
    """TRAIN, VALID or TEST for each image: a fixed random choice, the same in every run."""
    held = held_size(count, held_out)
    partition = np.full(count, TRAIN)
    order = np.random.default_rng(0).permutation(count)
    partition[order[:held]] = VALID
    partition[order[held : 2 * held]] = TEST
    return partition


def held_size(count: int, held_out: float) -> int:
    """How many of `count` images are for validation, and as many again for the test."""
    return min(max(1, round(count * held_out)), (count - 1) // 2)


def complete_partition(
    count: int, own: NDArray[np.int64] | None, held_out: float
) -> NDArray[np.int64]:
    """The source's own partition, with the parts that it lacks.

    A single held-out part, called validation or test, is the test: it is what figures are published
    on. Validation is then a fixed random choice of `held_out` of the training images.
    """
    if own is None or not (own != TRAIN).any():
        return split_of(count, held_out)
    partition = own.copy()
    if not (partition == TEST).any():
        partition[partition == VALID] = TEST
    if not (partition == VALID).any():
        train = np.random.default_rng(0).permutation(np.flatnonzero(partition == TRAIN))
        partition[train[: min(max(1, round(len(train) * held_out)), len(train) // 2)]] = VALID
    return partition


def limit_parts(
    partition: NDArray[np.int64], limit: int | None, held_out: float
) -> NDArray[np.int64]:
    """Indices of at most `limit` images: a fixed random choice in each part, in the sizes that
    `held_out` gives.
    """
    if limit is None or limit >= len(partition):
        return np.arange(len(partition))
    random = np.random.default_rng(0)
    held = held_size(limit, held_out)
    sizes = {TRAIN: limit - 2 * held, VALID: held, TEST: held}
    parts = [
        random.permutation(np.flatnonzero(partition == part))[:size] for part, size in sizes.items()
    ]
    return np.sort(np.concatenate(parts))
