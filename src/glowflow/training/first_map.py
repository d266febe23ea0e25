"""The map before the first level: which one, and the images that it is fitted to."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..bijections import ActNorm, Bijection, Marginals, Whitening
from ..data.types import ImageData
from ..errors import InputError
from ..models.config import Architecture, FirstMap
from ..models.flow import ImageFlow
from ..models.likelihood import bits_per_dim, dequantize
from ..models.priors import standard_normal_log_prob
from .config import TrainConfig, read_run_config

VALUES = 64_000_000
"""That a first map is fitted to, at most: 20,833 images of 3x32x32."""
CROP = 1024
"""Values of an image, in its middle, that the choice looks at, where there are as many images."""
CHOICE_IMAGES = 8_000
OPTIONS: Mapping[str, FirstMap] = {"dense_steps": "whitening", "palette_channels": "interlaced"}
"""Of which first map an option is that does nothing with another one, where it is not 0."""
HELD_OUT = 5
"""Every fifth image judges the choice."""


def first_map_chosen(
    config: TrainConfig, data: ImageData, start_from: ImageFlow | None = None
) -> TrainConfig:
    """The same run with `auto` decided: the map of fewer bits/dim of held-out training images.

    Each map is fitted to four fifths of them, and a standard normal prior stands behind it; that of
    `none` is the scaling of each channel that the first normalisation makes. Of fewer than ten
    images there is none, and squares of photographs are interlaced. Float data have no bins, so
    that they are whitened, periodic ones wave by wave; given conditions, they are standardised by
    channel. A model whose weights the run starts from has decided before.

    Raises:
        InputError: an option is of another first map than the run's, and would do nothing.
    """
    model = config.model
    if not isinstance(model, Architecture):
        return config
    if model.first_map == "auto":
        if start_from is not None and isinstance(start_from.config, Architecture):
            model = replace(model, first_map=start_from.config.first_map)
        else:
            model = replace(model, first_map=_choice(data, model))
    if start_from is None:
        _require_its_own_options(model)
    return replace(config, model=model)


def _require_its_own_options(model: Architecture) -> None:
    for name, first_map in OPTIONS.items():
        if getattr(model, name) and model.first_map != first_map:
            raise InputError(
                f"{name} is {getattr(model, name)}, which is of the first map {first_map}, and "
                f"this run's is {model.first_map}: give --first-map {first_map}, or no "
                f"--{name.replace('_', '-')}."
            )


def with_recorded_first_map(config: TrainConfig, folder: Path) -> TrainConfig:
    """The same run with `auto` decided as its folder's configuration says.

    Raises:
        CheckpointError: the folder is not a run's.
    """
    model, recorded = config.model, read_run_config(folder).model
    if not isinstance(model, Architecture) or model.first_map != "auto":
        return config
    if not isinstance(recorded, Architecture):
        return config
    return replace(config, model=replace(model, first_map=recorded.first_map))


def fitting_images(data: ImageData, most: int | None = None) -> Tensor:
    """Images spread evenly over the data, `VALUES` values or `most` images."""
    count = min(len(data), most or len(data), max(1, VALUES // math.prod(data.image_shape)))
    chosen = np.unique(np.linspace(0, len(data) - 1, count).round().astype(np.int64))
    return torch.from_numpy(data.images[chosen])


def _choice(data: ImageData, model: Architecture) -> FirstMap:
    bits = model.bits
    if len(data) < 2 * HELD_OUT:
        return "none"
    if data.images.dtype != "uint8" or bits is None:
        if data.given:
            return "standardize"
        return "spectral" if model.padding == "periodic" else "whitening"
    if data.patches is not None:
        return "interlaced"
    images = fitting_images(data, CHOICE_IMAGES)
    if len(images) > CROP:  # of fewer the whole images are looked at: they are what is hard then
        images = _middle(images)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    judges = torch.arange(len(images)) % HELD_OUT == HELD_OUT - 1
    centres = dequantize(images[~judges], bits, noise="center")
    marginals, whitening = Marginals(shape, bits), Whitening(shape, model.rank)
    marginals.fit(centres)
    whitening.fit(centres, 1 / (12 * 4**bits))
    x = dequantize(images[judges], bits, generator=torch.Generator().manual_seed(0))
    channels = ActNorm(shape[0])
    channels.initialize(dequantize(images[~judges], bits, generator=torch.Generator()))
    maps: dict[FirstMap, Bijection] = {
        "whitening": whitening, "marginals": marginals, "none": channels
    }  # fmt: skip
    return min(maps, key=lambda name: _bits(maps[name], x))


def _middle(images: Tensor) -> Tensor:
    """A centred crop of at most `CROP` values."""
    channels, height, width = images.shape[1:]
    side = max(1, math.isqrt(CROP // channels))
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return images[:, :, top : top + side, left : left + side]


@torch.no_grad()
def _bits(first_map: Bijection, x: Tensor) -> float:
    y, log_det = first_map(x)
    log_prob = standard_normal_log_prob((y,)) + log_det
    return float(bits_per_dim(log_prob, math.prod(x.shape[1:]), 0).mean())
