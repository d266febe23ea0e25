"""One image file to one uint8 array."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from ..errors import InputError, in_one_line

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
ALIGNED = (178, 218)
"""Width and height of CelebA's aligned faces."""
CROP = (15, 40, 163, 188)
"""Left, top, right and bottom of the square that is used of them: rows 40:188, columns 15:163."""


class UnreadableImageError(Exception):
    """One image is broken; the others may be fine."""


class Seen(NamedTuple):
    """What an image was before it was made to fit."""

    frames: int
    """Of the file: an animation or several pages."""
    values_inside: int
    """As the function of that name."""
    highest: float | None
    """Largest value, where pixels have more than 8 bits."""
    white: float = 255.0
    """Value that became 255."""
    guessed: bool = False
    """Whether that was told from the values of this image alone."""


class SmallImageError(InputError):
    """One image is smaller than what is asked for, and is not to be enlarged."""

    def __init__(self, name: str, have: tuple[int, int], wanted: tuple[int, int]) -> None:
        self.name, self.have, self.wanted = name, have, wanted
        super().__init__(
            f"The image {name} is {have[0]}x{have[1]}, smaller than the {wanted[0]}x{wanted[1]} "
            "that is asked for: choose a smaller --size, or add --upscale, or --skip-small."
        )


def read_image(
    path: Path,
    shape: tuple[int, int, int],
    *,
    fit: str = "crop",
    upscale: bool = False,
    aligned: bool = False,
    source_range: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """Read an image file as uint8 (C, H, W).

    Args:
        path: png, jpg, webp or what else Pillow reads.
        shape: channels (1, 3 or 4), height, width.
        fit: `crop` the centre, `stretch`, or `pad`.
        upscale: enlarge smaller images.
        aligned: cut images of 178x218 to CelebA's square first, where `fit` is `crop`.
        source_range: as in `decode`.

    Raises:
        InputError: the file is missing, broken, or smaller than `shape`.
    """
    if not path.is_file():
        raise InputError(f"There is no image {path}: give an image file.")
    try:
        how: Any = {"aligned": aligned, "source_range": source_range}
        return decode(path, shape, fit, upscale, **how)
    except UnreadableImageError as error:
        raise InputError(f"Cannot read the image {path}: {error}.") from error


def read_photo(
    path: Path, channels: int, source_range: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """A photograph in its own size, as uint8 (C, H, W); `source_range` as in `decode`.

    Raises:
        InputError: it is missing or broken.
    """
    if not path.is_file():
        raise InputError(f"There is no image {path}: give an image file.")
    try:
        return decode_whole(path, channels, source_range=source_range)
    except UnreadableImageError as error:
        raise InputError(f"Cannot read the image {path}: {error}.") from error


def decode(
    file: Path | BinaryIO,
    shape: tuple[int, int, int],
    fit: str,
    upscale: bool,
    name: str = "",
    *,
    aligned: bool = False,
    frame: int = 0,
    source_range: tuple[float, float] | None = None,
    seen: Callable[[Seen], None] | None = None,
) -> NDArray[np.uint8]:
    """Decode, honour the EXIF rotation, convert, fit and resize.

    Args:
        file: a path, or an open file.
        shape: channels, height, width.
        fit: `crop`, `stretch` or `pad`.
        upscale: enlarge smaller images.
        name: what to call an open file in the message of an error.
        aligned: cut images of 178x218 to CelebA's square first, where `fit` is `crop`.
        frame: which one, of an animation or a file of several pages.
        source_range: values that become 0 and 255, of images that have more than 8 bits.
        seen: is told what the image was.

    Raises:
        UnreadableImageError: the file is broken.
        SmallImageError: the image is smaller than `shape` and not to be enlarged.
    """
    channels, height, width = shape
    image, frames, deep = _open(file, channels, frame, source_range)
    if aligned and fit == "crop" and image.size == ALIGNED:
        image = image.crop(CROP)
    if seen is not None:
        seen(Seen(frames, values_inside(image.size, shape, fit), *deep))
    return to_array(resize(image, height, width, fit, upscale, name or str(file)))


def decode_whole(
    file: Path | BinaryIO,
    channels: int,
    *,
    frame: int = 0,
    source_range: tuple[float, float] | None = None,
    seen: Callable[[Seen], None] | None = None,
) -> NDArray[np.uint8]:
    """Decode as `decode` does, with its args, (C, H, W) in the image's own size.

    Raises:
        UnreadableImageError: the file is broken.
        InputError: there is no such number of channels.
    """
    image, frames, deep = _open(file, channels, frame, source_range)
    if seen is not None:
        seen(Seen(frames, channels * image.width * image.height, *deep))
    return to_array(image)


def header_size(file: Path | BinaryIO) -> tuple[int, int]:
    """Height and width as shown, from an image's header; zeros where it cannot be read."""
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # what is broken is told of when it is read
        return 0, 0


def _open(
    file: Path | BinaryIO, channels: int, frame: int, source_range: tuple[float, float] | None
) -> tuple[Image.Image, int, tuple[float | None, float, bool]]:
    """The image, how many frames the file has, and of its values the last fields of `Seen`."""
    if channels not in MODES:
        raise InputError(f"Image files have 1, 3 or 4 channels, and the model has {channels}.")
    try:
        with Image.open(file) as opened:
            frames = int(getattr(opened, "n_frames", 1))
            if frame:
                opened.seek(frame)
            highest, white, guessed = None, 255.0, False
            if opened.mode.startswith(("I", "F")):
                highest = float(np.max(np.asarray(opened)))
                declared = source_range or _declared_range(opened)
                white = declared[1] if declared else _white(opened.mode, highest)
                guessed = opened.mode == "I" and declared is None
            elif _is_deep(opened):
                if source_range is not None:
                    raise UnreadableImageError(
                        "its colours have 16 bits, of which the upper 8 are read, so that "
                        "--source-range cannot be used: save it with 8 bits"
                    )
                highest, white = 257.0 * float(np.max(np.asarray(opened))), 65535.0
            picture = from_pillow(opened, channels, source_range)
            return picture, frames, (highest, white, guessed)
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow raises whatever its decoders raise
        raise UnreadableImageError(in_one_line(error)) from error


def from_pillow(
    image: Image.Image, channels: int, source_range: tuple[float, float] | None = None
) -> Image.Image:
    """Rotated as its EXIF data say, and converted to 8 bits and 1, 3 or 4 channels.

    Raises:
        UnreadableImageError: its file is broken.
        InputError: there is no such number of channels.
    """
    if channels not in MODES:
        raise InputError(f"Image files have 1, 3 or 4 channels, and the model has {channels}.")
    largest = source_range or _declared_range(image)
    try:
        image.load()
        return convert(_rotated(image), channels, largest)
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow raises whatever its decoders raise
        raise UnreadableImageError(in_one_line(error)) from error


def values_inside(size: tuple[int, int], shape: tuple[int, int, int], fit: str) -> int:
    """How many of the C·H·W values of `shape` are those of an image of this width and height, and
    not of the margin that `pad` puts around it."""
    channels, height, width = shape
    inside = padded_size(*size, height, width) if fit == "pad" else (width, height)
    return channels * inside[0] * inside[1]


def values_of(
    size: Sequence[int], shape: tuple[int, int, int], fit: str, count: int
) -> NDArray[np.int64] | None:
    """`values_inside` of `count` images of one size (height, width); None unless `fit` is `pad`."""
    if fit != "pad":
        return None
    return np.full(count, values_inside((size[1], size[0]), shape, fit), dtype=np.int64)


def refit(
    image: NDArray[np.uint8],
    shape: tuple[int, int, int],
    fit: str,
    upscale: bool,
    name: str,
    *,
    aligned: bool = False,
) -> NDArray[np.uint8]:
    """Convert and resize uint8 (C, H, W) as `decode` does a file, where its shape is another one.

    Raises:
        SmallImageError: the image is smaller than `shape` and not to be enlarged.
        InputError: it has another number of channels than 1, 3 or 4.
    """
    if image.shape == shape:
        return image
    if len(image) not in MODES or shape[0] not in MODES:
        raise InputError(
            f"The image {name} is {image.shape} and {shape} is asked for: only images with 1, 3 or "
            "4 channels are converted."
        )
    picture = convert(from_array(image), shape[0])
    if aligned and fit == "crop" and picture.size == ALIGNED:
        picture = picture.crop(CROP)
    return to_array(resize(picture, shape[1], shape[2], fit, upscale, name))


def _is_deep(image: Image.Image) -> bool:
    """Whether the colours have 16 bits, of which Pillow takes the upper 8."""
    tiles: Any = getattr(image, "tile", ())
    return any(";16" in str(tile[3]) for tile in tiles) and image.mode in ("RGB", "RGBA")


def _white(mode: str, highest: float) -> float:
    """Of a file that says nothing of its range."""
    return 255.0 if mode == "I" and highest <= 255 else 65535.0


def _rotated(image: Image.Image) -> Image.Image:
    """As the EXIF data say, if they can be read."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data: the pixels may be fine
        return image


def _declared_range(image: Image.Image) -> tuple[float, float] | None:
    """What a TIFF says of its smallest and largest value."""
    tags: Any = getattr(image, "tag_v2", {})
    try:
        high = float(np.max(tags[281]))
        low = float(np.min(tags.get(280, 0)))
    except (KeyError, TypeError, ValueError):
        return None
    return (low, high) if high > low else None


def convert(
    image: Image.Image, channels: int, source_range: tuple[float, float] | None = None
) -> Image.Image:
    """To 8-bit grey, RGB or RGBA; transparency becomes white where there is no alpha channel.

    Of grey images with more than 8 bits `source_range` becomes 0 to 255; by default 0 to 65,535, or
    0 to 255 where 32-bit integers go no higher.

    Raises:
        UnreadableImageError: the pixels are floats, and no range is given.
    """
    if image.mode.startswith("I") or (image.mode == "F" and source_range is not None):
        values = np.asarray(image).astype(np.float64)
        high = _white(image.mode, float(values.max()))
        image = Image.fromarray(to_bytes(values, source_range or (0.0, high)))
    elif image.mode == "F":
        raise UnreadableImageError(
            "its pixels are 32-bit floats: say with --source-range LOW HIGH what is black and white"
        )
    if channels == 4:
        return image.convert("RGBA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB").convert(MODES[channels])


def to_bytes(values: NDArray[Any], source_range: tuple[float, float]) -> NDArray[np.uint8]:
    """LOW to 0 and HIGH to 255, what is outside to the nearer end."""
    low, high = source_range
    scaled = (np.asarray(values, dtype=np.float64) - low) * (255.0 / (high - low))
    return np.floor(np.nan_to_num(scaled).clip(0, 255) + 0.5).astype(np.uint8)


def resize(
    image: Image.Image, height: int, width: int, fit: str, upscale: bool, name: str
) -> Image.Image:
    """Crop the centre to the aspect ratio (or stretch, or pad), and average over areas.

    `patches` takes the centre at the image's own resolution.

    Area averaging is exact for whole factors and never overshoots. Enlarging is bicubic. Padding
    puts the image in the middle of black; what does not fit is made smaller, nothing is enlarged.

    Raises:
        SmallImageError: the image would have to be enlarged, and `upscale` is false.
    """
    have_width, have_height = image.size
    if fit == "pad":
        inside = padded_size(have_width, have_height, height, width)
        if inside != image.size:
            image = image.resize(inside, Image.Resampling.BOX)
        padded = Image.new(image.mode, (width, height))
        padded.paste(image, ((width - inside[0]) // 2, (height - inside[1]) // 2))
        return padded
    box = (0.0, 0.0, float(have_width), float(have_height))
    if fit in ("crop", "patches"):
        scale = min(have_width / width, have_height / height)
        if fit == "patches" and scale >= 1.0:
            corner = (have_width - width) // 2, (have_height - height) // 2
            return image.crop((*corner, corner[0] + width, corner[1] + height))
        wide = min(width * scale, float(have_width))  # which rounding may exceed
        high = min(height * scale, float(have_height))
        left, top = (have_width - wide) / 2, (have_height - high) / 2
        box = (left, top, left + wide, top + high)
    if have_width < width or have_height < height:
        if not upscale:
            raise SmallImageError(name, (have_height, have_width), (height, width))
        return image.resize((width, height), Image.Resampling.BICUBIC, box)
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BOX, box)


def padded_size(have_width: int, have_height: int, height: int, width: int) -> tuple[int, int]:
    """Width and height of an image inside of its margins."""
    scale = min(1.0, width / have_width, height / have_height)
    return max(1, round(have_width * scale)), max(1, round(have_height * scale))


def to_array(image: Image.Image) -> NDArray[np.uint8]:
    """(C, H, W) from a Pillow image."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def from_array(array: NDArray[Any]) -> Image.Image:
    """A Pillow image from uint8 (C, H, W) with 1, 3 or 4 channels."""
    return Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))
