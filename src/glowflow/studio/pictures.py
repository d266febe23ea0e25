"""Uploads: what they are is told from their content, and their size before they are decoded."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import InputError, in_one_line
from ..models.config import picture_shape
from ..models.flow import ImageFlow
from ..models.training_data import TrainingData
from ..photos.crops import Crop, box, cut, paste, whole
from ..photos.faces import find_face
from ..photos.images import (
    SmallImageError,
    UnreadableImageError,
    decode_whole,
    from_array,
    header_size,
)
from .limits import Limits

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
Framing = Literal["whole", "face", "box"]
"""As the training images were, the face, or by hand."""


@dataclass(frozen=True)
class Photograph:
    """A file that was uploaded, and the part of it that the model sees."""

    data: bytes
    width: int
    """As shown, in pixels."""
    height: int
    frames: int = 1
    """Of an animation, of which the first is taken."""
    crop: Crop | None = None
    """None where it was made to fit as the training images were."""

    def pixels(self, model: ImageFlow) -> NDArray[np.uint8]:
        """uint8 (C, height, width) in its own size.

        Raises:
            InputError: it is broken.
        """
        known = model.trained_on or TrainingData()
        channels = model.config.image_shape[0]
        return _decoded(
            lambda: decode_whole(io.BytesIO(self.data), channels, source_range=known.source_range)
        )

    def with_change(
        self, model: ImageFlow, before: NDArray[np.uint8], after: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """The whole photograph with the change from `before` to `after` in it.

        Raises:
            InputError: it is broken.
        """
        pixels = self.pixels(model)
        known = model.trained_on or TrainingData()
        shape = picture_shape(model.config.image_shape)
        crop = self.crop or whole(pixels, shape, known.fit, known.aligned)
        return paste(pixels, crop, before, after)


def checked(data: bytes, limits: Limits) -> Photograph:
    """A file as a photograph, if it is one.

    Raises:
        InputError: it is empty, no picture of a kind that is taken, or has too many pixels.
    """
    if not data:
        raise InputError("The file is empty: choose a picture.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                width, height = opened.size
                frames = int(getattr(opened, "n_frames", 1)) if opened.format != "TIFF" else 1
        except UnidentifiedImageError as error:
            raise InputError(
                f"The file is no picture of a kind that is taken: give {', '.join(FORMATS[:-1])} "
                "or PPM."
            ) from error
        except Image.DecompressionBombError as error:
            raise InputError(_too_large(limits)) from error
        except Exception as error:  # Pillow raises whatever its decoders raise
            raise InputError(f"The picture is damaged: {in_one_line(error)}.") from error
        if width * height > limits.upload_pixels:
            raise InputError(f"The picture is {width}x{height}. {_too_large(limits)}")
        height, width = header_size(io.BytesIO(data))
    return Photograph(data, width, height, frames)


def _too_large(limits: Limits) -> str:
    return f"It has too many pixels: give at most {limits.upload_pixels / 1e6:g} million."


def framed(
    photograph: Photograph,
    model: ImageFlow,
    framing: Framing,
    place: tuple[float, float, float] | None = None,
) -> tuple[Photograph, NDArray[np.uint8]]:
    """The photograph with its crop, and uint8 (C, H, W) as the model takes it.

    Args:
        photograph: the file.
        model: whose size it gets.
        framing: what is taken of it.
        place: left, top and width of a `box`, in pixels of the photograph.

    Raises:
        InputError: it is broken or too small, no face is found, or the box is not in it.
    """
    known, shape = model.trained_on or TrainingData(), picture_shape(model.config.image_shape)
    pixels = photograph.pixels(model)
    if framing == "whole":
        try:
            seen = model.prepare(from_array(pixels)).numpy()[0]
        except SmallImageError as error:
            raise InputError(_too_small(photograph.width, photograph.height, shape)) from error
        return replace(photograph, crop=None), seen
    if framing == "face":
        if shape[1] != shape[2]:
            raise InputError(f"Faces are cut as squares, and this model's images are {shape}.")
        try:
            crop = find_face(pixels, "the picture")
        except InputError as error:
            raise InputError(_for_the_page(str(error), "draw the box by hand")) from error
    elif place is None:
        raise InputError("A box needs its left, its top and its width.")
    else:
        left, top, width = place
        crop = box(left, top, width, width * shape[1] / shape[2])
    x, y = crop.place(np.array([0.5, 0.5]))
    if not (0 <= x <= photograph.width and 0 <= y <= photograph.height):
        raise InputError("The middle of the box is outside of the picture: move it inside.")
    width, height = crop.size
    if not known.upscale and (width < shape[2] - 0.5 or height < shape[1] - 0.5):
        raise InputError(_too_small(round(width), round(height), shape))
    return replace(photograph, crop=crop), cut(pixels, crop, shape)


def _too_small(width: int, height: int, shape: tuple[int, int, int]) -> str:
    return (
        f"What is taken of the picture is {width}x{height}, smaller than the {shape[2]}x{shape[1]} "
        "that the model takes: give a larger one."
    )


def _decoded(decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return decode()
        except (UnreadableImageError, MemoryError) as error:
            said = _for_the_page(in_one_line(error).rstrip("."), "save it with 8 bits")
            raise InputError(f"The picture cannot be read: {said.rstrip('.')}.") from error


def _for_the_page(said: str, instead: str) -> str:
    """What the library says, with another advice where its own is an option of a command."""
    wrong, colon, advice = said.partition(": ")
    return f"{wrong}: {instead}." if colon and "--" in advice else said
