"""Images cut into squares at their own resolution, and put together again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..photos.images import UnreadableImageError
from .types import ImageData, LeftOut, Source

UNKNOWN = (0, 0)
"""Size of an image whose header cannot be read."""


def in_patches(source: Source, sizes: Sequence[tuple[int, int]], side: int) -> Source:
    """Each image of a source cut into the side² squares of a grid that begins in its corner.

    What is left at the right and at the bottom, less than a square, is not used. Images are split
    by the names of their files, so that the squares of one are in one part.

    Args:
        source: whose `read` gives (C, H, W) of any size.
        sizes: height and width of each image, or UNKNOWN.
        side: of a square, in pixels.
    """
    rows, columns = np.array(sizes, dtype=np.int64).reshape(-1, 2).T // side
    unknown = np.array([size == UNKNOWN for size in sizes], dtype=bool)
    counts = np.where(unknown, 1, rows * columns)
    small = [source.names[i] for i in np.flatnonzero(counts == 0)]
    image = np.repeat(np.arange(len(sizes)), counts)
    place = np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = np.divmod(place, np.maximum(columns[image], 1))
    patches = np.stack([image, row, column], axis=1)
    names, files = source.names, source.files or source.names
    last = _Last(source, sizes, side)

    def of_each(values: Any) -> Any:
        return None if values is None else values[image]

    return replace(
        source,
        shape=(source.shape[0], side, side),
        names=tuple(f"{names[i]}[{row},{column}]" for i, row, column in patches.tolist()),
        files=tuple(files[i] for i in image.tolist()),
        read=lambda index: last.square(*patches[index].tolist()),
        in_order=True,
        labels=of_each(source.labels),
        attributes=of_each(source.attributes),
        partition=of_each(source.partition),
        left_out=(
            *source.left_out,
            *([LeftOut(f"smaller than {side}x{side}", len(small), small[0])] if small else []),
        ),
        values_inside=None,
        patches=patches,
    )


class _Last:
    """The image that was read last, or why it cannot be."""

    def __init__(self, source: Source, sizes: Sequence[tuple[int, int]], side: int) -> None:
        self.source, self.sizes, self.side = source, sizes, side
        self.index = -1
        self.image: NDArray[Any] | UnreadableImageError

    def square(self, index: int, row: int, column: int) -> NDArray[Any]:
        if index != self.index:
            self.index, self.image = index, self._read(index)
        if isinstance(self.image, UnreadableImageError):
            raise self.image
        side = self.side
        top, left = row * side, column * side
        return self.image[:, top : top + side, left : left + side]

    def _read(self, index: int) -> NDArray[Any] | UnreadableImageError:
        try:
            image = self.source.read(index)
        except UnreadableImageError as error:
            return error
        if image.shape[1:] != self.sizes[index]:
            return UnreadableImageError("its size is another one than its header says")
        return image


def marked_incomplete(patches: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """The chosen rows, with −1 − n for the number n of each image that they do not have whole."""
    some = patches[chosen]
    images = patches[:, 0].max(initial=-1) + 1
    have, all_of = (np.bincount(each[:, 0], minlength=images) for each in (some, patches))
    some[:, 0] = np.where((have == all_of)[some[:, 0]], some[:, 0], -1 - some[:, 0])
    return some


def photograph_of(patches: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the image that each square (N, 3) is of, whether it is whole or not."""
    number: NDArray[np.int64] = np.where(patches[:, 0] < 0, -1 - patches[:, 0], patches[:, 0])
    return number


@dataclass(frozen=True)
class Grids:
    """The grid of the image that each square (N,) is of, where all of its squares are there.

    A square whose image is not whole is a grid by itself.
    """

    start: NDArray[np.int64]
    """Number of the grid's first square; the others follow it, row by row."""
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @classmethod
    def of(cls, patches: NDArray[np.int64]) -> "Grids":
        """Of image, row and column (N, 3)."""
        count = len(patches)
        new = np.ones(count, dtype=bool)
        new[1:] = patches[1:, 0] != patches[:-1, 0]
        first = np.flatnonzero(new)
        run = np.cumsum(new) - 1
        rows = np.maximum.reduceat(patches[:, 1], first) + 1
        columns = np.maximum.reduceat(patches[:, 2], first) + 1
        place = patches[:, 1] * columns[run] + patches[:, 2]
        astray = place != np.arange(count) - first[run]
        sizes = np.diff(np.append(first, count))
        whole = (np.add.reduceat(astray, first) == 0) & (sizes == rows * columns)
        whole &= patches[first, 0] >= 0
        whole = whole[run]
        return cls(
            np.where(whole, first[run], np.arange(count)),
            np.where(whole, rows[run], 1),
            np.where(whole, columns[run], 1),
        )

    def crops(
        self, images: NDArray[Any], chosen: NDArray[np.int64], random: np.random.Generator
    ) -> NDArray[Any]:
        """A square at a random place, with equal chances, of the image of each chosen square.

        Shapes: images (N, C, side, side), chosen (B,), the result (B, C, side, side).
        """
        side = images.shape[-1]
        start, columns = self.start[chosen], self.columns[chosen]
        top = random.integers(0, (self.rows[chosen] - 1) * side + 1)
        left = random.integers(0, (columns - 1) * side + 1)
        row, column = top // side, left // side
        below = np.minimum(row + 1, self.rows[chosen] - 1)
        right = np.minimum(column + 1, columns - 1)
        corners = [[images[start + r * columns + c] for c in (column, right)] for r in (row, below)]
        window = np.block(corners)
        y = (top % side)[:, None] + np.arange(side)
        x = (left % side)[:, None] + np.arange(side)
        batch = np.arange(len(chosen))[:, None, None]
        cut = window.transpose(0, 2, 3, 1)[batch, y[:, :, None], x[:, None, :]]
        return np.ascontiguousarray(cut.transpose(0, 3, 1, 2))


def photographs(data: ImageData) -> list[NDArray[Any]]:
    """The images (C, H, W) that squares were cut from, of those whose squares are all there."""
    if data.patches is None or not len(data):
        return []
    grids = Grids.of(data.patches)
    whole = []
    for start in np.unique(grids.start).tolist():
        rows, columns = int(grids.rows[start]), int(grids.columns[start])
        alone = int(data.patches[start, 1:].sum()) == 0 and data.patches[start, 0] >= 0
        if rows * columns > 1 or alone:
            whole.append(joined(data.images[start : start + rows * columns], columns))
    return whole


def joined(squares: NDArray[Any], columns: int) -> NDArray[Any]:
    """One image (C, H, W) from its squares (rows · columns, C, side, side), row by row."""
    count, channels, side, _ = squares.shape
    grid = squares.reshape(count // columns, columns, channels, side, side)
    return grid.transpose(2, 0, 3, 1, 4).reshape(channels, count // columns * side, columns * side)


def mosaics(squares: NDArray[Any]) -> list[NDArray[Any]]:
    """Squares (N, C, side, side) as one image that is about as wide as high, and another of one
    row for those that are left over."""
    columns = max(1, int(np.sqrt(len(squares))))
    whole = len(squares) // columns * columns
    rest = squares[whole:]
    return [joined(squares[:whole], columns), *([joined(rest, len(rest))] if len(rest) else [])]
