"""Images that a model was not trained on: other data sets, and what is made of test images."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.config import DataConfig
from ...data.inputs import evenly
from ...data.open import open_splits
from ...data.types import Splits
from ...errors import InputError

Bytes = NDArray[np.uint8]


def other_images(
    image_shape: tuple[int, int, int],
    splits: Splits,
    count: int,
    fashion: str,
    seed: int,
    progress: bool,
) -> Iterator[tuple[str, str, Bytes | str]]:
    """Name, description, and images (N, C, H, W) of each other kind; or why there are none.

    Args:
        image_shape: channels, height, width that they are to have.
        splits: the model's own data.
        count: images of each kind, at most.
        fashion: folder of the Fashion-MNIST files.
        seed: of what is random in what is made of test images.
        progress: show bars on stderr.
    """
    for name, (how, config) in _sources(image_shape, fashion, count).items():
        try:
            images: Bytes | str = _read(config, splits, count, progress)
        except InputError as error:
            images = str(error)
        yield name, how, images
    test = np.array(splits.test.images[evenly(len(splits.test), count)])
    for name, (how, make) in MADE.items():
        yield name, how, make(test, np.random.default_rng(seed))


def _sources(
    image_shape: tuple[int, int, int], fashion: str, count: int
) -> Mapping[str, tuple[str, DataConfig]]:
    """Other data sets, brought to the model's shape by the data layer."""
    channels, height, width = image_shape
    shape: dict[str, Any] = {"size": (height, width), "channels": channels, "upscale": True}
    size = f"{height}x{width}"
    colour = "" if channels == 1 else ", the same grey in every channel"
    return {
        "digits": (
            f"scikit-learn's 8x8 digits in the middle of black{colour}",
            DataConfig(data="digits", **shape),
        ),
        "faces": (
            f"drawn faces, resized to {size}",
            DataConfig(data="faces", faces=max(10, count), **shape),
        ),
        "Fashion-MNIST": (
            f"28x28 clothes, resized to {size}{colour}",
            DataConfig(data=fashion, **shape),
        ),
    }


def _read(config: DataConfig, own: Splits, count: int, progress: bool) -> Bytes:
    """`count` images at most, test images first.

    Raises:
        InputError: they cannot be read, or are the model's own data.
    """
    others = open_splits(config, progress=progress)
    if others.source.split(":")[0] == own.source.split(":")[0]:
        raise InputError("They are the model's own data.")
    parts = (others.test, others.valid, others.train)
    return np.concatenate([part.images[:count] for part in parts])[:count]


def _shuffled(images: Bytes, random: np.random.Generator) -> Bytes:
    flat = images.reshape(*images.shape[:2], -1)
    orders = np.argsort(random.random((len(flat), 1, flat.shape[2])), axis=2)
    return np.take_along_axis(flat, orders, axis=2).reshape(images.shape)


def _half_contrast(images: Bytes, random: np.random.Generator) -> Bytes:
    return (64 + images // 2).astype(np.uint8)


def _upside_down(images: Bytes, random: np.random.Generator) -> Bytes:
    return images[:, :, ::-1].copy()


def _noise(images: Bytes, random: np.random.Generator) -> Bytes:
    return random.integers(0, 256, images.shape, dtype=np.uint8)


def _constants(images: Bytes, random: np.random.Generator) -> Bytes:
    colours = random.integers(0, 256, (*images.shape[:2], 1, 1), dtype=np.uint8)
    return np.broadcast_to(colours, images.shape).copy()


MADE: Mapping[str, tuple[str, Callable[[Bytes, np.random.Generator], Bytes]]] = {
    "upside down": ("the test images upside down", _upside_down),
    "pixels shuffled": ("the test images, the pixels of each in a random order", _shuffled),
    "half contrast": ("the test images, bytes v as 64 + v/2", _half_contrast),
    "noise": ("independent uniform bytes", _noise),
    "constants": ("one random colour an image", _constants),
}
