"""Edits of every attribute by every estimator, judged: flip rate, leakage and identity."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ...data.inputs import evenly
from ...data.types import Splits
from ...errors import InputError
from ...latents.choices import Estimator
from ...latents.directions import Directions
from ...latents.estimation import estimate_by_each
from ...models.flow import ImageFlow
from ...progress import with_bar
from .belonging import changes_of
from .editor import EXCHANGE, EXCHANGED, Editor, Row, best_row
from .judge import Trust, describe_judge, examine, train_judge

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
FLIPS = 0.80
"""Smallest flip rate of a good edit."""
TRUSTED = 0.9
"""Held-out accuracy of the judge from which an attribute counts in the averages."""


@dataclass(frozen=True)
class Edits:
    """All that was measured."""

    directions_from: int
    """Training images that the directions were found on."""
    judge: Mapping[str, object]
    """How the judge was made."""
    trust: Mapping[str, Trust]
    """Of every attribute."""
    rows: tuple[Row, ...]
    """By every estimator."""
    exchanged: tuple[Row, ...]
    """By `Directions.exchange`, of the attributes with which others leave."""
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

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """An attribute's after another's."""
        return tuple(
            row
            for attribute in self.attributes
            for row in (*self.rows, *self.exchanged)
            if row.attribute == attribute
        )

    def row(self, attribute: str, estimator: str) -> Row | None:
        """The row of an attribute by an estimator, if there is one; by `EXCHANGE`, that of
        `EXCHANGED` where nothing leaves."""
        of_attribute = {r.estimator: r for r in self.all_rows if r.attribute == attribute}
        other = of_attribute.get(EXCHANGED) if estimator == EXCHANGE else None
        return of_attribute.get(estimator, other)

    def best(self, attribute: str) -> Row:
        """The attribute's `best_row`."""
        return best_row([row for row in self.all_rows if row.attribute == attribute])

    def averaged(self, estimator: str | None) -> tuple[Row, ...]:
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
            return sum(row.chosen.gain for row in rows) / max(1, len(rows))

        return max(ESTIMATORS, key=gain)


def measure_edits(
    model: ImageFlow,
    splits: Splits,
    attributes: Sequence[str] = (),
    *,
    images: int,
    validation_images: int,
    limit: int | None,
    judge_images: int,
    minimum: int = 10,
    batch_size: int = 50,
    seed: int = 0,
    progress: bool = True,
) -> Edits:
    """Train the judge, find directions by each estimator, choose each α, and edit test images.

    Judge, directions, `own_changes` and `own_pixels` are from training images, the amounts are
    chosen on validation images, and every figure is from test images.

    Args:
        model: in eval mode, for images of bytes.
        splits: with attributes.
        attributes: edit these only; by default all that are `editable`.
        images: test images that are edited, at most, for each attribute.
        validation_images: validation images, likewise.
        limit: training images that the directions are found on, at most; None for all.
        judge_images: training images that the judge sees in all.
        minimum: training images that are needed with an attribute, and without it.
        batch_size: images at once.
        seed: of the judge, and of which images are edited.
        progress: show bars on stderr.

    Raises:
        InputError: no attribute is `editable`.
    """
    columns = editable(splits, attributes, minimum, limit)
    train, names, watch = splits.train, splits.train.attribute_names, _Watch()
    judge = train_judge(
        train, images=judge_images, seed=seed, device=model.device, progress=progress
    )
    trust = examine(judge, splits.test)
    watch.note("judge")
    directions = estimate_by_each(
        model,
        train,
        ESTIMATORS,
        minimum=minimum,
        limit=limit,
        batch_size=batch_size,
        progress=progress,
    )
    watch.note("directions")
    changes = changes_of(train, columns, minimum)
    editor = Editor(model, judge, batch_size, seed)
    edited = {
        names[change.column]: editor.edit(
            splits, change, directions, images=images, validation_images=validation_images
        )
        for change in with_bar(changes, "editing", visible=progress)
    }
    watch.note("editing")
    return Edits(
        directions_from=min(len(train), limit or len(train)),
        judge=describe_judge(judge, judge_images),
        trust=trust,
        rows=tuple(row for one in edited.values() for row in one.rows),
        exchanged=tuple(one.exchanged for one in edited.values() if one.exchanged is not None),
        unedited={name: one.unedited for name, one in edited.items()},
        own={names[change.column]: change.in_words(names) for change in changes},
        pixels={names[change.column]: float(change.pixels.mean()) for change in changes},
        refused=_refused(edited, directions.values()),
        seconds=watch.seconds,
        strips={name: one.strip for name, one in edited.items()},
    )


def editable(splits: Splits, wanted: Sequence[str], minimum: int, limit: int | None) -> list[int]:
    """The columns of the attributes that have enough images, among those that are wanted or all.

    Raises:
        InputError: a wanted attribute is too rare, or all are.
    """
    train = splits.train
    shown = np.asarray(train.attributes)[evenly(len(train), limit)]
    held = [np.asarray(part.attributes) for part in (splits.valid, splits.test)]
    columns, reasons = [], []
    for column, name in enumerate(train.attribute_names):
        if wanted and name not in wanted:
            continue
        sides = int(shown[:, column].sum()), int((~shown[:, column]).sum())
        lack = min(int((~part[:, column]).sum()) for part in held)
        if min(sides) >= minimum and lack > 0:
            columns.append(column)
            continue
        reasons.append(
            f"{name} is true of {sides[0]:,} and false of {sides[1]:,} training images, and "
            f"{lack:,} held-out images lack it: at least {minimum} of each side, and 1 to "
            "edit, are needed"
        )
        if wanted:
            raise InputError(f"{reasons[0]}.")
    if not columns:
        raise InputError(f"No attribute can be edited: {reasons[0]}.")
    return columns


def _refused(edited: Iterable[str], directions: Iterable[Directions]) -> dict[str, str]:
    """Why an estimator has no direction for an attribute that was edited."""
    return {
        f"{name}, {by.estimator}": by.refused[name]
        for name in edited
        for by in directions
        if name not in by.latents
    }


class _Watch:
    """Seconds since the last note."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def note(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name], self._last = round(now - self._last, 1), now
