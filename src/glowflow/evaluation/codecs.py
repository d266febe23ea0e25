"""Image codecs, which need no model: PNG and lossless WebP."""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..photos.images import from_array
from .baselines import Baseline

PNG: dict[str, Any] = {"format": "PNG", "optimize": True}
WEBP: dict[str, Any] = {
    "format": "WEBP", "lossless": True, "quality": 100, "method": 6, "exact": True,
}  # fmt: skip
CHANNELS = (1, 3, 4)
"""Grey, RGB and RGBA."""
LARGEST = 16383
"""Pixels of a side: WebP's limit."""


def png(
    images: NDArray[Any], bits: int | None = 8, margins: NDArray[Any] | None = None
) -> Baseline:
    """Every image compressed by itself as PNG: 8 · (bytes of the file) / D, headers included.

    Args:
        images: uint8 of shape (N, C, H, W), with C one of 1, 3, 4.
        bits: bits per value; below 8 the quantised image, scaled back to 0..255, is compressed.
        margins: as in `Baseline.of`.
    """
    return _baseline("PNG", images, bits, PNG, "", margins)


def webp(
    images: NDArray[Any], bits: int | None = 8, margins: NDArray[Any] | None = None
) -> Baseline:
    """Every image compressed by itself as lossless WebP: 8 · (bytes of the file) / D.

    Grey images are stored as RGB, which WebP needs, and counted per grey value.

    Args:
        images: uint8 of shape (N, C, H, W), with C one of 1, 3, 4.
        bits: bits per value; below 8 the quantised image, scaled back to 0..255, is compressed.
        margins: as in `Baseline.of`.
    """
    note = "; grey is stored as RGB" if images.shape[1] == 1 else ""
    return _baseline("WebP lossless", images, bits, WEBP, note, margins)


def code_lengths(images: NDArray[Any], bits: int | None = 8) -> NDArray[np.float64] | None:
    """L(x): bits of the shortest lossless file of each image by itself, PNG or WebP, headers too.

    Args:
        images: uint8 (N, C, H, W).
        bits: bits per value; below 8 the quantised image is compressed.

    Returns:
        (N,), or None for float data and for images that no codec takes.
    """
    if bits is None or _refusal(images):
        return None
    shortest = np.minimum(*(_bits_per_dim(images, bits, codec) for codec in (PNG, WEBP)))
    lengths: NDArray[np.float64] = shortest * math.prod(images.shape[1:])
    return lengths


def _baseline(
    name: str,
    images: NDArray[Any],
    bits: int | None,
    codec: dict[str, Any],
    note: str,
    margins: NDArray[Any] | None,
) -> Baseline:
    refusal = "float data is not an image file" if bits is None else _refusal(images)
    if bits is None or refusal:
        return Baseline(name, None, None, refusal)
    figures = _bits_per_dim(images, bits, codec)
    return Baseline.of(name, figures, f"one file an image, headers included{note}", margins)


def _refusal(images: NDArray[Any]) -> str:
    """Why a codec does not take the images; empty if it does."""
    channels, *sides = images.shape[1:]
    if images.dtype != np.uint8:
        return "float data is not an image file"
    if channels not in CHANNELS:
        return f"images of {channels} channels cannot be stored"
    if max(sides) > LARGEST:
        return f"images above {LARGEST:,} pixels cannot be stored"
    return ""


def _bits_per_dim(
    images: NDArray[np.uint8], bits: int, codec: dict[str, Any]
) -> NDArray[np.float64]:
    """(N,)."""

    def size(image: NDArray[np.uint8]) -> int:
        scaled = (image >> (8 - bits)) << (8 - bits)
        file = io.BytesIO()
        from_array(scaled).save(file, **codec)
        return file.tell()

    with ThreadPoolExecutor() as pool:  # the codecs release the interpreter lock
        sizes = list(pool.map(size, images))
    return 8.0 * np.asarray(sizes, dtype=np.float64) / math.prod(images.shape[1:])
