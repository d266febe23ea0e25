"""Attribute editing, measured: does the attribute come, and does everything else stay?"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ...checks import require_at_least
from ...data.inputs import evenly, labels_of, require_attributes, require_fit
from ...data.types import ImageData, Splits
from ...errors import InputError
from ...evaluation.estimate import mean_and_error
from ...latents.codes import encoded, unflatten
from ...latents.directions import Estimator
from ...latents.edits import edit
from ...latents.estimation import estimate_by_each
from ...latents.matching import held_attributes, match
from ...models.companions import identity
from ...models.flow import ImageFlow, Latents
from .. import Figure
from .judge import Judge, Trust, describe_judge, examine, train_judge

AMOUNTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)
"""The α that are tried on validation images."""
LEAKAGE = 0.10
"""Largest leakage of a good edit."""
FLIPS = 0.80
"""Smallest flip rate of a good edit."""
TRUSTED = 0.9
"""Held-out accuracy of the judge from which an attribute counts in the averages."""
NEVER = 1e-3
"""A combination of two attributes that is rarer than this among the images of a side."""
VISIBLE = 0.02
"""Difference of two mean images from which a pixel is part of an attribute, of the range."""
MATCHED = 30_000
"""Training images that the pixels of an attribute are found on, at most."""
STRIP = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
"""Amounts of a strip, in units of the chosen α."""
STRIP_FACES = 3
"""Faces of a strip that lack the attribute, and as many that have it."""


@dataclass(frozen=True, kw_only=True)
class AttributeSettings:
    """What is measured, on how many images."""

    attributes: tuple[str, ...] = ()
    """Edit these only; by default every attribute with enough images."""
    images: int = 500
    """Test images without the attribute that are edited, at most, for each attribute."""
    validation_images: int = 150
    """Validation images without it, at most: the amount is chosen on them."""
    limit: int | None = 10_000
    """Training images that the directions are found on, at most; None for all."""
    judge_images: int = 100_000
    """Training images that the judge sees in all."""
    minimum: int = 10
    """Training images that are needed with an attribute, and without it."""
    batch_size: int = 50
    """Images that are encoded or decoded at once."""
    seed: int = 0
    """Of the judge, and of which images are edited."""


@dataclass(frozen=True)
class Edited:
    """What one amount of one direction does to images that lack the attribute."""

    amount: float
    flip: Figure
    """Share of the images in which the judge then sees the attribute."""
    leakage: Figure
    """Share of the other attributes whose verdict changes, of those that need not (`own_changes`):
    the mean over images of |{b ∈ F : v'_b ≠ v_b}| / |F|, F = {b ≠ a : leaving v_b is not a's own}.
    """
    leakage_of_all: Figure
    """The same with F = {b ≠ a}."""
    identity: Figure
    """1 − |x' − x| / δ, not below 0, in the pixels that are not the attribute's (`own_pixels`): 1
    is unchanged, 0 as far away as another image. |·| is the mean over values, δ that between
    different images of the set."""
    images: int


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
class AttributeStudy:
    """All that was measured."""

    model: str
    """`identity` of the model."""
    source: str
    checksum: str
    directions_from: int
    """Training images that the directions were found on."""
    judge: Mapping[str, object]
    """How the judge was made."""
    trust: Mapping[str, Trust]
    """Of every attribute."""
    rows: tuple[Row, ...]
    unedited: Mapping[str, float]
    """Share of the same test images in which the judge sees the attribute before any edit."""
    own: Mapping[str, tuple[str, ...]]
    """Changes of other attributes that belong to an attribute's appearing, as `+b` and `-b`."""
    pixels: Mapping[str, float]
    """Share of the pixels that are an attribute's own."""
    refused: Mapping[str, str]
    seconds: Mapping[str, float]
    strips: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = field(repr=False)
    """Faces without each attribute, and faces with it, moved by the `best_row`: both
    (faces, amounts, C, H, W)."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """Those that were edited."""
        return tuple(dict.fromkeys(row.attribute for row in self.rows))

    @property
    def counted(self) -> tuple[str, ...]:
        """Those on which the judge is trusted: the averages are over them."""
        return tuple(a for a in self.attributes if self.trust[a].accuracy >= TRUSTED)

    def row(self, attribute: str, estimator: Estimator) -> Row | None:
        """The row of an attribute by an estimator, if there is one."""
        same = (r for r in self.rows if (r.attribute, r.estimator) == (attribute, estimator))
        return next(same, None)

    def best(self, attribute: str) -> Row:
        """The attribute's `best_row`."""
        return best_row([row for row in self.rows if row.attribute == attribute])

    def averaged(self, estimator: Estimator | None) -> tuple[Row, ...]:
        """The rows that averages are over: an estimator's, or the best one of each attribute."""
        if estimator is None:
            return tuple(self.best(attribute) for attribute in self.counted)
        rows = (self.row(attribute, estimator) for attribute in self.counted)
        return tuple(row for row in rows if row is not None)

    @property
    def preferred(self) -> Estimator:
        """The one estimator with the largest mean flip − leakage on validation images."""

        def gain(estimator: Estimator) -> float:
            rows = self.averaged(estimator)
            return sum(_gain(row.chosen) for row in rows) / max(1, len(rows))

        return max(get_args(Estimator), key=gain)


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
class Change:
    """What an attribute's appearing changes by itself."""

    column: int
    """Of the attribute."""
    own: NDArray[np.bool_]
    """(A, 2) as in `own_changes`."""
    pixels: NDArray[np.bool_]
    """(H, W) as in `own_pixels`."""


