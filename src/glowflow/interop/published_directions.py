"""The official demo's attribute directions, `z_manipulate.npy`, as our directions file."""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.sources.celeba import ATTRIBUTES
from ..errors import InputError, in_one_line
from ..files import path_of
from ..latents.directions import Directions
from ..models.companions import identity
from ..models.flow import ImageFlow, Latents
from .stored import SAID

STRONGER = {"Narrow_Eyes": 1.2}
"""What the demo multiplied a direction by after it had loaded the file."""
SOURCE = "the official z_manipulate.npy (CelebA-HQ)"


def read_published_directions(path: str | Path, model: ImageFlow) -> Directions:
    """Row i is 1.6·(mean ε of images with attribute i − mean ε of those without), as the demo had
    it: an amount of 1 adds it.

    The levels follow one another, each in the order height, width, channels. The demo also turned
    `No_Beard` and `Young` round, because its sliders were for a beard and for age; here a direction
    goes to where its name says, so that −1 of these two is the demo's 1.

    Args:
        path: float array (40, values of a code), attributes in the order of CelebA.
        model: whose latents these are.

    Raises:
        InputError: there is no such file, it is damaged, or of another model.
    """
    path = path_of(path)
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # what damaged bytes make of NumPy
        raise InputError(
            f"Cannot read {path} ({in_one_line(error)[:SAID]}): give the official z_manipulate.npy."
        ) from error
    size = sum(map(math.prod, model.latent_shapes))
    if not isinstance(rows, np.ndarray) or rows.shape != (len(ATTRIBUTES), size):
        found = rows.shape if isinstance(rows, np.ndarray) else "an archive"
        raise InputError(
            f"{path} is {found}: of this model the directions of CelebA's {len(ATTRIBUTES)} "
            f"attributes are ({len(ATTRIBUTES)}, {size:,})."
        )
    with np.errstate(over="ignore"):
        values = torch.from_numpy(np.array(rows, dtype=np.float32))
    if rows.dtype.kind != "f" or not torch.isfinite(values).all():
        raise InputError(f"{path} has values that are no finite numbers in float32: get it again.")
    return Directions(
        latents={
            name: _latents(row * STRONGER.get(name, 1.0), model)
            for name, row in zip(ATTRIBUTES, values, strict=True)
        },
        estimator="mean",
        model=identity(model),
        counts={},
        source=SOURCE,
    )


def _latents(row: Float[Tensor, " D"], model: ImageFlow) -> Latents:
    """A row as latents: channels last as they are stored, channels first here."""
    shapes = model.latent_shapes
    parts = torch.split(row, [math.prod(shape) for shape in shapes])
    return tuple(
        part.view(height, width, channels).permute(2, 0, 1).contiguous()
        for part, (channels, height, width) in zip(parts, shapes, strict=True)
    )
