"""Image codecs, which need no model: PNG and lossless WebP."""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.images import from_array
from .baselines import Baseline
from .estimate import mean_and_error

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def png(images: NDArray[Any], bits: int | None = 8) -> Baseline:
    """Every image compressed by itself as PNG: 8 · (bytes of the file) / D, headers included.

    Args:
        images: uint8 of shape (N, C, H, W), with C one of 1, 3, 4.
        bits: bits per value; below 8 the quantised image, scaled back to 0..255, is compressed.
    """
    return _codec("PNG", images, bits, "", format="PNG", optimize=True)


def webp(images: NDArray[Any], bits: int | None = 8) -> Baseline:
    """Every image compressed by itself as lossless WebP: 8 · (bytes of the file) / D.

    Grey images are stored as RGB, which WebP needs, and counted per grey value.

    Args:
        images: uint8 of shape (N, C, H, W), with C one of 1, 3, 4.
        bits: bits per value; below 8 the quantised image, scaled back to 0..255, is compressed.
    """
    note = "; grey is stored as RGB" if images.shape[1] == 1 else ""
    options: dict[str, Any] = {"lossless": True, "quality": 100, "method": 6, "exact": True}
    return _codec("WebP lossless", images, bits, note, format="WEBP", **options)


def _codec(
    name: str, images: NDArray[Any], bits: int | None, note: str, **options: Any
) -> Baseline:
    channels = images.shape[1]
    if bits is None or images.dtype != np.uint8:
        return Baseline(name, None, None, "float data is not an image file")
    if channels not in _MODES:
        return Baseline(name, None, None, f"images of {channels} channels cannot be stored")
    if max(images.shape[2:]) > 16383:
        return Baseline(name, None, None, "images above 16,383 pixels cannot be stored")
    dims = math.prod(images.shape[1:])

    def size(image: NDArray[np.uint8]) -> int:
        scaled = (image >> (8 - bits)) << (8 - bits)
        file = io.BytesIO()
        from_array(scaled).save(file, **options)
        return file.tell()

    with ThreadPoolExecutor() as pool:  # the codecs release the interpreter lock
        sizes = list(pool.map(size, images))
    figures = 8.0 * np.asarray(sizes, dtype=np.float64) / dims
    return Baseline(name, *mean_and_error(figures), f"one file an image, headers included{note}")


def code_lengths(images: NDArray[Any], bits: int | None = 8) -> NDArray[np.float64] | None:
    """L(x): bits of the shortest lossless file of each image by itself, PNG or WebP, headers too.

    Args:
        images: uint8 (N, C, H, W).
        bits: bits per value; below 8 the quantised image is compressed.

    Returns:
        (N,), or None for float data and for images that no codec takes.
    """

    def shortest(image: NDArray[np.uint8]) -> float:
        found = (codec(image[None], bits).mean for codec in (png, webp))
        return min((mean * image.size for mean in found if mean is not None), default=math.nan)

    with ThreadPoolExecutor() as pool:  # the codecs release the interpreter lock
        lengths = np.array(list(pool.map(shortest, images)))
    return None if np.isnan(lengths).any() else lengths
