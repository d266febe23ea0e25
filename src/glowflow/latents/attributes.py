"""Which attributes of a set of images can be used: those with enough images on both sides."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data.inputs import require_attributes
from ..data.types import ImageData
from ..errors import InputError
from .choices import Estimator
from .matching import held_attributes

Value = TypeVar("Value")


@dataclass(frozen=True)
class UsableAttributes:
    """Those of which enough images are on both sides."""

    names: tuple[str, ...]
    values: NDArray[np.bool_]
    """(N, A)."""
    held: tuple[list[int], ...]
    """Of each attribute, the columns of the others that are kept equal."""
    refused: Mapping[str, str]
    """Why the others cannot be used."""
    requested: Sequence[str]
    """Those to find; all of them if it is empty."""

    @property
    def counts(self) -> list[tuple[int, int]]:
        """Images with and without each."""
        positive = self.values.sum(0).tolist()
        return [(n, len(self.values) - n) for n in positive]

    def held_names(self, estimator: Estimator) -> list[tuple[str, ...]]:
        """Names of the held, of which the estimator `mean` has none."""
        held = [[]] * len(self.names) if estimator == "mean" else self.held
        return [tuple(self.names[column] for column in columns) for columns in held]

    @property
    def centred(self) -> NDArray[np.float64]:
        """(N, A), the values less their means."""
        centred: NDArray[np.float64] = self.values - self.values.mean(0)
        return centred

    def without(self, columns: Sequence[int]) -> "UsableAttributes":
        """Refuse those of which a linear direction has nothing left.

        Raises:
            InputError: one of them is requested, or no other is left.
        """
        refused = dict(self.refused)
        for column in columns:
            name = self.names[column]
            reason = f"{name} cannot be told from the attributes that are held"
            if name in self.requested:
                raise InputError(f"{reason}: use the estimator mean or matched.")
            refused[name] = reason
        usable = replace(self, refused=refused)
        if not usable.named(self.names):
            raise InputError(f"No attribute can be used: {next(iter(refused.values()))}.")
        return usable

    def named(self, values: Iterable[Value]) -> dict[str, Value]:
        """One value an attribute, of those that are requested and not refused."""
        return {
            name: value
            for name, value in zip(self.names, values, strict=True)
            if name not in self.refused and (not self.requested or name in self.requested)
        }


def usable_attributes(
    data: ImageData, indices: NDArray[np.int64], minimum: int, requested: Sequence[str]
) -> UsableAttributes:
    """Those that at least `minimum` of these images have, and as many have not.

    Raises:
        InputError: the images have no attributes, a requested one is unknown or has too few images
            on a side, or no attribute has enough.
    """
    attributes = np.asarray(require_attributes(data, requested)[indices])
    count, positive = len(attributes), attributes.sum(0).tolist()
    usable, refused = [], {}
    for column, (name, with_it) in enumerate(zip(data.attribute_names, positive, strict=True)):
        if min(with_it, count - with_it) >= minimum:
            usable.append(column)
            continue
        reason = (
            f"{name} is true of {with_it:,} and false of {count - with_it:,} images: "
            f"at least {minimum} of each are needed"
        )
        if name in requested:
            raise InputError(f"{reason}.")
        refused[name] = reason
    if not usable:
        raise InputError(f"No attribute can be used: {next(iter(refused.values()))}.")
    values = attributes[:, usable]
    return UsableAttributes(
        names=tuple(data.attribute_names[column] for column in usable),
        values=values,
        held=tuple(held_attributes(values, range(len(usable)), minimum).values()),
        refused=refused,
        requested=requested,
    )