def study_attributes(
    model: ImageFlow, splits: Splits, settings: AttributeSettings, *, progress: bool = True
) -> AttributeStudy:
    """Train the judge, find directions by each estimator, choose each α, and edit test images.

    Judge, directions, `own_changes` and `own_pixels` are from training images, the amounts are
    chosen on validation images, and every figure is from test images.

    Args:
        model: in eval mode, for images of bytes.
        splits: with attributes.
        settings: how much of it.
        progress: show bars on stderr.

    Raises:
        InputError: `check` refuses it.
    """
    columns = check(model, splits, settings)
    watch = _Watch()
    judge = train_judge(
        splits.train,
        images=settings.judge_images,
        seed=settings.seed,
        device=model.device,
        progress=progress,
    )
    trust = examine(judge, splits.test)
    watch.note("judge")
    directions = estimate_by_each(
        model,
        splits.train,
        get_args(Estimator),
        minimum=settings.minimum,
        limit=settings.limit,
        batch_size=settings.batch_size,
        progress=progress,
    )
    watch.note("directions")
    names = splits.train.attribute_names
    own = own_changes(np.asarray(splits.train.attributes))
    pixels = own_pixels(splits.train, columns, settings.minimum)
    rows: list[Row] = []
    unedited, refused, strips = {}, {}, {}
    for column in track(columns, "editing", disable=not progress, console=Console(stderr=True)):
        name, change = names[column], Change(column, own[column], pixels[column])
        valid = before(model, judge, splits.valid, column, settings.validation_images, settings)
        test = before(model, judge, splits.test, column, settings.images, settings)
        unedited[name] = float(test.verdicts[:, column].mean())
        of_name: list[Row] = []
        for estimator, found in directions.items():
            if name not in found.latents:
                refused[f"{name}, {estimator}"] = found.refused[name]
                continue
            direction = found.latents[name]
            tried = [measure(model, judge, valid, direction, a, change) for a in AMOUNTS]
            chosen = choose(tried)
            after = measure(model, judge, test, direction, chosen.amount, change)
            of_name.append(Row(name, estimator, tuple(tried), chosen, after))
        best = best_row(of_name)
        direction = directions[best.estimator].latents[name]
        without, with_it = (
            some_images(splits.test, column, side, STRIP_FACES, settings.seed)
            for side in (False, True)
        )
        both = np.concatenate([without, with_it])
        moved = strip(model, splits.test, both, direction, best.chosen.amount, settings)
        strips[name] = moved[: len(without)], moved[len(without) :]
        rows += of_name
    watch.note("editing")
    return AttributeStudy(
        model=identity(model),
        source=splits.source,
        checksum=splits.checksum,
        directions_from=min(len(splits.train), settings.limit or len(splits.train)),
        judge=describe_judge(judge, settings.judge_images),
        trust=trust,
        rows=tuple(rows),
        unedited=unedited,
        own={names[a]: _in_words(own[a], a, names) for a in columns},
        pixels={names[a]: float(pixels[a].mean()) for a in columns},
        refused=refused,
        seconds=watch.seconds,
        strips=strips,
    )


