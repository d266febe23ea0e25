"""Squares of photographs: faces found and levelled, cut out, and put back after an edit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from .data.images import open_image, to_array
from .data.types import UnreadableImageError
from .errors import InputError

LEFT_EYE = (0.371, 0.480)
"""Where the eye on the left of the picture is in an aligned crop, as shares of its width and
height; the other one is its mirror image (the official demo)."""
BLEND = 0.1
"""Width of the blended edge of a pasted crop, as a share of its shorter side."""


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


def read_photo(path: Path, channels: int) -> NDArray[np.uint8]:
    """A photograph in its own size, as uint8 (C, H, W).

    Raises:
        InputError: it is missing or broken.
    """
    if not path.is_file():
        raise InputError(f"There is no image {path}: give an image file.")
    try:
        return to_array(open_image(path, channels))
    except UnreadableImageError as error:
        raise InputError(f"Cannot read the image {path}: {error}.") from error


def box(left: float, top: float, width: float, height: float) -> Crop:
    """An upright crop."""
    return Crop((left, top), (width, 0.0), (0.0, height))


def centre(photo: NDArray[np.uint8], shape: tuple[int, int, int]) -> Crop:
    """The largest crop in the middle with the aspect ratio of `shape` (C, H, W)."""
    (_, have_height, have_width), (_, height, width) = photo.shape, shape
    scale = min(have_width / width, have_height / height)
    wide, high = width * scale, height * scale
    return box((have_width - wide) / 2, (have_height - high) / 2, wide, high)


def by_eyes(left: tuple[float, float], right: tuple[float, float]) -> Crop:
    """The square in which two eyes are level and where the official demo has them.

    Args:
        left: x and y of the eye that is on the left in the photograph.
        right: of the other one.

    Raises:
        InputError: they are at the same place.
    """
    apart = np.subtract(right, left)
    if not np.any(apart):
        raise InputError(f"Both eyes are at {left}: give two places.")
    along = apart / (1 - 2 * LEFT_EYE[0])
    down = np.array([-along[1], along[0]])
    origin = np.asarray(left) - LEFT_EYE[0] * along - LEFT_EYE[1] * down
    return Crop(_pair(origin), _pair(along), _pair(down))


def cut(photo: NDArray[np.uint8], crop: Crop, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The crop as uint8 of `shape` (C, H, W): bilinear at enough points of each pixel, averaged.

    Outside of the photograph its edge goes on.
    """
    _, height, width = shape
    times = max(1, math.ceil(max(crop.size[0] / width, crop.size[1] / height)))
    points = crop.place(_lattice(height * times, width * times))
    top, bottom, left, right = _bounds(photo, crop)
    values = _sample(photo[:, top:bottom, left:right], points - (left, top))
    pooled = values.reshape(len(values), height, times, width, times).mean(axis=(2, 4))
    return np.round(pooled).clip(0, 255).astype(np.uint8)


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
    places = crop.locate(_lattice(rows, columns) * (columns, rows) + (left, top))
    difference = _sample(
        after.astype(np.float64) - before, places * (before.shape[2], before.shape[1])
    )
    width, height = crop.size
    inside = np.minimum(places, 1 - places) * (width, height)
    ramp = (inside.min(axis=-1) / (BLEND * min(width, height))).clip(0, 1)
    blend = ramp * ramp * (3 - 2 * ramp)
    whole = photo.copy()
    part = whole[:, top:bottom, left:right]
    part[:] = np.round(part + blend * difference).clip(0, 255).astype(np.uint8)
    return whole


def find_face(photo: NDArray[np.uint8], name: str) -> Crop:
    """The aligned square of the one face in a photograph (C, H, W).

    Faces and eyes are found by the Haar cascades that come with OpenCV 4 (Viola & Jones 2001); a
    face counts if two eyes are found in it.

    Args:
        photo: the photograph.
        name: what to call it in the message of an error.

    Raises:
        InputError: OpenCV is not installed, or there is no face, or more than one.
    """
    faces = _faces(photo)
    by_hand = "give its place with --crop x,y,size, or take --crop center"
    if not faces:
        raise InputError(f"No face with two eyes is found in {name}: {by_hand}.")
    if len(faces) > 1:
        places = "; ".join(f"{x:.0f},{y:.0f},{side:.0f}" for x, y, side in map(_upright, faces))
        raise InputError(
            f"{len(faces)} faces are found in {name}: choose one of them with --crop ({places})."
        )
    return by_eyes(*faces[0])


