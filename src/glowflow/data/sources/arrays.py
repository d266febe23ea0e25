"""Arrays of NumPy files."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...photos.images import refit
from ..config import DataConfig
from ..types import Source

IMAGE_KEYS = ("images", "x", "data", "arr_0")
LABEL_KEYS = ("labels", "y")


def array_source(path: Path, config: DataConfig) -> Source:
    """Images of an .npy file, or of an .npz file with `images` (or x, data) and `labels` (or y).

    Axes may be (N, H, W), (N, C, H, W) or (N, H, W, C): the last axis is taken for channels if it
    is 1, 3 or 4 and the second is none of these, or larger. uint8 arrays are bytes of
    images; float arrays become float32 and are neither scaled nor dequantised.

    Raises:
        InputError: the file is damaged, or the array is of another type or shape, or empty, or has
            values that are not finite.
    """
    images, labels = _load(path)
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise InputError(
            f"The array in {path} is {images.dtype}: give uint8 images (0 to 255) or floats."
        )
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise InputError(
            f"The array in {path} has shape {images.shape}: give (N, H, W), (N, C, H, W) or "
            "(N, H, W, C), with at least one of each."
        )
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[3] in (1, 3, 4) and not (
        images.shape[1] in (1, 3, 4) and images.shape[1] <= images.shape[3]
    ):
        images = images.transpose(0, 3, 1, 2)
    shape = (config.channels or images.shape[1], *(config.size or images.shape[2:]))
    is_float = images.dtype != np.uint8
    if is_float:
        _require_finite(images, path)
    if shape != images.shape[1:] and (is_float or images.shape[1] not in (1, 3, 4)):
        raise InputError(
            f"The array in {path} has images of shape {images.shape[1:]} and {shape} is asked for: "
            "only uint8 images with 1, 3 or 4 channels can be converted."
        )

    def read(index: int) -> NDArray[Any]:
        image = images[index]
        if is_float:
            return image.astype(np.float32)
        return refit(image, shape, config.fit, config.upscale, f"{path}[{index}]")

    return Source(
        title=str(path.name),
        shape=shape,
        dtype="float32" if is_float else "uint8",
        names=tuple(map(str, range(len(images)))),
        read=read,
        labels=labels,
    )


def _load(path: Path) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            keys = [key for key in IMAGE_KEYS if key in loaded] or list(loaded)
            if not keys:
                raise InputError(f"{path} has no array in it.")
            images = loaded[keys[0]]
            label_keys = [key for key in LABEL_KEYS if key in loaded and key != keys[0]]
            labels = loaded[label_keys[0]] if label_keys else None
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Cannot read {path}: it is damaged, or holds Python objects ({error}); "
            "save a plain array with numpy.save."
        ) from error
    if labels is None:
        return images, None
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"The labels in {path} are {labels.dtype} {labels.shape}: give one integer per image "
            f"({images.shape[0]})."
        )
    if len(labels) and labels.min() < 0:
        raise InputError(f"The labels in {path} go down to {labels.min()}: give 0 or more.")
    return images, labels.astype(np.int64)


def _require_finite(images: NDArray[Any], path: Path) -> None:
    bad = 0
    first = -1
    for index, image in enumerate(images):
        count = int((~np.isfinite(image)).sum())
        bad += count
        if count and first < 0:
            first = index
    if bad:
        raise InputError(
            f"The array in {path} has {bad} values that are NaN or infinite, the first in image "
            f"{first}: mend or remove them."
        )
