"""Faces in photographs: found, and levelled as the official demo has them."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .crops import Crop

LEFT_EYE = (0.371, 0.480)
"""Where the eye on the left of the picture is in an aligned crop, as shares of its width and
height; the other one is its mirror image (the official demo)."""
Eyes = tuple[tuple[float, float], tuple[float, float]]


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


def _faces(photo: NDArray[np.uint8]) -> list[Eyes]:
    """The eyes of each face, from the left to the right."""
    cv2, cascades = _opencv()
    colour = np.ascontiguousarray(photo[:3].transpose(1, 2, 0))
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY) if len(photo) > 1 else photo[0]
    scale = min(1.0, 1024 / max(grey.shape))
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grey = np.ascontiguousarray(grey)
    faces = []
    smallest = max(24, min(grey.shape) // 12)
    finder = cv2.CascadeClassifier(str(cascades / "haarcascade_frontalface_alt2.xml"))
    for x, y, width, height in finder.detectMultiScale(
        grey, scaleFactor=1.05, minNeighbors=4, minSize=(smallest, smallest)
    ):
        eyes = _eyes(cv2, cascades, grey[y : y + height, x : x + width])
        if eyes is not None:
            left, right = (
                (float(x + u * width) / scale, float(y + v * height) / scale) for u, v in eyes
            )
            faces.append((left, right))
    return sorted(faces)


def _eyes(cv2: Any, cascades: Path, face: NDArray[np.uint8]) -> Eyes | None:
    """The two eyes in a face, as shares of its width and height; None if no two are found."""
    height, width = face.shape
    times = max(1.0, 240 / width)
    upper = face[: height * 6 // 10]
    large = cv2.resize(upper, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    candidates: list[tuple[float, float]] = []
    for cascade in ("haarcascade_eye_tree_eyeglasses.xml", "haarcascade_eye.xml"):
        boxes = cv2.CascadeClassifier(str(cascades / cascade)).detectMultiScale(
            large, scaleFactor=1.05, minNeighbors=3, minSize=(int(0.1 * large.shape[1]),) * 2
        )
        candidates += [
            ((a + 0.5 * w) / times / width, (b + 0.5 * h) / times / height) for a, b, w, h in boxes
        ]
        pair = _likely_pair(candidates)
        if pair is not None:
            return pair
    return None


def _likely_pair(candidates: Sequence[tuple[float, float]]) -> Eyes | None:
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


def _pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])
