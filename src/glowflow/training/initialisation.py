"""The model that a run trains, and its first weights."""

import math

import numpy as np

from ..data.inputs import evenly, labels_of
from ..data.loader import batches
from ..data.types import ImageData, Reading, Splits
from ..errors import InputError
from ..models.conditional import ConditionalGlow
from ..models.conditions import Condition, ConditionalGlowConfig
from ..models.config import (
    GlowConfig,
    RealNVPArchitecture,
    RealNVPConfig,
    sides,
    without_bins,
)
from ..models.flow import ImageFlow
from ..models.glow import Glow
from ..models.training_data import TrainingData, size_of
from .batches import noise_for
from .config import TrainConfig
from .first_map import VALUES, fitting_images


def model_config_for(config: TrainConfig, splits: Splits) -> GlowConfig | RealNVPConfig:
    """The model that this run trains on these data. Errors as `model_config_of`."""
    data = splits.train
    kind = str(data.images.dtype)
    classes = len(data.class_names)
    return model_config_of(config, splits.source, data.image_shape, kind, data.given, classes)


def model_config_of(
    config: TrainConfig,
    source: str,
    shape: tuple[int, ...],
    dtype: str,
    given: tuple[Condition, ...] = (),
    classes: int = 0,
) -> GlowConfig | RealNVPConfig:
    """The model that this run trains on data of this kind.

    Args:
        config: of the run.
        source: the data, in words.
        shape: of a sample.
        dtype: uint8, or that of floats.
        given: what each sample is given.
        classes: how many there are.

    Raises:
        InputError: the data do not fit, or have no labels to condition on.
    """
    architecture = config.model
    if dtype != "uint8":
        architecture = without_bins(architecture)
    elif architecture.bits is None:
        raise InputError(f"bits is None, but {source} has bytes: give bits from 1 to 8.")
    if config.conditional and not classes:
        raise InputError(f"{source} has no labels: train without --conditional.")
    grid = shape[1:]
    if len(grid) != 2 and (config.flip or config.shift):
        raise InputError(
            f"Samples on a grid of {sides(grid)} are not mirrored or shifted as images are: leave "
            "--flip and --shift out."
        )
    if isinstance(architecture, RealNVPArchitecture):
        if given:
            raise InputError("A RealNVP is given nothing: train a Glow, or leave --condition out.")
        if len(grid) != 2:
            raise InputError(
                f"A RealNVP is for images, and these data are on a grid of {sides(grid)}: train a "
                "Glow, or give channels, height and width."
            )
        return RealNVPConfig.of(architecture, shape)
    if given:
        if config.flip or config.shift:
            raise InputError(
                "Mirrored or shifted samples do not go with what they are given: leave --flip and "
                "--shift out."
            )
        return ConditionalGlowConfig.given(architecture, shape, given, config.data.missing)
    return GlowConfig.of(architecture, shape, classes if config.conditional else 0)


def training_data(config: TrainConfig, splits: Splits) -> TrainingData:
    """What the model keeps of the data that it is trained on."""
    some, data, reading = splits.train, config.data, splits.reading or Reading()
    bits = some.images.dtype == "uint8"
    return TrainingData(
        source=data.data,
        layout=reading.layout,
        dataset=splits.dataset,
        size=size_of(some.image_shape),
        channels=some.image_shape[0],
        fit=data.fit,
        upscale=data.upscale,
        aligned=reading.aligned,
        source_range=data.source_range,
        dtype=str(some.images.dtype),
        value_range=reading.value_range,
        bits=config.model.bits if bits else None,
        class_names=some.class_names,
        unseen_classes=unseen_classes(some),
        attribute_names=some.attribute_names,
        split=reading.split,
        held_out=None if reading.split == "published" else data.held_out,
        images=(len(splits.train), len(splits.valid), len(splits.test)),
        checksum=splits.checksum,
        target=data.target or "",
    )


def unseen_classes(data: ImageData) -> tuple[str, ...]:
    """The classes of which there is no image."""
    if data.labels is None:
        return ()
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    return tuple(name for name, count in zip(data.class_names, counts, strict=False) if not count)


def take_weights(model: ImageFlow, source: ImageFlow) -> None:
    """Start from another model's weights.

    Raises:
        CheckpointError: it is of another architecture.
    """
    weights = {name: weight.detach().cpu() for name, weight in source.state_dict().items()}
    model.load_weights(weights, "the model to start from")


def initial_batch_size(config: GlowConfig | RealNVPConfig) -> int:
    """Images of the data-dependent initialisation: 256 at 32x32, scaled by 32²/(height·width), or
    over the size of another grid."""
    return max(16, 256 * 32 * 32 // math.prod(config.image_shape[1:]))


def initialize(model: ImageFlow, data: ImageData, seed: int) -> None:
    """Fit the first map, if there is one, to many images, and let every normalisation see its first
    batch, drawn and dequantised by the seed."""
    if isinstance(model, Glow) and model.first_map is not None:
        model.fit_first_map(fitting_images(data).to(model.device))
    size = min(initial_batch_size(model.config), len(data))
    images, given = next(iter(batches(data, size, seed=seed, epoch=0)))
    if isinstance(model, ConditionalGlow):
        values = sum(condition.size for condition in model.config.conditions)
        chosen = evenly(len(data), max(1, VALUES // (8 * values)))  # which are float64 there
        model.fit_conditions(labels_of(model, data, chosen))
    else:
        given = None
    model.initialize(images.to(model.device), noise_for(seed, -1, model.device), given)
