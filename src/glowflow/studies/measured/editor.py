"""A model that edits one attribute of images, and a judge that looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.inputs import labels_of
from ...data.types import ImageData, Splits
from ...evaluation.estimate import Estimate
from ...latents.choices import Estimator
from ...latents.codes import encoded, unflatten
from ...latents.directions import Directions
from ...latents.edits import edit
from ...models.flow import ImageFlow, Latents
from .belonging import Change
from .judge import Judge

AMOUNTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)
"""The α that are tried on validation images."""
LEAKAGE = 0.10
"""Largest leakage of a good edit."""
STRIP = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
"""Amounts of a strip, in units of the chosen α."""
STRIP_FACES = 3
"""Faces of a strip that lack the attribute, and as many that have it."""


@dataclass(frozen=True)
class Edited:
    """What one amount of one direction does to images that lack the attribute."""

    amount: float
    flip: Estimate
    """Share of the images in which the judge then sees the attribute."""
    leakage: Estimate
    """Share of the other attributes whose verdict changes, of those that need not (`own_changes`):
    the mean over images of |{b ∈ F : v'_b ≠ v_b}| / |F|, F = {b ≠ a : leaving v_b is not a's own}.
    """
    leakage_of_all: Estimate
    """The same with F = {b ≠ a}."""
    identity: Estimate
    """1 − |x' − x| / δ, not below 0, in the pixels that are not the attribute's (`own_pixels`): 1
    is unchanged, 0 as far away as another image. |·| is the mean over values, δ that between
    different images of the set."""
    images: int

    @property
    def gain(self) -> float:
        """Flip − leakage."""
        return self.flip.mean - self.leakage.mean


@dataclass(frozen=True)
class Row:
    """One attribute by one estimator."""

    attribute: str
    estimator: Estimator
    tried: tuple[Edited, ...]
    """On validation images, one for each of `AMOUNTS`."""
    chosen: Edited
    """That one of them whose amount is used."""
    test: Edited


@dataclass(frozen=True)
class Unedited:
    """Images as the model gives them back before any edit, and what the judge says of them."""

    latents: Latents
    labels: Tensor | None
    images: NDArray[np.uint8]
    """(N, C, H, W)."""
    verdicts: NDArray[np.bool_]
    """(N, A)."""


@dataclass(frozen=True)
class EditedAttribute:
    """One attribute, by every estimator that has a direction for it."""

    rows: tuple[Row, ...]
    unedited: float
    strip: tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True)
class Editor:
    """A model that edits, and a judge that looks."""

    model: ImageFlow
    judge: Judge
    batch_size: int = 50
    """Images at once."""
    seed: int = 0
    """Of which images are edited."""

    def edit(
        self,
        splits: Splits,
        change: Change,
        directions: Mapping[Estimator, Directions],
        *,
        images: int,
        validation_images: int,
    ) -> EditedAttribute:
        """Choose each estimator's amount on validation images, and edit test images."""
        name = splits.train.attribute_names[change.column]
        valid = self.before(splits.valid, change.column, validation_images)
        test = self.before(splits.test, change.column, images)
        rows = []
        for estimator, estimated in directions.items():
            if name not in estimated.latents:
                continue
            direction = estimated.latents[name]
            tried = [self.measure(valid, direction, amount, change) for amount in AMOUNTS]
            chosen = choose(tried)
            after = self.measure(test, direction, chosen.amount, change)
            rows.append(Row(name, estimator, tuple(tried), chosen, after))
        best = best_row(rows)
        strip = self.strip(
            splits.test,
            change.column,
            directions[best.estimator].latents[name],
            best.chosen.amount,
        )
        seen = float(test.verdicts[:, change.column].mean())
        return EditedAttribute(tuple(rows), seen, strip)

    def before(self, data: ImageData, column: int, count: int) -> Unedited:
        """Encode up to `count` images that lack the attribute, decode them, and judge them."""
        latents, labels = self._codes(data, some_images(data, column, False, count, self.seed))
        images = self._pictures(latents, labels)
        return Unedited(latents, labels, images, self.judge.verdicts(images))

    def measure(
        self, unedited: Unedited, direction: Latents, amount: float, change: Change
    ) -> Edited:
        """Move all images by the same amount of one direction, and compare."""
        moved = edit(unedited.latents, [direction], [amount])
        edited = self._pictures(moved, unedited.labels)
        verdicts = self.judge.verdicts(edited)
        changed = verdicts != unedited.verdicts
        others = np.arange(changed.shape[1]) != change.column
        # own[b, v_b] of each image: whether b's leaving its verdict is the attribute's own change.
        own = np.where(unedited.verdicts, change.own[:, 1], change.own[:, 0])
        return Edited(
            amount=amount,
            flip=Estimate.of(verdicts[:, change.column].astype(np.float64)),
            leakage=Estimate.of(_share(changed, others & ~own)),
            leakage_of_all=Estimate.of(_share(changed, np.broadcast_to(others, changed.shape))),
            identity=Estimate.of(_kept(unedited.images, edited, ~change.pixels)),
            images=len(edited),
        )

    def strip(
        self, data: ImageData, column: int, direction: Latents, amount: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Faces without the attribute, and with it, moved by `STRIP` · amount."""
        without, with_it = (
            some_images(data, column, side, STRIP_FACES, self.seed) for side in (False, True)
        )
        latents, labels = self._codes(data, np.concatenate([without, with_it]))
        moved = [
            self._pictures(edit(latents, [direction], [share * amount]), labels) for share in STRIP
        ]
        faces = np.stack(moved, axis=1)
        return faces[: len(without)], faces[len(without) :]

    def _codes(self, data: ImageData, chosen: NDArray[np.int64]) -> tuple[Latents, Tensor | None]:
        """Latents on the model's device, and the labels where it is class-conditional."""
        model = self.model
        parts = encoded(model, data, chosen, batch_size=self.batch_size, progress=False)
        rows = torch.cat([rows.to(model.dtype) for _, rows in parts]).to(model.device)
        return unflatten(rows, model.latent_shapes), labels_of(model, data, chosen)

    def _pictures(self, latents: Latents, labels: Tensor | None) -> NDArray[np.uint8]:
        """The images (N, C, H, W) of these latents."""
        return self.model.to_images(self.model.decode(latents, labels)).cpu().numpy()


def some_images(
    data: ImageData, column: int, side: bool, count: int, seed: int
) -> NDArray[np.int64]:
    """The first `count` images with or without the attribute, in a random order of all."""
    order = np.random.default_rng(seed).permutation(len(data))
    truth = np.asarray(data.attributes)[order, column]
    return order[truth == side][:count]


def choose(tried: Sequence[Edited]) -> Edited:
    """The largest flip − leakage among the amounts that leak at most `LEAKAGE`, or among all."""
    good = [edited for edited in tried if edited.leakage.mean <= LEAKAGE]
    return max(good or tried, key=lambda edited: edited.gain)


def best_row(rows: Sequence[Row]) -> Row:
    """The row with the largest flip − leakage on validation images."""
    return max(rows, key=lambda row: row.chosen.gain)


def _share(changed: NDArray[np.bool_], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each image, the share of the counted attributes that changed; 0 where none counts."""
    return (changed & counted).sum(1) / np.maximum(counted.sum(1), 1)


def _kept(
    images: NDArray[np.uint8], edited: NDArray[np.uint8], outside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    original = images[..., outside].reshape(len(images), -1).astype(np.float64)
    moved = edited[..., outside].reshape(len(images), -1)
    if not original.shape[1]:
        return np.ones(len(images))
    apart = np.abs(original - np.roll(original, 1, axis=0)).mean()
    return np.maximum(1 - np.abs(moved - original).mean(1) / max(apart, 1e-12), 0)
