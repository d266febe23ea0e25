"""Sheets of images, and animations."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ..files import SOFTWARE, replacing
from ..photos.images import from_array

CELL = 64
"""Images smaller than this are shown enlarged by a whole factor."""
GAP = 2
MARGIN = 72
"""Pixels left of a row for its label, or more where the label is longer."""
FONT = 12
BACKGROUND = (255, 255, 255)
INK = (60, 60, 60)


def to_pil(image: NDArray[Any]) -> Image.Image:
    """A Pillow image from uint8 (C, H, W).

    1, 3 and 4 channels are grey, RGB and RGBA; of other numbers the first three are shown, or the
    first. Float images are scaled from their own range.
    """
    if image.dtype != np.uint8:
        low, high = float(np.min(image)), float(np.max(image))
        image = (255 * (image - low) / max(high - low, 1e-12)).astype(np.uint8)
    if len(image) not in (1, 3, 4):
        image = image[:3] if len(image) > 3 else image[:1]
    return from_array(image)


def pictured(samples: NDArray[Any]) -> NDArray[Any]:
    """Images (N, C, H, W) as they are; of samples on other grids what can be shown of them: of
    (N, C, D, H, W) the slice in the middle of D, of (N, C, L) the first channel as a curve."""
    if samples.ndim == 5:
        return samples[:, :, samples.shape[2] // 2]
    return _curves(samples[:, 0]) if samples.ndim == 3 else samples


def _curves(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(N, 1, CELL, width) from (N, L): black on white, each between its own least and largest."""
    wide = values.astype(np.float64).repeat(max(1, CELL // values.shape[1]), axis=1)
    known = np.nan_to_num(wide, posinf=0.0, neginf=0.0)
    low, high = known.min(1, keepdims=True), known.max(1, keepdims=True)
    level = (known - low) / np.maximum(high - low, 1e-12)
    row = ((1 - level) * (CELL - 1)).round().astype(np.int64)
    before = np.concatenate((row[:, :1], row[:, :-1]), axis=1)
    top, bottom = np.minimum(row, before), np.maximum(row, before)
    places = np.arange(CELL)[:, None]
    inked = (places >= top[:, None]) & (places <= bottom[:, None]) & np.isfinite(wide)[:, None]
    return np.where(inked, 0, 255).astype(np.uint8)[:, None]


def marked(label: str, drawn: Any) -> str:
    """A row's label, with how many of its samples (`Drawn`) are no pictures."""
    bad = drawn.not_finite + drawn.far
    return f"{label}  {bad} bad" if bad else label


def crossed(images: NDArray[Any], usable: NDArray[np.bool_]) -> NDArray[Any]:
    """Images (N, C, H, W) of which those that are no pictures (N,) are black with a white cross."""
    images = pictured(images)
    if usable.all():
        return images
    shown = images.copy()
    height, width = images.shape[2:]
    rows = np.arange(height)
    columns = rows * (width - 1) // max(1, height - 1)
    white = 255 if images.dtype == np.uint8 else np.nanmax(images[usable], initial=1.0)
    bad = np.flatnonzero(~usable)[:, None]
    shown[bad] = 0
    shown[bad, :, rows, columns] = white
    shown[bad, :, rows, width - 1 - columns] = white
    return shown


def grid(images: NDArray[Any], columns: int | None = None) -> Image.Image:
    """Images (N, C, H, W) in rows of `columns`, by default about a square; see `pictured`."""
    columns = columns or max(1, round(len(images) ** 0.5))
    starts = range(0, len(images), columns)
    return _sheet([("", images[start : start + columns]) for start in starts], margin=0)


def rows(labelled: Sequence[tuple[str, NDArray[Any]]], headings: Sequence[str] = ()) -> Image.Image:
    """One row of images (N, C, H, W) per label, with a heading over each column if given; see
    `pictured`."""
    font = ImageFont.load_default(size=FONT)
    longest = max(font.getlength(label) for label, _ in labelled)
    return _sheet(labelled, margin=max(MARGIN, round(longest) + 12), headings=headings)


def save_animation(path: Path, images: NDArray[Any], *, milliseconds: int = 120) -> None:
    """There and back through uint8 (N, C, H, W), without end: GIF or lossless WebP by the suffix.

    Raises:
        InputError: the folder cannot be written.
    """
    with replacing(path) as temporary:
        write_animation(temporary, images, path.suffix[1:].upper(), milliseconds=milliseconds)


def write_animation(
    file: Path | BinaryIO, images: NDArray[Any], kind: str, *, milliseconds: int = 120
) -> None:
    """`save_animation` to whatever is open; `kind` is GIF or WEBP."""
    frames = [grid(image[None]) for image in images]
    first, *others = [*frames, *frames[-2:0:-1]]
    first.save(
        file,
        format=kind,
        save_all=True,
        append_images=others,
        duration=milliseconds,
        loop=0,
        lossless=True,
    )


def save_png(path: Path, image: Image.Image) -> None:
    """Write a PNG, whole or not at all, which says that this package wrote it.

    Raises:
        InputError: the folder cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(signed_png(image))


def signed_png(image: Image.Image) -> bytes:
    """The file that `save_png` writes."""
    written_by, file = PngInfo(), io.BytesIO()
    written_by.add_text("Software", SOFTWARE)
    image.save(file, format="PNG", pnginfo=written_by)
    return file.getvalue()


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG in memory."""
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _sheet(
    labelled: Sequence[tuple[str, NDArray[Any]]], margin: int, headings: Sequence[str] = ()
) -> Image.Image:
    labelled = [(label, pictured(images)) for label, images in labelled]
    height, width = labelled[0][1].shape[2:]
    scale = max(1, -(-CELL // max(height, width)))
    step_x, step_y = width * scale + GAP, height * scale + GAP
    columns = max(len(images) for _, images in labelled)
    above = FONT + 8 if headings else 0
    size = (margin + columns * step_x + GAP, above + len(labelled) * step_y + GAP)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=FONT)
    for column, heading in enumerate(headings):
        middle = margin + GAP + column * step_x + width * scale / 2
        draw.text((middle, above / 2), heading, fill=INK, anchor="mm", font=font)
    for row, (label, images) in enumerate(labelled):
        top = above + GAP + row * step_y
        if label:
            draw.text((6, top + step_y / 2), label, fill=INK, anchor="lm", font=font)
        for column, image in enumerate(images):
            picture = to_pil(image).resize(
                (width * scale, height * scale), Image.Resampling.NEAREST
            )
            left = margin + GAP + column * step_x
            sheet.paste(picture.convert("RGBA"), (left, top), picture.convert("RGBA"))
    return sheet
