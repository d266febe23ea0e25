"""The latents of a batch as rows, and the codes of a set of images."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..data.inputs import labels_of, require_fit
from ..data.types import ImageData
from ..models.flow import ImageFlow, Latents
from ..progress import in_batches

Sizes = Sequence[tuple[int, ...]]


def flatten(latents: Latents) -> Float[Tensor, "batch D"]:
    """All levels of each code in one row, first level first."""
    return torch.cat([eps.flatten(1) for eps in latents], dim=1)


def unflatten(rows: Float[Tensor, "batch D"], shapes: Sizes) -> Latents:
    """The inverse of `flatten`, for latents of these shapes without the batch."""
    parts = torch.split(rows, [math.prod(shape) for shape in shapes], dim=1)
    return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True))


@torch.no_grad()
def encoded(
    model: ImageFlow,
    data: ImageData,
    indices: NDArray[np.int64],
    *,
    batch_size: int = 50,
    title: str = "encoding",
    progress: bool = True,
) -> Iterator[tuple[NDArray[np.int64], Float[Tensor, "batch D"]]]:
    """Encode images batch by batch, at the centre of each byte's bin.

    Yields:
        The indices of the batch, and its codes as float64 rows (`flatten`) on the CPU.

    Raises:
        InputError: the images do not fit the model, or it has classes and they have no labels.
    """
    require_fit(model, data)
    for some in in_batches(indices, batch_size, title, visible=progress):
        x = model.to_float(torch.from_numpy(data.images[some]), noise="center").to(model.device)
        yield some, flatten(model.encode(x, labels_of(model, data, some))).double().cpu()
