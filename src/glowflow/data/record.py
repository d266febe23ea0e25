"""Which images a run was trained on: kept with the run, in 17 bytes an image (18 once any went)."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import CheckpointError
from ..files import replacing
from .partition import content_of, hash_of
from .types import PER_IMAGE, TEST, TRAIN, ImageData, Splits

FILE = "split.safetensors"
"""In a run's folder."""
KIND = "glowflow split 1"
OTHER_RUN = np.uint64(0x9E3779B97F4A7C15)
"""What turns the hash of a name into one that no name has."""


@dataclass(frozen=True)
class Changes:
    """In what the images differ from those of a run."""

    added: int
    removed: int
    changed: int
    """Those of the same name with other pixels."""
    renamed: int = 0
    """Those that were removed and added under another name."""

    @property
    def any(self) -> bool:
        """Whether they differ."""
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        if not self.any:
            return "the images are those of the run"
        renamed = f" ({self.renamed:,} only have other names)" if self.renamed else ""
        return (
            f"{self.added:,} images were added since the run started, {self.removed:,} removed and "
            f"{self.changed:,} changed{renamed}"
        )


@dataclass(frozen=True)
class SplitRecord:
    """The images of a run by the hashes of their names and of their bytes, and the part of each."""

    names: NDArray[np.uint64]
    """(N,) `hash_of` each name, ascending."""
    contents: NDArray[np.uint64]
    """(N,) as `ImageData.contents`."""
    parts: NDArray[np.uint8]
    """(N,) TRAIN, VALID or TEST."""
    present: NDArray[np.bool_]
    """(N,) Whether it was there at the newest start; what has gone may come back."""

    @classmethod
    def of(cls, splits: Splits) -> "SplitRecord":
        """The record of these splits."""
        parts = (splits.train, splits.valid, splits.test)
        names = np.concatenate([_names(data, n) for n, data in enumerate(parts)])
        contents = np.concatenate([_contents(data) for data in parts])
        numbers = np.repeat(np.arange(3, dtype=np.uint8), [len(data) for data in parts])
        order = np.argsort(names, kind="stable")
        return cls(names[order], contents[order], numbers[order], np.ones(len(names), bool))

    def with_former(self, former: "SplitRecord | None") -> "SplitRecord":
        """With the images that are gone."""
        if former is None:
            return self
        gone = ~np.isin(former.names, self.names)
        names = np.concatenate([self.names, former.names[gone]])
        order = np.argsort(names, kind="stable")
        contents = np.concatenate([self.contents, former.contents[gone]])
        parts = np.concatenate([self.parts, former.parts[gone]])
        present = np.concatenate([self.present, np.zeros(int(gone.sum()), bool)])
        return SplitRecord(names[order], contents[order], parts[order], present[order])

    def save(self, folder: Path) -> None:
        """Write `split.safetensors`.

        Raises:
            InputError: the folder cannot be written.
        """
        tensors = {
            "names": torch.from_numpy(self.names.view(np.int64)),
            "contents": torch.from_numpy(self.contents.view(np.int64)),
            "parts": torch.from_numpy(self.parts),
        }
        if not self.present.all():
            tensors["present"] = torch.from_numpy(self.present.view(np.uint8))
        with replacing(folder / FILE) as path:
            save_file(tensors, path, {"kind": KIND})

    @classmethod
    def load(cls, folder: Path) -> "SplitRecord | None":
        """The record in a run's folder; None in that of an earlier version, which kept none.

        Raises:
            CheckpointError: it is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("kind") != KIND:
                    raise ValueError("it is of another kind")
                names, contents, parts = (
                    file.get_tensor(name).numpy() for name in ("names", "contents", "parts")
                )
                present = np.ones(len(names), bool)
                if "present" in file.keys():  # noqa: SIM118
                    present = file.get_tensor("present").numpy().astype(bool)
                rows = [names, contents, parts, present]
                kinds = [np.int64, np.int64, np.uint8, np.bool_]
                if any(a.dtype != kind for a, kind in zip(rows, kinds, strict=True)):
                    raise ValueError("its columns are of other kinds")
                if any(a.shape != (len(names),) for a in rows) or (parts > TEST).any():
                    raise ValueError("its columns do not fit each other")
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"Cannot read {path}, which says what the run was trained on ({error}): put it "
                "back from a copy, or train anew."
            ) from error
        return cls(names.view(np.uint64), contents.view(np.uint64), parts, present)

    def changes(self, splits: Splits) -> Changes:
        """In what these images differ from the recorded ones."""
        now = SplitRecord.of(splits)
        place, known = self._find(now.names)
        if len(self.names):
            known &= self.present[place]
        changed = int((self.contents[place[known]] != now.contents[known]).sum())
        missing = self.present & ~np.isin(self.names, now.names)
        came, went = Counter(now.contents[~known].tolist()), self.contents[missing].tolist()
        renamed = (came & Counter(went)).total()
        return Changes(int((~known).sum()), len(went), changed, renamed)

    def same_images(self, splits: Splits) -> bool:
        """Whether the images are the recorded ones, whatever they are called now."""
        now = np.sort(SplitRecord.of(splits).contents)
        return np.array_equal(now, np.sort(self.contents[self.present]))

    def of_weights(self) -> "SplitRecord":
        """The images behind the weights that another run starts from, known by content alone."""
        absent = np.zeros(len(self.names), bool)
        names = self.names ^ OTHER_RUN
        order = np.argsort(names, kind="stable")
        return SplitRecord(names[order], self.contents[order], self.parts[order], absent)

    def trained(self, data: ImageData, part: int | None = None) -> NDArray[np.bool_]:
        """Whether the run was trained on each image (N,).

        It was if an image of that name was; or, if there was no such name, one with the same bytes.

        Args:
            data: the images.
            part: TRAIN, VALID or TEST, which stands for the name of images without names.
        """
        place, known = self._find(_names(data, part))
        theirs = np.isin(_contents(data), self.contents[self.parts == TRAIN])
        theirs[known] = self.parts[place[known]] == TRAIN
        return theirs

    def held_out(self, data: ImageData) -> tuple[ImageData, int]:
        """The images that the run was not trained on, and how many it was trained on."""
        trained = self.trained(data)
        if not trained.any():
            return data, 0
        return data.choose(np.flatnonzero(~trained)), int(trained.sum())

    def keep_trained(self, splits: Splits) -> tuple[Splits, int]:
        """The splits with what was trained on, by its content, in the training part, and how many
        images that moves; a published split stays, and they are counted alone."""
        theirs = self.contents[self.parts == TRAIN]
        held_out = [np.isin(_contents(data), theirs) for data in (splits.valid, splits.test)]
        count = sum(int(each.sum()) for each in held_out)
        if not count or (splits.reading is not None and splits.reading.split == "published"):
            return splits, count
        parts = (splits.train, splits.valid, splits.test)
        goals = [np.zeros(len(splits.train), int)]
        goals += [np.where(each, TRAIN, n) for n, each in enumerate(held_out, 1)]
        return _rearranged(splits, parts, goals), count

    def keep(self, splits: Splits) -> Splits:
        """The splits with each recorded image in its recorded part, and new ones where they are."""
        parts = (splits.train, splits.valid, splits.test)
        goals = []
        for number, data in enumerate(parts):
            place, known = self._find(_names(data, number))
            goal = np.full(len(data), number)
            goal[known] = self.parts[place[known]]
            # A renamed training image stays one.
            goal[~known & self.trained(data, number)] = TRAIN
            goals.append(goal)
        if all((goal == number).all() for number, goal in enumerate(goals)):
            return splits
        return _rearranged(splits, parts, goals)

    def _find(self, names: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where each name is in the record, and whether it is there."""
        if not len(self.names):
            return np.zeros(len(names), np.int64), np.zeros(len(names), bool)
        place = np.searchsorted(self.names, names).clip(max=len(self.names) - 1)
        return place, self.names[place] == names


def _rearranged(
    splits: Splits, parts: tuple[ImageData, ...], goals: list[NDArray[np.int64]]
) -> Splits:
    """The splits with each image of `parts` in the part that `goals` says."""
    train, valid, test = (
        _join([d.choose(np.flatnonzero(g == part)) for d, g in zip(parts, goals, strict=True)])
        for part in range(3)
    )
    return replace(splits, train=train, valid=valid, test=test)


def _names(data: ImageData, part: int | None = None) -> NDArray[np.uint64]:
    """Hashes of the names; images without names have those of their part and number."""
    names = data.names or tuple(f"{part}[{i}]" for i in range(len(data)))
    return np.fromiter((hash_of(name) for name in names), np.uint64, len(names))


def _contents(data: ImageData) -> NDArray[np.uint64]:
    if data.contents is not None:
        return data.contents
    return np.fromiter((content_of(image) for image in data.images), np.uint64, len(data))


def _join(some: list[ImageData]) -> ImageData:
    def joined(name: str) -> Any:
        values = [getattr(data, name) for data in some]
        return None if values[0] is None else np.concatenate(values)

    names = tuple(name for data in some for name in data.names)
    return replace(some[0], names=names, **{name: joined(name) for name in PER_IMAGE})
