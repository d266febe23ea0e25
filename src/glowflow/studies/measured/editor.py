"""A model that edits one attribute of images, and a judge that looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import NamedTuple

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
LEAVING = 20
"""Validation images that lose the same attributes from which they have an amount of their own."""

Left = tuple[str, ...]
"""Attributes that an image has and loses."""


@dataclass(frozen=True)
class Edited:
    """What a move does to images that lack the attribute."""

    amount: float
    """Of all, but for those that `Row.amounts` names."""
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
    """That one of them whose amount is used; on validation images with the `amounts`."""
    test: Edited
    amounts: Mapping[Left, float] = field(default_factory=dict)
    """Of `EXCHANGE`: of images that lose these, where it is not that of `chosen`."""


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
            direction = move.along(valid.attributes)
            judged = [self.judged(valid, direction, amount, change) for amount in AMOUNTS]
            tried = tuple(one.edited(amount) for one, amount in zip(judged, AMOUNTS, strict=True))
            chosen, amounts = _by_what_leaves(judged, choose(tried), move.left(valid.attributes))
            along = move.of(test.attributes, amounts, chosen.amount)
            after = self.judged(test, *along, change).edited(chosen.amount)
            rows[name] = Row(names[change.column], name, tried, chosen, after, amounts)
        best = best_row([*rows.values()])
        strip = self.strip(splits.test, moves[best.estimator], best)
        seen = float(test.verdicts[:, change.column].mean())
        exchanged = rows.pop(EXCHANGE, None)
        return EditedAttribute((*rows.values(),), exchanged, seen, strip)

    def before(self, data: ImageData, column: int, count: int) -> Unedited:
        """Encode up to `count` images that lack the attribute, decode them, and judge them."""
        chosen = some_images(data, column, False, count, self.seed)
        latents, labels = self._codes(data, chosen)
        images, truth = self._pictures(latents, labels), np.asarray(data.attributes)[chosen]
        return Unedited(latents, labels, images, self.judge.verdicts(images), truth)

    def judged(
        self, unedited: Unedited, direction: Latents, amount: float | Tensor, change: Change
    ) -> "Judged":
        """Move all images by the same amount of one direction, or each by its own (N,) of one or of
        its own, and compare."""
        edited = self._pictures(_moved(unedited.latents, direction, amount), unedited.labels)
        verdicts = self.judge.verdicts(edited)
        changed = verdicts != unedited.verdicts
        others = np.arange(changed.shape[1]) != change.column
        # own[b, v_b] of each image: whether b's leaving its verdict is the attribute's own change.
        own = np.where(unedited.verdicts, change.own[:, 1], change.own[:, 0])
        return Judged(
            verdicts[:, change.column].astype(np.float64),
            _share(changed, others & ~own),
            _share(changed, np.broadcast_to(others, changed.shape)),
            _kept(unedited.images, edited, ~change.pixels),
        )

    def strip(
        self, data: ImageData, move: "Move", row: Row
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Faces without the attribute, and with it, moved by `STRIP` times the row's amounts."""
        without, with_it = (
            some_images(data, move.column, side, STRIP_FACES, self.seed) for side in (False, True)
        )
        chosen = np.concatenate([without, with_it])
        latents, labels = self._codes(data, chosen)
        attributes = np.asarray(data.attributes)[chosen]
        direction, amount = move.of(attributes, row.amounts, row.chosen.amount)
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


class Judged(NamedTuple):
    """What is seen of each image (N,), as in `Edited`."""

    flip: NDArray[np.float64]
    leakage: NDArray[np.float64]
    leakage_of_all: NDArray[np.float64]
    identity: NDArray[np.float64]

    def edited(self, amount: float) -> Edited:
        """The means over the images."""
        flip, leakage, of_all, identity = map(Estimate.of, self)
        return Edited(amount, flip, leakage, of_all, identity, len(self.flip))

    def some(self, of_which: NDArray[np.bool_]) -> "Judged":
        """Those images alone."""
        return Judged(*(values[of_which] for values in self))


@dataclass(frozen=True)
class Move:
    """One way to make an attribute appear."""

    names: Sequence[str]
    column: int
    directions: Directions
    leaving: Sequence[int] = ()
    """Columns of the attributes that the directions exchange."""

    def left(self, attributes: NDArray[np.bool_]) -> list[Left]:
        """What each image with these attributes (N, A) has of what leaves."""
        leaving = list(self.leaving)
        has = attributes[:, leaving] & ~attributes[:, self.column, None]
        names = [self.names[b] for b in leaving]
        return [tuple(compress(names, row)) for row in has.tolist()]

    def along(self, attributes: NDArray[np.bool_]) -> Latents:
        """Δε of these images: one for all, or one for each."""
        if not self.leaving:
            return self.directions.latents[self.names[self.column]]
        left = self.left(attributes)
        each = {one: self.directions.exchange(self.names[self.column], one) for one in {*left}}
        levels = zip(*(each[one] for one in left), strict=True)
        return tuple(torch.stack(level) for level in levels)

    def of(
        self, attributes: NDArray[np.bool_], amounts: Mapping[Left, float], otherwise: float
    ) -> tuple[Latents, Tensor]:
        """Δε, and the amount of each image by what it loses."""
        each = [amounts.get(left, otherwise) for left in self.left(attributes)]
        return self.along(attributes), torch.tensor(each)


def _moves(
    names: Sequence[str], change: Change, directions: Mapping[Estimator, Directions]
) -> dict[str, Move]:
    """The ways to make the attribute appear, by name."""
    moves = {
        str(estimator): Move(names, change.column, estimated)
        for estimator, estimated in directions.items()
        if names[change.column] in estimated.latents
    }
    if EXCHANGED in moves:
        estimated = directions[EXCHANGED]
        leaving = [b for b in change.leaving if names[b] in estimated.latents]
        if leaving:
            moves[EXCHANGE] = Move(names, change.column, estimated, leaving)
    return moves


def _by_what_leaves(
    judged: Sequence[Judged], chosen: Edited, left: Sequence[Left]
) -> tuple[Edited, dict[Left, float]]:
    """The amounts of images that lose the same, and what is seen of all with them; `judged` are of
    `AMOUNTS`, `chosen` is of the amount that is best for all."""
    amounts: dict[Left, float] = {}
    used = np.full(len(left), AMOUNTS.index(chosen.amount))
    for one in sorted({*left}):
        alike = np.array([other == one for other in left])
        if LEAVING <= alike.sum() < len(left):
            some = [of_all.some(alike) for of_all in judged]
            best = choose([of.edited(amount) for of, amount in zip(some, AMOUNTS, strict=True)])
            used[alike] = AMOUNTS.index(best.amount)
            if best.amount != chosen.amount:
                amounts[one] = best.amount
    every = np.arange(len(left))
    found = Judged(*(np.stack(values)[used, every] for values in zip(*judged, strict=True)))
    return found.edited(chosen.amount), amounts


def _moved(latents: Latents, direction: Latents, amount: float | Tensor) -> Latents:
    """As `edit` along one direction; by the same amount, or each by its own (N,)."""
    factors = torch.as_tensor(amount).view(-1, 1, 1, 1)
    return tuple(
        eps + factors.to(eps) * d.to(eps) for eps, d in zip(latents, direction, strict=True)
    )


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
