"""Image codecs, which need no model: PNG, lossless WebP and JPEG XL."""

import io
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..photos.images import from_array
from ..progress import with_bar
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


def of_large_images(
    images: Sequence[NDArray[Any]], bits: int | None, what: str, *, progress: bool = True
) -> list[Baseline]:
    """All codecs of a few images (C, H, W) of any size: 8 · (bytes of the files) / values.

    JPEG XL stands among them where there is its program `cjxl`, with effort 9 below a million
    pixels and 7 above; without a figure, where the program fails.

    Args:
        images: uint8.
        bits: as of `png`; None for float data, of which there are no image files.
        what: the images are, in words.
        progress: show a bar on stderr.
    """
    if bits is None or not images or any(_refusal(image[None]) for image in images):
        return []
    values = sum(image.size for image in images)
    codecs: list[tuple[str, Callable[[NDArray[np.uint8]], float]]] = [
        ("PNG", lambda image: _file_size(image, bits, PNG)),
        ("WebP lossless", lambda image: _file_size(image, bits, WEBP)),
    ]
    if shutil.which("cjxl"):
        codecs.append(("JPEG XL lossless", lambda image: _jpeg_xl_size(image, bits)))
    totals: dict[str, float] = dict.fromkeys((name for name, _ in codecs), 0)
    with ThreadPoolExecutor() as pool:
        for image in with_bar(images, "coding files", count=len(images), visible=progress):
            sizes = pool.map(lambda codec, image=image: codec[1](image), codecs)
            for (name, _), size in zip(codecs, sizes, strict=True):
                totals[name] += size
    return [
        Baseline(f"{name}, {what}", 8.0 * total / values, None, "headers included")
        if math.isfinite(total)
        else Baseline(f"{name}, {what}", None, None, "its program failed")
        for name, total in totals.items()
    ]


def _jpeg_xl_size(image: NDArray[np.uint8], bits: int) -> float:
    """Bytes of the file that `cjxl` makes; infinity if it makes none."""
    effort = "9" if image[0].size < 1_000_000 else "7"
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "image.png"), Path(folder, "image.jxl")
        from_array(_quantised(image, bits)).save(before, compress_level=1)
        command = ["cjxl", str(before), str(after), "-d", "0", "-e", effort]
        try:
            subprocess.run(command, check=True, capture_output=True)
            return after.stat().st_size
        except (OSError, subprocess.CalledProcessError):
            return math.inf


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
        return _file_size(image, bits, codec)

    with ThreadPoolExecutor() as pool:  # the codecs release the interpreter lock
        sizes = list(pool.map(size, images))
    return 8.0 * np.asarray(sizes, dtype=np.float64) / math.prod(images.shape[1:])


def _file_size(image: NDArray[np.uint8], bits: int, codec: dict[str, Any]) -> int:
    file = io.BytesIO()
    from_array(_quantised(image, bits)).save(file, **codec)
    return file.tell()


def _quantised(image: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """At 2^bits values, scaled back to 0..255."""
    return (image >> (8 - bits) << (8 - bits)).astype(np.uint8)
