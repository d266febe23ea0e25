"""What stands beside a model in its evaluation: simple models and codecs, on the same images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.inputs import evenly
from ..data.patches import mosaics, photographs
from ..data.types import ImageData
from ..models.conditional import ConditionalGlow
from ..models.flow import ImageFlow
from .baselines import Baseline, independent_pixels
from .codecs import of_large_images, png, webp
from .gaussian import gaussian, gaussian_given

FITTED = 60_000
"""Training images that baselines are fitted to, at most."""


def models_beside(
    train: ImageData | None,
    images: NDArray[Any],
    bits: int | None,
    margins: NDArray[np.float64] | None,
    groups: NDArray[np.int64] | None,
    seed: int,
) -> tuple[Baseline, ...]:
    """Fitted to `FITTED` training images at most."""
    if train is None:
        return ()
    known = train.images if len(train) <= FITTED else train.images[evenly(len(train), FITTED)]
    return (
        independent_pixels(known, images, bits, margins, groups),
        gaussian(known, images, bits, margins, groups, seed=seed),
    )


def gaussian_beside(
    model: ImageFlow,
    train: ImageData | None,
    images: NDArray[Any],
    data: ImageData,
    indices: NDArray[np.int64],
) -> tuple[Baseline, ...]:
    """Of float data that are given something."""
    if train is None or train.conditions is None or data.conditions is None:
        return ()
    if not isinstance(model, ConditionalGlow) or model.config.bits is not None:
        return ()
    some = evenly(len(train), FITTED)
    known = train.images[some], train.conditions[some]
    return (gaussian_given(known, (images, data.conditions[indices])),)


def codecs_beside(
    data: ImageData,
    images: NDArray[Any],
    bits: int | None,
    margins: NDArray[np.float64] | None,
    progress: bool,
) -> tuple[Baseline, ...]:
    """One file an image; of patches, all of them in one, or, where none is missing, the images that
    they were cut from."""
    if data.patches is None:
        return png(images, bits, margins), webp(images, bits, margins)
    whole = photographs(data) if len(images) == len(data) else []
    if sum(image.size for image in whole) == images.size:
        return tuple(of_large_images(whole, bits, "the whole images", progress=progress))
    patches = mosaics(images)
    return tuple(of_large_images(patches, bits, "these patches in one image", progress=progress))
