"""Which images are trained on, which are chosen by, and which are reported on."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .config import Split
from .types import TEST, TRAIN, VALID, ImageData

SPLIT_NAMES = {"train": TRAIN, "valid": VALID, "val": VALID, "validation": VALID, "test": TEST}
"""What folders and hub data sets call their parts."""


def hash_of(name: str) -> int:
    """64 bits that a name decides, the same everywhere (BLAKE2b)."""
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def content_of(image: NDArray[Any]) -> int:
    """64 bits that the bytes of an image decide."""
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest()
    return int.from_bytes(digest, "big")


def split_of(names: Sequence[str], held_out: float, split: Split = "hash") -> NDArray[np.int64]:
    """TRAIN, VALID or TEST for each image.

    `hash`: u = `hash_of`(name) / 2^64 decides: VALID below `held_out`, TEST below twice that, so
    that an image stays where it is, whatever other images there are. Where a part would stay empty,
    it gets the image whose u is smallest of the others. `shuffle` is what versions before 0.2 did:
    a fixed random choice by number, which moves when the number of images changes.
    Images of one name, as the frames of a file, stay together.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    if len(numbers) < len(names):
        each = split_of(tuple(numbers), held_out, split)
        return each[[numbers[name] for name in names]]
    count = len(names)
    if split == "shuffle":
        held = held_size(count, held_out)
        partition = np.full(count, TRAIN)
        order = np.random.default_rng(0).permutation(count)
        partition[order[:held]] = VALID
        partition[order[held : 2 * held]] = TEST
        return partition
    u = _uniform(names)
    partition = np.where(u < held_out, VALID, np.where(u < 2 * held_out, TEST, TRAIN))
    return _fill(partition, u, (VALID, TEST, TRAIN))


def held_size(count: int, held_out: float) -> int:
    """How many of `count` images are about the share of validation, and as many of the test."""
    return min(max(1, round(count * held_out)), (count - 1) // 2)


def complete_partition(
    names: Sequence[str], own: NDArray[np.int64] | None, held_out: float, split: Split = "hash"
) -> NDArray[np.int64]:
    """The source's own partition, with the parts that it lacks.

    A single held-out part, called validation or test, is the test: it is what figures are published
    on. Validation is then taken out of the training images, as `split_of` takes it.
    """
    if own is None or not (own != TRAIN).any():
        return split_of(names, held_out, split)
    partition = own.copy()
    if not (partition == TEST).any():
        partition[partition == VALID] = TEST
    if not (partition == VALID).any():
        train = np.flatnonzero(partition == TRAIN)
        if split == "shuffle":
            train = np.random.default_rng(0).permutation(train)
            size = min(max(1, round(len(train) * held_out)), len(train) // 2)
            partition[train[:size]] = VALID
        else:
            once = tuple(dict.fromkeys(names[i] for i in train.tolist()))
            u = _uniform(once)
            theirs = _fill(np.where(u < held_out, VALID, TRAIN), u, (VALID, TRAIN))
            part = dict(zip(once, theirs.tolist(), strict=True))
            partition[train] = [part[names[i]] for i in train.tolist()]
    return partition


def limit_parts(
    names: Sequence[str], partition: NDArray[np.int64], limit: int | None, held_out: float
) -> NDArray[np.int64]:
    """Indices of at most `limit` images, ascending: in each part those with the smallest
    `hash_of`, in the sizes that `held_out` gives.
    """
    if limit is None or limit >= len(partition):
        return np.arange(len(partition))
    held = held_size(limit, held_out)
    sizes = {TRAIN: limit - 2 * held, VALID: held, TEST: held}
    u = _uniform(names, "limit ")
    parts = []
    for part, size in sizes.items():
        theirs = np.flatnonzero(partition == part)
        parts.append(theirs[np.argsort(u[theirs], kind="stable")[:size]])
    return np.sort(np.concatenate(parts))


def evenly(count: int, limit: int | None) -> NDArray[np.int64]:
    """`limit` of the indices 0 to count − 1 at most, evenly spread.

    Raises:
        InputError: limit is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"The number of images is {limit}: give at least 1.")
    return np.linspace(0, count - 1, min(count, limit or count)).round().astype(np.int64)


def spread(data: ImageData, limit: int | None) -> ImageData:
    """`limit` images at most, evenly spread over the data and over their classes."""
    if limit is None or limit >= len(data):
        return data
    order = np.arange(len(data))
    if data.labels is not None:
        order = np.argsort(data.labels, kind="stable")
    return data.choose(np.sort(order[evenly(len(data), limit)]))


def _uniform(names: Sequence[str], salt: str = "") -> NDArray[np.float64]:
    """A number in [0, 1) for each name."""
    hashes = np.fromiter((hash_of(salt + name) for name in names), np.uint64, len(names))
    return (hashes >> np.uint64(11)) / 2.0**53


def _fill(
    partition: NDArray[np.int64], u: NDArray[np.float64], parts: Sequence[int]
) -> NDArray[np.int64]:
    """Give each empty part one image of a part that has more."""
    for part in parts:
        sizes = np.bincount(partition, minlength=3)
        if sizes[part] or not len(u):
            continue
        spare = np.flatnonzero(sizes[partition] > 1)
        if len(spare):
            partition[spare[u[spare].argmin()]] = part
    return partition
