"""Image files as the model sees them, and back into the photographs they are from."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.inputs import in_short
from ..errors import InputError
from ..models.config import picture_shape
from ..models.flow import ImageFlow
from ..models.likelihood import bits_per_dim
from ..models.training_data import TrainingData
from ..photos.crops import Crop, box, cut, paste, whole
from ..photos.faces import find_face
from ..photos.images import read_photo
from ..progress import printable
from .model_data import say
from .options import PhotoOptions


@dataclass(frozen=True)
class Photo:
    """An image file, and the part of it that the model sees."""

    path: Path
    seen: NDArray[np.uint8]
    """(C, H, W) as the model takes it."""
    original: NDArray[np.uint8] | None
    """The photograph in its own size, where it is needed."""
    crop: Crop | None

    def pasted(self, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The photograph with the change from `before` to `after` in it."""
        if self.original is None or self.crop is None:
            raise InputError(f"The photograph {self.path} was not kept: read it with `paste`.")
        return paste(self.original, self.crop, before, after)


def read_photos(paths: tuple[Path, ...], model: ImageFlow, options: PhotoOptions) -> list[Photo]:
    """Read, align or crop, and resize to the model's shape.

    Raises:
        InputError: an image is missing, broken or too small, the model is for float data, or the
            options do not go together.
    """
    if model.config.bits is None:
        raise InputError("This model is for float data: it does not take image files.")
    if options.align and options.crop is not None:
        raise InputError("Give --align or --crop, not both.")
    if options.fit not in (None, "crop") and (options.align or options.crop is not None):
        raise InputError(
            f"--fit is {options.fit}, and --align or --crop says what is taken: leave --fit out."
        )
    shape = picture_shape(model.config.image_shape)
    place = None if options.crop in (None, "center") else _place(str(options.crop), shape)
    fit, known = _fit(model, options), model.trained_on or TrainingData()
    upscale = options.upscale or known.upscale
    photos = []
    for path in paths:
        by_hand = options.align or options.crop is not None
        if not by_hand and not (options.paste and fit == "crop"):
            seen = model.prepare(path, fit=fit, upscale=options.upscale or None)[0].numpy()
            original, crop = None, None
            if options.paste:
                original = read_photo(path, shape[0], known.source_range)
                crop = whole(original, shape, fit, known.aligned)
            photos.append(Photo(path, seen, original, crop))
            continue
        original = read_photo(path, shape[0], known.source_range)
        if options.align:
            if shape[1] != shape[2]:
                raise InputError(f"--align cuts squares, and this model's images are {shape}.")
            crop = find_face(original, str(path))
        else:
            crop = place or whole(original, shape, "crop", known.aligned)
        _require_large(crop, original, path, shape, upscale)
        if options.align or place is not None:
            seen = cut(original, crop, shape)
        else:
            seen = model.prepare(path, fit="crop", upscale=options.upscale or None)[0].numpy()
        photos.append(Photo(path, seen, original, crop))
    return photos


def _fit(model: ImageFlow, options: PhotoOptions) -> str:
    """The fit that is asked for, or that of the training images."""
    known = model.trained_on
    if options.fit is not None and known is not None and options.fit != known.fit:
        say(
            f"The images are read with --fit {options.fit}; the model was trained with {known.fit}."
        )
    if options.fit is None and known is None and not (options.align or options.crop):
        say(
            "The model does not say how its training images became "
            f"{model.config.image_shape}: these are cropped; --fit says otherwise."
        )
    return options.fit or (known.fit if known is not None else "crop")


def as_the_model_sees(model: ImageFlow, photos: list[Photo]) -> tuple[Tensor, Tensor]:
    """x at the centre of each byte's bin on the model's device, and the bytes in the model's bits.

    Returns:
        x (N, C, H, W), and uint8 of the same shape on the CPU.
    """
    x = model.to_float(torch.from_numpy(np.stack([p.seen for p in photos])), noise="center")
    return x.to(model.device), model.to_images(x)


def label_of(model: ImageFlow, label: str | None, count: int, flag: str) -> Tensor | None:
    """`count` times the label, for a class-conditional model, on its device.

    Raises:
        InputError: the model has classes and there is no label, or it has no such class.
    """
    classes = model.config.classes
    names = () if model.trained_on is None else model.trained_on.class_names
    known = in_short(names) if names else f"0 to {classes - 1}"
    if label is None and not classes:
        return None
    if label is None:
        raise InputError(
            f"This model has {classes} classes ({known}): say with {flag} which one it is."
        )
    if not classes:
        raise InputError(f"{flag} is {label}, and this model has 0 classes: leave {flag} out.")
    if label in names:
        number = names.index(label)
    elif label.isascii() and label.isdigit() and int(label) < classes and not _numbers(names):
        number = int(label)
    else:
        raise InputError(f"{flag} is {label}, and this model has no such class: give {known}.")
    if model.trained_on is not None and label in model.trained_on.unseen_classes:
        say(f"No image of class {label} was trained on: the model knows nothing of it.")
    return torch.full((count,), number, device=model.device)


def _numbers(names: tuple[str, ...]) -> bool:
    """Whether classes are called by numbers: these are then not their positions."""
    return bool(names) and all(name.lstrip("-").isdigit() for name in names)


def own_names(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """A file name for each image, without a suffix, that no other one has.

    They are the images' own; where two would fall on one another, also in a folder that knows no
    capitals, or on one of `taken`, all are numbered.
    """
    names = [plain_name(path.stem) for path in paths]
    small = [name.casefold() for name in names]
    if len(set(small)) < len(small) or set(small) & set(taken):
        return [f"{number:04d}-{name}" for number, name in enumerate(names)]
    return names


def plain_name(name: str) -> str:
    """A name for a file or folder: short enough, and of characters that are safe in one."""
    bad = '/\\:*?"<>|'
    safe = "".join("_" if c in bad or ord(c) < 32 else c for c in printable(name)).strip(". ")
    while len(safe.encode()) > 120:
        safe = safe[:-1]
    return safe or "_"


def bits_per_dim_of(model: ImageFlow, x: Tensor, label: Tensor | None) -> float:
    """Bits/dim of one x (1, C, H, W) as it is, without noise."""
    with torch.no_grad():
        log_prob = model.log_prob(x, label)
    return float(bits_per_dim(log_prob, math.prod(model.config.image_shape), model.config.bits))


def _place(text: str, shape: tuple[int, int, int]) -> Crop:
    try:
        left, top, size = (float(part) for part in text.split(","))
    except ValueError:
        left = top = size = float("nan")
    if not (np.isfinite([left, top, size]).all() and size > 0):
        raise InputError(
            f"--crop is {text!r}: give center, or x,y,size in pixels as in 120,40,300."
        )
    return box(left, top, size, size * shape[1] / shape[2])


def _require_large(
    crop: Crop,
    photo: NDArray[np.uint8],
    path: Path,
    shape: tuple[int, int, int],
    upscale: bool,
) -> None:
    _, have_height, have_width = photo.shape
    x, y = crop.place(np.array([0.5, 0.5]))
    if not (0 <= x <= have_width and 0 <= y <= have_height):
        raise InputError(
            f"The middle of the crop is outside of {path}, which is {have_width} wide and "
            f"{have_height} high: give another --crop."
        )
    width, height = crop.size
    if not upscale and (width < shape[2] - 0.5 or height < shape[1] - 0.5):
        raise InputError(
            f"The crop of {path} is {height:.0f}x{width:.0f}, smaller than the "
            f"{shape[1]}x{shape[2]} that the model takes: give a larger image, or add --upscale."
        )
