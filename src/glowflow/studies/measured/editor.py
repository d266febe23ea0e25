"""A model that edits one attribute of images, and a judge that looks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

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
EXCHANGE = "exchange"
"""The name, among the estimators, of `Directions.exchange` with what each image has."""
EXCHANGED: Estimator = "matched"
"""Whose directions are exchanged."""

Move = Callable[[NDArray[np.bool_]], Latents]
"""Δε for images with these attributes (N, A): one for all, or one for each."""


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
    estimator: str
    """An `Estimator`, or `EXCHANGE`."""
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
    attributes: NDArray[np.bool_]
    """(N, A), as the data have them."""


@dataclass(frozen=True)
class EditedAttribute:
    """One attribute, by every estimator that has a direction for it."""

    rows: tuple[Row, ...]
    exchanged: Row | None
    """By `Directions.exchange`, if other attributes leave when this one appears."""
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
        names = splits.train.attribute_names
        valid = self.before(splits.valid, change.column, validation_images)
        test = self.before(splits.test, change.column, images)
        moves = _moves(names, change, directions)
        rows = {}
        for name, move in moves.items():
            of_valid, of_test = move(valid.attributes), move(test.attributes)
            tried = [self.measure(valid, of_valid, amount, change) for amount in AMOUNTS]
            chosen = choose(tried)
            after = self.measure(test, of_test, chosen.amount, change)
            rows[name] = Row(names[change.column], name, tuple(tried), chosen, after)
        best = best_row([*rows.values()])
        strip = self.strip(splits.test, change.column, moves[best.estimator], best.chosen.amount)
        seen = float(test.verdicts[:, change.column].mean())
        exchanged = rows.pop(EXCHANGE, None)
        return EditedAttribute((*rows.values(),), exchanged, seen, strip)

    def before(self, data: ImageData, column: int, count: int) -> Unedited:
        """Encode up to `count` images that lack the attribute, decode them, and judge them."""
        chosen = some_images(data, column, False, count, self.seed)
        latents, labels = self._codes(data, chosen)
        images, truth = self._pictures(latents, labels), np.asarray(data.attributes)[chosen]
        return Unedited(latents, labels, images, self.judge.verdicts(images), truth)

    def measure(
        self, unedited: Unedited, direction: Latents, amount: float, change: Change
    ) -> Edited:
        """Move all images by the same amount of one direction, or of one for each, and compare."""
        edited = self._pictures(_moved(unedited.latents, direction, amount), unedited.labels)
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
        self, data: ImageData, column: int, move: Move, amount: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Faces without the attribute, and with it, moved by `STRIP` · amount."""
        without, with_it = (
            some_images(data, column, side, STRIP_FACES, self.seed) for side in (False, True)
        )
        chosen = np.concatenate([without, with_it])
        latents, labels = self._codes(data, chosen)
        direction = move(np.asarray(data.attributes)[chosen])
        moved = [
            self._pictures(_moved(latents, direction, share * amount), labels) for share in STRIP
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


def _moves(
    names: Sequence[str], change: Change, directions: Mapping[Estimator, Directions]
) -> dict[str, Move]:
    """The ways to make the attribute appear, by name."""
    name = names[change.column]
    moves: dict[str, Move] = {
        estimator: partial(_alike, estimated.latents[name])
        for estimator, estimated in directions.items()
        if name in estimated.latents
    }
    if EXCHANGED in moves:
        estimated = directions[EXCHANGED]
        leaving = [b for b in change.leaving if names[b] in estimated.latents]
        if leaving:
            moves[EXCHANGE] = partial(_exchanged, estimated, names, change.column, leaving)
    return moves


def _alike(direction: Latents, attributes: NDArray[np.bool_]) -> Latents:
    return direction


def _exchanged(
    directions: Directions,
    names: Sequence[str],
    column: int,
    leaving: Sequence[int],
    attributes: NDArray[np.bool_],
) -> Latents:
    """Of each image, for those of the leaving attributes that it has."""
    has = attributes[:, leaving] & ~attributes[:, column, None]
    patterns, of_image = np.unique(has, axis=0, return_inverse=True)
    each = [
        directions.exchange(
            names[column], [names[leaving[i]] for i in np.flatnonzero(pattern).tolist()]
        )
        for pattern in patterns
    ]
    index = torch.from_numpy(of_image.reshape(-1))
    return tuple(torch.stack(level)[index] for level in zip(*each, strict=True))


def _moved(latents: Latents, direction: Latents, amount: float) -> Latents:
    """As `edit` along one direction."""
    return tuple(eps + amount * d.to(eps) for eps, d in zip(latents, direction, strict=True))


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
