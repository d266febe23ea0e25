"""What a source is before it is read, and what it is afterwards."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TRAIN, VALID, TEST = 0, 1, 2


class Count(NamedTuple):
    """How many images a part of a published data set has here, and how many were published."""

    part: str
    found: int
    published: tuple[int, ...]
    """Several, where the published files differ among themselves."""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.found in self.published

    def __str__(self) -> str:
        published = " or ".join(f"{number:,}" for number in self.published)
        return f"{self.part} {self.found:,} of {published}"


@dataclass(frozen=True)
class ImageData:
    """One split of a source."""

    images: NDArray[Any]
    """(N, C, H, W), uint8 or float32, memory-mapped and read-only."""
    labels: NDArray[np.int64] | None = None
    """(N,) class indices."""
    attributes: NDArray[np.bool_] | None = None
    """(N, A) whether image n has attribute a."""
    class_names: tuple[str, ...] = ()
    attribute_names: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """File names, relative to the folder they are from."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def part(self, start: int, stop: int) -> "ImageData":
        """Images `start` to `stop`, as views."""
        some = slice(start, stop)
        return ImageData(
            self.images[some],
            None if self.labels is None else self.labels[some],
            None if self.attributes is None else self.attributes[some],
            self.class_names,
            self.attribute_names,
            self.names[some],
        )


@dataclass(frozen=True)
class Splits:
    """A source, split into what is trained on, chosen by, and reported."""

    train: ImageData
    valid: ImageData
    test: ImageData
    source: str
    """What was read, in words."""
    checksum: str
    """SHA-256 of the array on disk."""
    skipped: tuple[str, ...] = ()
    """`file: reason` of each image that could not be read."""
    dataset: str = ""
    """The published data set that these images are, unaltered: `cifar10`, `imagenet32-old`,
    `imagenet32-new`, `imagenet64-old`, `imagenet64-new`, `celeba`, `celebahq`, `lsun-bedroom` and
    so on, `fashion-mnist`, `mnist`; empty for everything else. Figures are compared only where it
    is the same."""
    counts: tuple[Count, ...] = ()
    """Of each part of the published data set."""
    folder: Path | None = None
    """Where the array is."""

    @property
    def completeness(self) -> str:
        """`complete`, or what there is of how many; empty where no number is published."""
        if not self.counts:
            return ""
        missing = [str(count) for count in self.counts if not count.complete]
        return f"incomplete: {', '.join(missing)}" if missing else "complete"


@dataclass(frozen=True)
class Source:
    """Images that can be read one by one, before they are an array."""

    title: str
    shape: tuple[int, int, int]
    dtype: str
    """uint8 or float32."""
    names: tuple[str, ...]
    read: Callable[[int], NDArray[Any]]
    """Image i as (C, H, W); raises `UnreadableImageError` for a broken one, and
    `NoMoreImagesError` where a stream has ended before its time."""
    in_order: bool = False
    """Read with ascending i and from one thread only: large files, each opened once, and streams.
    Such a `read` may fill `labels` as it goes."""
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    """By default the numbers of the labels."""
    attributes: NDArray[np.bool_] | None = None
    attribute_names: tuple[str, ...] = ()
    partition: NDArray[np.int64] | None = None
    """(N,) of TRAIN, VALID and TEST, where the source has a split of its own. What a source with
    two parts reports on, whatever it calls it, is its TEST."""
    dataset: str = ""
    """As in `Splits`."""
    counts: tuple[Count, ...] = ()
    """As in `Splits`."""


class UnreadableImageError(Exception):
    """One image is broken; the others may be fine."""


class NoMoreImagesError(Exception):
    """A stream has ended, although more images were expected."""


def count_parts(
    partition: NDArray[np.int64], published: Iterable[tuple[str, int, tuple[int, ...]]]
) -> tuple[Count, ...]:
    """Count the images of each part.

    Args:
        partition: (N,) of TRAIN, VALID and TEST.
        published: name, number (TRAIN, VALID or TEST) and published size of each part.
    """
    return tuple(
        Count(name, int((partition == part).sum()), sizes) for name, part, sizes in published
    )
