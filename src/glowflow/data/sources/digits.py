"""Real handwritten digits, from scikit-learn's package."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from ...errors import InputError
from ..config import DataConfig
from ..partition import split_of
from ..types import Source

SIZE = (16, 16)
"""Height and width by default."""


def digits_source(config: DataConfig, cache: Path, progress: bool) -> Source:
    """1,797 digits of 8x8 pixels and 17 greys, in the middle of a black field.

    Their split is a random choice that is the same in every version; figures are of it.
    They are not enlarged: each keeps its 64 pixels. Source: UCI "Optical Recognition of
    Handwritten Digits" (Alpaydin & Kaynak 1998), test part.

    Raises:
        InputError: the size is smaller than 8x8.
    """
    height, width = config.size or SIZE
    if min(height, width) < 8:
        raise InputError(
            f"The digits are 8x8 and do not fit into {height}x{width}: enlarge --size."
        )
    data = load_digits()
    pixels = np.rint(data.images * 255 / 16).astype(np.uint8)
    top, left = (height - 8) // 2, (width - 8) // 2
    images = np.zeros((len(pixels), config.channels or 1, height, width), dtype=np.uint8)
    images[:, :3, top : top + 8, left : left + 8] = pixels[:, None]
    if config.channels == 4:
        images[:, 3] = 255
    names = tuple(f"{i:04d}" for i in range(len(images)))
    return Source(
        title="scikit-learn's handwritten digits",
        shape=images.shape[1:],
        dtype="uint8",
        names=names,
        layout="digits",
        values_inside=np.full(len(names), 64 * min(len(images[0]), 3)),
        partition=split_of(names, config.held_out, "shuffle"),
        read=lambda i: images[i],
        labels=data.target.astype(np.int64),
        class_names=tuple(map(str, range(10))),
    )
