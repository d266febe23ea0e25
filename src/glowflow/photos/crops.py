"""Parts of photographs: cut out in the size of a model, and put back after an edit."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from .images import ALIGNED, CROP, padded_size

BLEND = 0.1
"""Width of the blended edge of a pasted crop, as a share of its shorter side."""
POINTS_AT_ONCE = 2**19
"""Places that are looked up at once, so that memory does not grow with the photograph."""


@dataclass(frozen=True)
class Crop:
    """A rectangle of a photograph, turned, moved and scaled.

    (x, y) = origin + u·right + v·down, for (u, v) from (0, 0) at the top left to (1, 1) at the
    bottom right of the crop, in pixels of the photograph whose first pixel is from 0 to 1.
    """

    origin: tuple[float, float]
    right: tuple[float, float]
    down: tuple[float, float]

    def place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(…, 2) positions u, v of the crop as x, y of the photograph."""
        return np.asarray(self.origin) + points @ np.array([self.right, self.down])

    def locate(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `place`."""
        return (points - np.asarray(self.origin)) @ np.linalg.inv([self.right, self.down])

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels of the photograph."""
        return math.hypot(*self.right), math.hypot(*self.down)


def box(left: float, top: float, width: float, height: float) -> Crop:
    """An upright crop."""
    return Crop((left, top), (width, 0.0), (0.0, height))


def centre(photo: NDArray[np.uint8], shape: tuple[int, int, int]) -> Crop:
    """The largest crop in the middle with the aspect ratio of `shape` (C, H, W)."""
    (_, have_height, have_width), (_, height, width) = photo.shape, shape
    scale = min(have_width / width, have_height / height)
    wide, high = width * scale, height * scale
    return box((have_width - wide) / 2, (have_height - high) / 2, wide, high)


def whole(photo: NDArray[np.uint8], shape: tuple[int, int, int], fit: str, aligned: bool) -> Crop:
    """The rectangle that the frame (C, H, W) is of a photograph, by how it was made to fit.

    `crop` is the middle, of CelebA's aligned faces that of the square that is used of them;
    `patches` the middle at the photograph's own resolution, where it is large enough; `stretch` all
    of the photograph; with `pad` the frame goes beyond it, by its margins.

    Args:
        photo: (C, H, W).
        shape: of the frame.
        fit: `crop`, `patches`, `stretch` or `pad`.
        aligned: whether photographs of CelebA's size are its aligned faces.
    """
    (_, have_height, have_width), (_, height, width) = photo.shape, shape
    if fit == "crop" and aligned and (have_width, have_height) == ALIGNED:
        left, top, right, bottom = CROP
        inside = centre(photo[:, top:bottom, left:right], shape)
        return box(inside.origin[0] + left, inside.origin[1] + top, *inside.size)
    if fit == "crop" or (fit == "patches" and (have_width < width or have_height < height)):
        return centre(photo, shape)
    if fit == "patches":
        return box((have_width - width) // 2, (have_height - height) // 2, width, height)
    if fit == "stretch":
        return box(0.0, 0.0, float(have_width), float(have_height))
    inside_width, inside_height = padded_size(have_width, have_height, height, width)
    across, down = have_width / inside_width, have_height / inside_height
    left, top = (width - inside_width) // 2, (height - inside_height) // 2
    return box(-left * across, -top * down, width * across, height * down)


def cut(photo: NDArray[np.uint8], crop: Crop, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The crop as uint8 of `shape` (C, H, W): bilinear at enough points of each pixel, averaged.

    Outside of the photograph its edge goes on.
    """
    _, height, width = shape
    times = max(1, math.ceil(max(crop.size[0] / width, crop.size[1] / height)))
    rows = []
    for start, stop in _bands(height, width * times * times):
        lattice = _lattice(height * times, width * times, start * times, stop * times)
        values = _sample(photo, crop.place(lattice))
        inside = values.reshape(len(values), stop - start, times, width, times)
        rows.append(inside.mean(axis=(2, 4)))
    return np.round(np.concatenate(rows, axis=1)).clip(0, 255).astype(np.uint8)


def paste(
    photo: NDArray[np.uint8],
    crop: Crop,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Add what an edit has changed in a crop to the photograph it is from.

    photo + m·(after − before), enlarged to the photograph's pixels, with m falling from 1 to 0
    over the outer `BLEND` of the crop. The photograph's own detail stays, and a crop that is not
    changed changes nothing.

    Args:
        photo: (C, H, W).
        crop: where `before` is from.
        before: the crop as the model sees it (C, h, w).
        after: the same, edited.
    """
    top, bottom, left, right = _bounds(photo, crop)
    rows, columns = bottom - top, right - left
    change = after.astype(np.float64) - before
    width, height = crop.size
    whole = photo.copy()
    for start, stop in _bands(rows, columns):
        lattice = _lattice(rows, columns, start, stop) * (columns, rows) + (left, top)
        places = crop.locate(lattice)
        difference = _sample(change, places * (before.shape[2], before.shape[1]))
        inside = np.minimum(places, 1 - places) * (width, height)
        ramp = (inside.min(axis=-1) / (BLEND * min(width, height))).clip(0, 1)
        blend = ramp * ramp * (3 - 2 * ramp)
        part = whole[:, top + start : top + stop, left:right]
        part[:] = np.round(part + blend * difference).clip(0, 255).astype(np.uint8)
    return whole


def _bands(rows: int, across: int) -> Iterator[tuple[int, int]]:
    """First and last row of the bands in which a picture of so many points a row is worked on."""
    high = max(1, POINTS_AT_ONCE // max(1, across))
    for start in range(0, rows, high):
        yield start, min(rows, start + high)


def _lattice(height: int, width: int, start: int, stop: int) -> NDArray[np.float64]:
    """(stop − start, width, 2): u, v of the middle of the pixels of some rows, as shares."""
    u = (np.arange(width) + 0.5) / width
    v = (np.arange(start, stop) + 0.5) / height
    return np.stack(np.meshgrid(u, v), axis=-1)


def _sample(values: NDArray[Any], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear values (C, …) of (C, H, W) at x, y in pixels; outside, the edge goes on."""
    top, bottom, left, right = _around(points.reshape(-1, 2), values.shape[1:])
    part = np.ascontiguousarray(values[:, top:bottom, left:right], dtype=np.float64)
    grid = torch.from_numpy(2 * (points - (left, top)) / (right - left, bottom - top) - 1)
    image = torch.from_numpy(part)
    sampled = grid_sample(image[None], grid[None], padding_mode="border", align_corners=False)
    return sampled[0].numpy()


def _bounds(photo: NDArray[np.uint8], crop: Crop) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the part of the photograph that a crop needs, not empty."""
    corners = crop.place(np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]))
    return _around(corners, photo.shape[1:])


def _around(points: NDArray[np.float64], size: Sequence[int]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is about some points (N, 2), inside of height, width."""
    (left, top), (right, bottom) = points.min(0) - 2, points.max(0) + 2
    height, width = size
    first_row, first_column = (
        int(min(max(a, 0), n - 1)) for a, n in ((top, height), (left, width))
    )
    last_row, last_column = (
        int(max(min(math.ceil(b), n), a + 1))
        for a, b, n in ((first_row, bottom, height), (first_column, right, width))
    )
    return first_row, last_row, first_column, last_column
