"""Draws of dequantisation noise that do not depend on how images are batched."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..data.inputs import with_noise
from ..models.flow import ImageFlow


def noise_draws(
    model: ImageFlow, images: Tensor, indices: NDArray[np.int64], *, draws: int, seed: int
) -> Iterator[Float[Tensor, "batch channels height width"]]:
    """x of each draw, on the model's device; float data as they are, once.

    The noise of an image depends on the seed, the draw and its index alone.
    """
    bits = model.config.bits
    for draw in range(draws if bits is not None else 1):
        x = images if bits is None else with_noise(images, bits, (seed, draw), indices)
        yield x.to(model.device, model.dtype)