Eyes = tuple[tuple[float, float], tuple[float, float]]


def _faces(photo: NDArray[np.uint8]) -> list[Eyes]:
    """The eyes of each face, from the left to the right."""
    cv2, folder = _opencv()
    colour = np.ascontiguousarray(photo[:3].transpose(1, 2, 0))
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY) if len(photo) > 1 else photo[0]
    scale = min(1.0, 1024 / max(grey.shape))
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grey = np.ascontiguousarray(grey)
    found = []
    smallest = max(24, min(grey.shape) // 12)
    finder = cv2.CascadeClassifier(str(folder / "haarcascade_frontalface_alt2.xml"))
    for x, y, width, height in finder.detectMultiScale(
        grey, scaleFactor=1.05, minNeighbors=4, minSize=(smallest, smallest)
    ):
        part = grey[y : y + height * 6 // 10, x : x + width]
        times = max(1.0, 240 / width)
        large = cv2.resize(part, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
        candidates = []
        for cascade in ("haarcascade_eye_tree_eyeglasses.xml", "haarcascade_eye.xml"):
            eyes = cv2.CascadeClassifier(str(folder / cascade)).detectMultiScale(
                large, scaleFactor=1.05, minNeighbors=3, minSize=(int(0.1 * large.shape[1]),) * 2
            )
            candidates += [
                ((a + 0.5 * w) / times / width, (b + 0.5 * h) / times / height)
                for a, b, w, h in eyes
            ]
            pair = _likely_pair(candidates)
            if pair is not None:
                found.append(
                    tuple(
                        (float(x + u * width) / scale, float(y + v * height) / scale)
                        for u, v in pair
                    )
                )
                break
    return sorted(found)  # type: ignore[arg-type]


def _likely_pair(
    candidates: Sequence[tuple[float, float]],
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The two that are most like the eyes of a face, in shares of its box; None if no two are."""
    pairs = [
        (abs(b[0] - a[0] - 0.4) + abs(b[1] - a[1]) + abs((a[0] + b[0]) / 2 - 0.5), a, b)
        for a in candidates
        for b in candidates
        if 0.25 < b[0] - a[0] < 0.65 and abs(b[1] - a[1]) < 0.5 * (b[0] - a[0])
    ]
    if not pairs:
        return None
    _, left, right = min(pairs)
    return left, right


def _upright(eyes: Eyes) -> tuple[float, float, float]:
    """Left, top and side of the upright square around a face."""
    crop = by_eyes(*eyes)
    x, y = crop.place(np.array([0.5, 0.5]))
    side = crop.size[0]
    return x - side / 2, y - side / 2, side


def _opencv() -> tuple[Any, Path]:
    try:
        cv2 = import_module("cv2")
        folder = Path(cv2.data.haarcascades)
        cv2.CascadeClassifier  # noqa: B018
    except (ImportError, AttributeError) as error:
        raise InputError(
            "Finding faces needs OpenCV 4 with its cascades: pip install 'glowflow[align]'."
        ) from error
    return cv2, folder


def _lattice(height: int, width: int) -> NDArray[np.float64]:
    """(height, width, 2): u, v of the middle of each pixel, as shares of width and height."""
    u = (np.arange(width) + 0.5) / width
    v = (np.arange(height) + 0.5) / height
    return np.stack(np.meshgrid(u, v), axis=-1)


def _sample(values: NDArray[Any], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear values (C, …) of (C, H, W) at x, y in pixels; outside, the edge goes on."""
    _, height, width = values.shape
    grid = torch.from_numpy(2 * points / (width, height) - 1)
    image = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
    sampled = grid_sample(image[None], grid[None], padding_mode="border", align_corners=False)
    return sampled[0].numpy()


def _bounds(photo: NDArray[np.uint8], crop: Crop) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the part of the photograph that a crop needs, not empty."""
    corners = crop.place(np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]))
    (left, top), (right, bottom) = corners.min(0) - 2, corners.max(0) + 2
    _, height, width = photo.shape
    first_row, first_column = (
        int(min(max(a, 0), n - 1)) for a, n in ((top, height), (left, width))
    )
    last_row, last_column = (
        int(max(min(math.ceil(b), n), a + 1))
        for a, b, n in ((first_row, bottom, height), (first_column, right, width))
    )
    return first_row, last_row, first_column, last_column


def _pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])