def check(model: ImageFlow, splits: Splits, settings: AttributeSettings) -> list[int]:
    """The columns of the attributes to edit; refuses what cannot work before anything is computed.

    Raises:
        InputError: the model is for float data, the images do not fit it or have no attributes (or
            no labels, for a model with classes), an attribute is unknown or too rare, no attribute
            can be edited, or a number is below 1.
    """
    if model.config.bits is None:
        raise InputError("This model is for float data: it has no images for a judge to see.")
    numbers = ("images", "validation_images", "judge_images", "minimum", "batch_size")
    require_at_least(settings, 1, *numbers)
    train = splits.train
    attributes = require_attributes(train, settings.attributes)
    require_fit(model, train)
    shown = np.asarray(attributes[evenly(len(train), settings.limit)])
    held = [np.asarray(part.attributes) for part in (splits.valid, splits.test)]
    columns, reasons = [], []
    for column, name in enumerate(train.attribute_names):
        sides = int(shown[:, column].sum()), int((~shown[:, column]).sum())
        lack = min(int((~part[:, column]).sum()) for part in held)
        enough = min(sides) >= settings.minimum and lack > 0
        if settings.attributes and name not in settings.attributes:
            continue
        if enough:
            columns.append(column)
            continue
        reasons.append(
            f"{name} is true of {sides[0]:,} and false of {sides[1]:,} training images, and "
            f"{lack:,} held-out images lack it: at least {settings.minimum} of each side, and 1 to "
            "edit, are needed"
        )
        if settings.attributes:
            raise InputError(f"{reasons[0]}.")
    if not columns:
        raise InputError(f"No attribute can be edited: {reasons[0]}.")
    return columns


def own_changes(attributes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which changes of other attributes belong to an attribute's appearing, from data alone.

    b leaves the value u when a appears. That is a's own change if b = u never occurs with a (blond
    hair takes the black away), or if b ≠ u never occurs without a (who is not young has no black
    hair). Never is at most `NEVER` of the images with, or without, a.

    Args:
        attributes: (N, A).

    Returns:
        (A, A, 2): [a, b, u].
    """
    true = attributes.astype(np.float64)
    with_a = true.T @ true / np.maximum(true.sum(0), 1)[:, None]
    without = (1 - true).T @ true / np.maximum((1 - true).sum(0), 1)[:, None]
    leaves_false = (1 - with_a <= NEVER) | (without <= NEVER)
    leaves_true = (with_a <= NEVER) | (1 - without <= NEVER)
    return np.stack([leaves_false, leaves_true], axis=-1)


def own_pixels(data: ImageData, columns: Sequence[int], minimum: int) -> NDArray[np.bool_]:
    """Where an attribute shows: |Σ_n w_n x_n| > `VISIBLE` of the range, in any channel.

    w are the weights of `match`: the difference of the mean images with and without the attribute,
    over pairs that agree in the others (`held_attributes`).

    Returns:
        (A, H, W); false in the rows that are not in `columns`.
    """
    indices = evenly(len(data), MATCHED)
    attributes = np.asarray(data.attributes)[indices]
    sides = np.minimum(attributes.sum(0), (~attributes).sum(0))
    held = held_attributes(attributes, np.flatnonzero(sides >= minimum).tolist(), minimum)
    weights = np.stack([match(attributes[:, a], attributes[:, held[a]]).weights for a in columns])
    channels, height, width = data.image_shape
    sums = np.zeros((len(columns), channels * height * width))
    for start in range(0, len(indices), 1024):
        some = slice(start, start + 1024)
        sums += weights[:, some] @ data.images[indices[some]].reshape(-1, sums.shape[1]).astype(
            np.float64
        )
    found = np.zeros((attributes.shape[1], height, width), dtype=bool)
    difference = np.abs(sums).reshape(len(columns), channels, height, width).max(1)
    found[list(columns)] = difference > VISIBLE * 255
    return found


def before(
    model: ImageFlow,
    judge: Judge,
    data: ImageData,
    column: int,
    count: int,
    settings: AttributeSettings,
) -> Unedited:
    """Encode up to `count` images that lack the attribute, decode them, and judge them."""
    chosen = some_images(data, column, False, count, settings.seed)
    latents, labels = codes(model, data, chosen, settings.batch_size)
    images = pictures(model, latents, labels)
    return Unedited(latents, labels, images, judge.verdicts(images))


def some_images(
    data: ImageData, column: int, side: bool, count: int, seed: int
) -> NDArray[np.int64]:
    """The first `count` images with or without the attribute, in a random order of all."""
    order = np.random.default_rng(seed).permutation(len(data))
    truth = np.asarray(data.attributes)[order, column]
    return order[truth == side][:count]


def codes(
    model: ImageFlow, data: ImageData, chosen: NDArray[np.int64], batch_size: int
) -> tuple[Latents, Tensor | None]:
    """Latents on the model's device, and the labels where it is class-conditional."""
    parts = encoded(model, data, chosen, batch_size=batch_size, progress=False)
    rows = torch.cat([rows.to(model.dtype) for _, rows in parts]).to(model.device)
    return unflatten(rows, model.latent_shapes), labels_of(model, data, chosen)


