"""Images of a data set as a model takes them: which of them, what fits, their labels and noise."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..models.conditional import ConditionalGlow
from ..models.conditions import Condition
from ..models.flow import ImageFlow
from ..models.likelihood import dequantize, name_of_data
from ..models.priors import check_labels
from .partition import evenly as evenly
from .types import ImageData, Splits

PARTS = ("train", "valid", "test")
Data = TypeVar("Data", ImageData, Splits)


def empty_part(splits: Splits) -> str | None:
    """The name of a part without images, if there is one."""
    return next((name for name in PARTS if not len(getattr(splits, name))), None)


def require_shape(model: ImageFlow, data: ImageData) -> None:
    """Refuse images of another shape than the model's.

    Raises:
        InputError: they are.
    """
    if data.image_shape != model.config.image_shape:
        raise InputError(
            f"The {name_of_data(model.config.bits)} are {data.image_shape} and the model takes "
            f"{model.config.image_shape}: give other data."
        )


def require_fit(model: ImageFlow, data: ImageData) -> None:
    """`require_shape`, and labels for a model with classes.

    Raises:
        InputError: the images are of another shape, or the labels are missing.
    """
    require_shape(model, data)
    if model.is_conditional:
        _given(model, data)


def with_classes_of(model: ImageFlow, data: Data) -> Data:
    """Images, or all parts of a source, with the labels that the model's classes have: by name.

    Data may lack classes of the model. Where either side has no names, labels stay as they are.

    Raises:
        InputError: the data have a class that the model does not know.
    """
    known = () if model.trained_on is None else model.trained_on.class_names
    return with_classes(data, known) if model.config.classes else data


def with_classes(data: Data, known: tuple[str, ...]) -> Data:
    """`with_classes_of` a model that knows these classes."""
    if isinstance(data, Splits):
        return replace(data, **{part: with_classes(getattr(data, part), known) for part in PARTS})
    if data.labels is None or not known or data.class_names == known:
        return data
    numbers = {name: number for number, name in enumerate(known)}
    if unknown := [name for name in data.class_names if name not in numbers]:
        raise InputError(
            f"The data have a class {unknown[0]!r}, which the model does not know: its classes are "
            f"{in_short(known)}; leave those images out, or rename their class."
        )
    new = np.array([numbers[name] for name in data.class_names], dtype=np.int64)
    return replace(data, labels=new[data.labels], class_names=known)


def in_short(names: Sequence[str], most: int = 20) -> str:
    """The first of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def require_kind(model: ImageFlow, data: ImageData) -> None:
    """Refuse float data for a model of bytes, and bytes for a model of float data.

    Raises:
        InputError: they are.
    """
    bits = model.config.bits
    if (bits is None) != (data.images.dtype != np.uint8):
        kind = "float data" if bits is None else "uint8 images"
        raise InputError(f"The model is for {kind}, and the data are {data.images.dtype}.")


def require_attributes(data: ImageData, names: Sequence[str] = ()) -> NDArray[np.bool_]:
    """The attributes (N, A) of images that have these among them.

    Raises:
        InputError: the images have no attributes, or not one of that name.
    """
    if data.attributes is None or not data.attribute_names:
        raise InputError(
            "The images have no attributes: give a folder in CelebA's layout, or `faces`."
        )
    for name in names:
        if name not in data.attribute_names:
            raise InputError(
                f"There is no attribute {name!r}: choose among {', '.join(data.attribute_names)}."
            )
    return data.attributes


def labels_of(model: ImageFlow, data: ImageData, indices: NDArray[np.int64]) -> Tensor | None:
    """What these images are given, on the model's device: labels (batch,), or rows of conditions
    (batch, V) for a conditional model; None for others.

    Raises:
        InputError: they are missing or others than the model's, or a label is not one of its
            classes.
    """
    if not model.is_conditional:
        return None
    if isinstance(model, ConditionalGlow):
        return torch.from_numpy(_given(model, data)[indices]).to(model.device)
    labels = torch.from_numpy(_labels(data)[indices])
    return check_labels(labels, len(indices), model.config.classes).to(model.device)


def given_to_samples(model: ImageFlow, data: ImageData, count: int) -> Tensor | None:
    """What samples of the model are given: the conditions of the first images of the data, again
    from the start where there are fewer; None where there are classes, which are drawn.

    Raises:
        InputError: as `labels_of`.
    """
    if model.config.classes:
        return None
    return labels_of(model, data, np.arange(count) % len(data))


def _given(model: ImageFlow, data: ImageData) -> NDArray[Any]:
    if not isinstance(model, ConditionalGlow):
        return _labels(data)
    wanted, found = model.config.conditions, data.given
    if data.conditions is None or [(c.name, c.value_shape) for c in wanted] != [
        (c.name, c.value_shape) for c in found
    ]:
        raise InputError(
            f"The model is given {', '.join(map(_named, wanted))}, and the data have "
            f"{', '.join(map(_named, found)) or 'no conditions'}: name these arrays with "
            "--condition."
        )
    return data.conditions


def _named(condition: Condition) -> str:
    return f"{condition.name} {condition.value_shape}"


def _labels(data: ImageData) -> NDArray[np.int64]:
    if data.labels is None:
        raise InputError("The model has classes, and the data have no labels: give labelled data.")
    return data.labels


def with_noise(
    images: Tensor, bits: int, seed: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Dequantise each image with the noise of its own index, whatever batch it is in."""
    noisy = []
    for image, index in zip(images, indices.tolist(), strict=True):
        state = np.random.SeedSequence((*seed, index)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]) % 2**63)
        noisy.append(dequantize(image[None], bits, generator=generator))
    return torch.cat(noisy)
