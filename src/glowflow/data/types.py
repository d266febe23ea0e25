"""What a source is before it is read, and what it is afterwards."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..models.conditions import Condition
from ..photos.images import UnreadableImageError as UnreadableImageError

TRAIN, VALID, TEST = 0, 1, 2
BY_NAME = "arrays by name"
"""The layout of sources that have a target, and what it is given."""
PER_IMAGE = (
    "images", "labels", "attributes", "contents", "values_inside", "patches", "conditions",
)  # fmt: skip
"""Arrays of `ImageData` with a row an image."""


class LeftOut(NamedTuple):
    """Files that are not among the images, and why."""

    reason: str
    files: int
    example: str
    """The first of them."""

    def __str__(self) -> str:
        more = f" and {self.files - 1:,} more" if self.files > 1 else ""
        return f"{self.example}{more}: {self.reason}"


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
    """(N, C, H, W), uint8 or floats, memory-mapped and read-only; or floats (N, C, *grid)."""
    labels: NDArray[np.int64] | None = None
    """(N,) class indices."""
    attributes: NDArray[np.bool_] | None = None
    """(N, A) whether image n has attribute a."""
    class_names: tuple[str, ...] = ()
    attribute_names: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """File names, relative to the folder they are from."""
    contents: NDArray[np.uint64] | None = None
    """(N,) hashes of each image's bytes: equal images have equal ones."""
    values_inside: NDArray[np.int64] | None = None
    """(N,) how many of each image's values are the source's, and not the margin that `--fit pad`
    put around it; None where there are no margins."""
    patches: NDArray[np.int64] | None = None
    """(N, 3) the number of the image that each square was cut from, its row and its column, in
    squares; None where images are whole. The number n is written −1 − n where squares of the image
    are missing."""
    conditions: NDArray[Any] | None = None
    """(N, V) what each image is given, as `ConditionalGlow.pack` makes rows; memory-mapped."""
    given: tuple[Condition, ...] = ()
    """What is in the rows of `conditions`."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Channels, height, width; or channels and another grid."""
        return tuple(self.images.shape[1:])

    def part(self, start: int, stop: int) -> "ImageData":
        """Images `start` to `stop`, as views."""
        return self._at(slice(start, stop), self.names[start:stop])

    def choose(self, indices: NDArray[np.int64]) -> "ImageData":
        """These images, copied."""
        names = tuple(self.names[i] for i in indices) if self.names else ()
        return self._at(indices, names)

    def _at(self, some: Any, names: tuple[str, ...]) -> "ImageData":
        values = {name: getattr(self, name) for name in PER_IMAGE}
        chosen: dict[str, Any] = {
            name: None if v is None else v[some] for name, v in values.items()
        }
        return replace(self, names=names, **chosen)


@dataclass(frozen=True)
class Reading:
    """How images were read, of whatever use they are."""

    layout: str = ""
    """What the source was recognised as: `folder`, `class folders`, `CelebA`, `npz`, …"""
    split: Literal["published", "hash", "shuffle"] = "hash"
    """Whose the split is: the source's own, or `split_of`'s."""
    value_range: tuple[float, float] = (0.0, 0.0)
    """Smallest and largest value of all images."""
    one_colour: tuple[str, ...] = ()
    """Names of the images in which every pixel is the same."""
    left_out: tuple[LeftOut, ...] = ()
    """Files that are there and are not among the images."""
    notes: tuple[str, ...] = ()
    """What else a user should know of how the source was read, in sentences."""
    aligned: bool = False
    """Whether images of 178x218 were cut to the square that is used of CelebA's aligned faces."""


@dataclass(frozen=True)
class Images:
    """All images of a source in its own order: new data, used whole."""

    data: ImageData
    source: str
    """What was read, in words."""
    checksum: str
    partition: NDArray[np.int64] | None
    """(N,) of TRAIN, VALID and TEST, where the source has a split of its own."""
    skipped: tuple[str, ...]
    dataset: str
    reading: Reading


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
    reading: "Reading | None" = None
    """How the images were read."""

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
    shape: tuple[int, ...]
    dtype: str
    """uint8, float32 or float64."""
    names: tuple[str, ...]
    read: Callable[[int], NDArray[Any]]
    """Image i, of `shape`; raises `UnreadableImageError` for a broken one, and
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
    layout: str = ""
    """As in `Reading`."""
    left_out: tuple[LeftOut, ...] = ()
    """As in `Reading`."""
    notes: tuple[str, ...] = ()
    """As in `Reading`."""
    late_notes: Callable[[], Sequence[str]] = tuple
    """What else there is to note once all images have been read."""
    aligned: bool = False
    """As in `Reading`."""
    values_inside: NDArray[np.int64] | None = None
    """As in `ImageData`; `read` may fill it as it goes, as `labels`."""
    files: tuple[str, ...] = ()
    """By whose names images are split, where these are not `names`: frames of a file together."""
    patches: NDArray[np.int64] | None = None
    """As in `ImageData`."""
    conditions: tuple[Condition, ...] = ()
    """What images are given."""
    given: Callable[[int], NDArray[Any]] | None = None
    """The row of conditions of image i. A source that has them leaves no image out."""


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
