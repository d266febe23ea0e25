"""What was done to the images that a model was trained on: the section `data` of `config.json`."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..checks import require_choice
from ..errors import InputError
from ..files import path_of
from ..photos.fit import Fit
from ..photos.images import UnreadableImageError, from_pillow, read_image, refit, to_array

AxisOrder = Literal["NHW", "NCHW", "NHWC"]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a model's training images were, and how they became arrays of the model's shape.

    New images are to be treated alike: `ImageFlow.prepare` does so, and every command. A field that
    an earlier version did not write has its default.
    """

    source: str = ""
    """What `--data` was."""
    layout: str = ""
    """What that was recognised as."""
    dataset: str = ""
    """The published data set that the images are, unaltered; empty for others."""
    size: tuple[int, int] | None = None
    """Height and width; None of data on a grid of one or three axes."""
    channels: int | None = None
    """1 grey, 3 RGB, 4 RGBA; other numbers for arrays."""
    fit: str = "crop"
    """How an image became that size: `crop`, `stretch`, `pad`, or cut into `patches`."""
    upscale: bool = False
    """Whether smaller images were enlarged."""
    aligned: bool = False
    """Whether images of 178x218 were cut to the square that is used of CelebA's aligned faces."""
    source_range: tuple[float, float] | None = None
    """Values that became 0 and 255, where more than 8 bits were read; None for the default."""
    dtype: str = "uint8"
    """`uint8`, or `float32` or `float64` for data that are not bytes of images."""
    value_range: tuple[float, float] | None = None
    """Smallest and largest value of all images."""
    bits: int | None = 8
    """Bits per value that the model sees; None for float data."""
    class_names: tuple[str, ...] = ()
    unseen_classes: tuple[str, ...] = ()
    """Those of which no image was trained on."""
    """Name of each class, by its number."""
    attribute_names: tuple[str, ...] = ()
    split: str = ""
    """Whose the split is: `published`, `hash` (of each name), `shuffle`; empty where unknown."""
    held_out: float | None = None
    """Share of a split that is not published."""
    images: tuple[int, int, int] | None = None
    """How many to train on, to validate and to test."""
    checksum: str = ""
    """SHA-256 of the array that was trained on."""
    target: str = ""
    """Which array of the file that was; empty where the file has one."""

    def to_dict(self) -> dict[str, Any]:
        """The section of `config.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> "TrainingData":
        """The section as it was written; what a later version added is passed over.

        Raises:
            InputError: a field is of another type.
        """
        if not isinstance(section, Mapping):
            raise InputError(f"data is {section!r}: give a section.")
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            if field.name not in section:
                continue
            value, default = section[field.name], field.default
            value = tuple(value) if isinstance(value, list) else value
            if isinstance(default, (str, bool)) and type(value) is not type(default):
                raise InputError(
                    f"data.{field.name} is {value!r}: give a {type(default).__name__}."
                )
            if field.name in _OPTIONAL and not _OPTIONAL[field.name].takes(value):
                raise InputError(f"data.{field.name} is {value!r}: give {_OPTIONAL[field.name]}.")
            if isinstance(default, tuple) and not (
                isinstance(value, tuple) and all(isinstance(each, str) for each in value)
            ):
                raise InputError(f"data.{field.name} is {value!r}: give a list of names.")
            values[field.name] = value
        require_choice("data.fit", values.get("fit", "crop"), Fit)
        return cls(**values)


@dataclass(frozen=True)
class _Numbers:
    """What a field is that may be unknown: one number, or a tuple of so many."""

    kind: type
    count: int | None = None

    def __str__(self) -> str:
        noun = "whole number" if self.kind is int else "number"
        return (
            f"a {noun}" if self.count is None else f"{ {2: 'two', 3: 'three'}[self.count] } {noun}s"
        )

    def takes(self, value: Any) -> bool:
        """Whether the value is that, or None."""
        if value is None:
            return True
        if isinstance(value, tuple) != (self.count is not None):
            return False
        each = value if isinstance(value, tuple) else (value,)
        kinds = int if self.kind is int else (int, float)
        return len(each) == (self.count or 1) and all(
            isinstance(one, kinds) and not isinstance(one, bool) for one in each
        )


_OPTIONAL = {
    "size": _Numbers(int, 2),
    "channels": _Numbers(int),
    "source_range": _Numbers(float, 2),
    "value_range": _Numbers(float, 2),
    "bits": _Numbers(int),
    "held_out": _Numbers(float),
    "images": _Numbers(int, 3),
}


def size_of(shape: Sequence[int]) -> tuple[int, int] | None:
    """The `size` of data of this shape, (channels, *grid)."""
    return (shape[1], shape[2]) if len(shape) == 3 else None


Picture = str | Path | Image.Image | NDArray[Any] | Tensor


def prepare(
    images: Picture | Sequence[Picture],
    shape: tuple[int, int, int],
    data: TrainingData,
    *,
    axes: AxisOrder | None = None,
) -> Tensor:
    """Images of any size as a model of `shape` (C, H, W) takes them: `ImageFlow.prepare`."""
    if isinstance(images, (str, Path, Image.Image)):
        images = [images]
    if not isinstance(images, (np.ndarray, Tensor)) and not len(images):
        raise InputError("There are no images: give at least one.")
    if isinstance(images, (np.ndarray, Tensor)):
        return _from_array(images, shape, data, axes)
    return torch.cat(
        [_one(image, number, shape, data, axes) for number, image in enumerate(images)]
    )


def _one(
    image: Picture,
    number: int,
    shape: tuple[int, int, int],
    data: TrainingData,
    axes: AxisOrder | None,
) -> Tensor:
    if isinstance(image, (np.ndarray, Tensor)):
        return _from_array(image[None], shape, data, axes)
    if data.dtype != "uint8":
        raise InputError("This model is for float data: give arrays, not image files.")
    how: Any = {"fit": data.fit, "upscale": data.upscale, "aligned": data.aligned}
    if isinstance(image, Image.Image):
        try:
            picture = to_array(from_pillow(image, shape[0], data.source_range))
        except UnreadableImageError as error:
            raise InputError(f"Cannot read the image number {number}: {error}.") from error
        seen = refit(picture, shape, name=f"number {number}", **how)
    else:
        path = path_of(image)
        seen = read_image(path, shape, source_range=data.source_range, **how)
    return torch.from_numpy(np.array(seen))[None]


def _from_array(
    images: NDArray[Any] | Tensor,
    shape: tuple[int, int, int],
    data: TrainingData,
    axes: AxisOrder | None,
) -> Tensor:
    if isinstance(images, Tensor):
        narrow = images.dtype == torch.bfloat16  # which NumPy does not know
        images = images.detach().cpu()
        array = (images.float() if narrow else images).numpy()
    else:
        array = images
    array = channels_first(array, shape, axes)
    if data.dtype != "uint8":
        if not np.issubdtype(array.dtype, np.floating) or array.shape[1:] != shape:
            raise InputError(
                f"The images are {array.dtype} {array.shape}: this model takes floats "
                f"(batch, {', '.join(map(str, shape))})."
            )
        return torch.from_numpy(np.ascontiguousarray(array))
    if array.dtype != np.uint8:
        raise InputError(
            f"The images are {array.dtype}: this model was trained on bytes, give uint8 (0 to 255)."
        )
    pictures = [
        refit(image, shape, data.fit, data.upscale, f"number {i}", aligned=data.aligned)
        for i, image in enumerate(array)
    ]
    return torch.from_numpy(np.stack(pictures)) if pictures else torch.empty(0, *shape).byte()


def channels_first(
    array: NDArray[Any], shape: tuple[int, int, int], axes: AxisOrder | None = None
) -> NDArray[Any]:
    """(N, C, H, W) from images whose axes are `axes`, or from what has the channels of `shape`,
    (C, H, W), in one place.

    Raises:
        InputError: the axes are not those of images, or both readings fit.
    """
    channels = shape[0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3 and axes in ("NCHW", "NHWC"):
        array = array[None]
    elif array.ndim == 3 and axes is None:
        own = {1, 3, 4, channels}
        if array.shape[2] in own and array.shape[1:] == shape[1:]:
            raise InputError(
                f"The images are {array.shape}, and the last axis may be channels or the width: "
                "say with axes NHWC for one image, or NHW for grey ones."
            )
        first = channels > 1 and array.shape[0] in own - {1}
        if first:  # one image, or as many grey ones
            raise InputError(
                f"The images are {array.shape}, and the first axis may be the channels or the "
                "images: say with axes NCHW for one image, NHW for grey ones, or NHWC."
            )
        if array.shape[2] in own:
            array, axes = array[None], "NHWC"
    if array.ndim == 3 and axes in (None, "NHW"):
        return array[:, None]
    if array.ndim == 4 and axes is None:
        first, last = array.shape[1] == channels, array.shape[3] == channels
        if first and last:
            raise InputError(
                f"The images are {array.shape}, and either axis may be the channels: say which "
                "with axes NCHW or NHWC."
            )
        axes = "NCHW" if first else "NHWC" if last or array.shape[3] in (1, 3, 4) else "NCHW"
    if array.ndim != 4 or axes == "NHW":
        raise InputError(
            f"The images are {array.shape}: give (N, H, W), (N, C, H, W) or (N, H, W, C)."
        )
    return array.transpose(0, 3, 1, 2) if axes == "NHWC" else array