def pictures(model: ImageFlow, latents: Latents, labels: Tensor | None) -> NDArray[np.uint8]:
    """The images (N, C, H, W) of these latents."""
    return model.to_images(model.decode(latents, labels)).cpu().numpy()


def measure(
    model: ImageFlow,
    judge: Judge,
    unedited: Unedited,
    direction: Latents,
    amount: float,
    change: Change,
) -> Edited:
    """Move all images by the same amount of one direction, and compare."""
    edited = pictures(model, edit(unedited.latents, [direction], [amount]), unedited.labels)
    verdicts = judge.verdicts(edited)
    changed = verdicts != unedited.verdicts
    others = np.arange(changed.shape[1]) != change.column
    # own[b, v_b] of each image: whether b's leaving its verdict is the attribute's own change.
    own = np.where(unedited.verdicts, change.own[:, 1], change.own[:, 0])
    return Edited(
        amount=amount,
        flip=_figure(verdicts[:, change.column]),
        leakage=_figure(_share(changed, others & ~own)),
        leakage_of_all=_figure(_share(changed, np.broadcast_to(others, changed.shape))),
        identity=_figure(_kept(unedited.images, edited, ~change.pixels)),
        images=len(edited),
    )


def choose(tried: Sequence[Edited]) -> Edited:
    """The largest flip − leakage among the amounts that leak at most `LEAKAGE`, or among all."""
    good = [edited for edited in tried if edited.leakage.mean <= LEAKAGE]
    return max(good or tried, key=_gain)


def best_row(rows: Sequence[Row]) -> Row:
    """The row with the largest flip − leakage on validation images."""
    return max(rows, key=lambda row: _gain(row.chosen))


def strip(
    model: ImageFlow,
    data: ImageData,
    chosen: NDArray[np.int64],
    direction: Latents,
    amount: float,
    settings: AttributeSettings,
) -> NDArray[np.uint8]:
    """Each image moved by `STRIP` · amount: (N, amounts, C, H, W)."""
    latents, labels = codes(model, data, chosen, settings.batch_size)
    moved = [
        pictures(model, edit(latents, [direction], [share * amount]), labels) for share in STRIP
    ]
    return np.stack(moved, axis=1)


class _Watch:
    """Seconds since the last note."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def note(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name], self._last = round(now - self._last, 1), now


def _gain(edited: Edited) -> float:
    return edited.flip.mean - edited.leakage.mean


def _figure(values: NDArray[np.bool_] | NDArray[np.float64]) -> Figure:
    return Figure(*mean_and_error(values.astype(np.float64)))


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


def _in_words(own: NDArray[np.bool_], column: int, names: Sequence[str]) -> tuple[str, ...]:
    others = [b for b in range(len(names)) if b != column]
    return (
        *(f"+{names[b]}" for b in others if own[b, 0]),
        *(f"-{names[b]}" for b in others if own[b, 1]),
    )
