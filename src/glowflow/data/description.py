"""What a data set is, in figures: parts, classes, ranges, and what is odd about it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .types import Count, ImageData, Images, Reading, Splits

SHOWN = 5
"""Names that are given of what is odd."""


@dataclass(frozen=True)
class Duplicates:
    """Images that are held out and are, byte for byte, among those before them."""

    count: int
    pairs: tuple[tuple[str, str], ...]
    """Names of the first ones, `name (part)`, each with an image that it equals."""
    inside_train: int
    """Training images that equal an earlier training image."""


@dataclass(frozen=True)
class Description:
    """Figures of a data set as it is read."""

    parts: dict[str, ImageData]
    """`train`, `valid` and `test`; or `all`, of too few images to train on."""
    source: str
    checksum: str
    skipped: tuple[str, ...]
    dataset: str
    completeness: str
    reading: Reading
    counts: tuple[Count, ...] = ()
    """Of each part of the published data set."""
    untrainable: str = ""
    """Why these images cannot be trained on."""

    @classmethod
    def of(cls, data: Splits | Images, untrainable: str = "") -> "Description":
        """Of what `open_splits` or `open_images` gave."""
        if isinstance(data, Splits):
            parts = {"train": data.train, "valid": data.valid, "test": data.test}
            completeness, reading = data.completeness, data.reading or Reading()
            counts = data.counts
        else:
            parts, completeness, reading = {"all": data.data}, "", data.reading
            counts = ()
        return cls(
            parts,
            data.source,
            data.checksum,
            data.skipped,
            data.dataset,
            completeness,
            reading,
            counts,
            untrainable,
        )

    @property
    def some(self) -> ImageData:
        """One of the parts."""
        return next(iter(self.parts.values()))

    def class_counts(self) -> dict[str, dict[str, int]]:
        """Images of each class in each part, by name."""
        names = self.some.class_names
        if self.some.labels is None:
            return {}
        counts = {
            part: np.bincount(np.asarray(data.labels), minlength=len(names))
            for part, data in self.parts.items()
        }
        return {
            name: {part: int(count[number]) for part, count in counts.items()}
            for number, name in enumerate(names)
        }

    def attribute_counts(self) -> dict[str, int]:
        """Images that have each attribute."""
        counts = [
            data.attributes.sum(0) for data in self.parts.values() if data.attributes is not None
        ]
        if not counts:
            return {}
        total = np.sum(counts, axis=0).tolist()
        return dict(zip(self.some.attribute_names, total, strict=True))

    def duplicates(self) -> Duplicates:
        """Equal images across the parts, by the hashes of their bytes."""
        seen: dict[int, str] = {}
        pairs: list[tuple[str, str]] = []
        count = inside = 0
        for part, data in self.parts.items():
            contents = _contents(data)
            names = data.names or tuple(map(str, range(len(data))))
            if part in ("train", "all"):
                inside += len(contents) - len(np.unique(contents))
            for index in np.flatnonzero(np.isin(contents, np.fromiter(seen, np.uint64, len(seen)))):
                count += 1
                if len(pairs) < SHOWN:
                    pairs.append((f"{names[index]} ({part})", seen[int(contents[index])]))
            for content, name in zip(contents.tolist(), names, strict=True):
                seen.setdefault(content, f"{name} ({part})")
        return Duplicates(count, tuple(pairs), inside)

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON can hold them."""
        some, reading, duplicates = self.some, self.reading, self.duplicates()
        return {
            "source": self.source,
            "layout": reading.layout,
            "dataset": self.dataset,
            "completeness": self.completeness,
            "counts": [count._asdict() for count in self.counts],
            "splits": {name: len(part) for name, part in self.parts.items()},
            "split": reading.split,
            "shape": list(some.image_shape),
            "dtype": str(some.images.dtype),
            "value_range": list(reading.value_range),
            "classes": list(some.class_names),
            "class_counts": self.class_counts(),
            "attributes": self.attribute_counts(),
            "duplicates": {
                "across_parts": duplicates.count,
                "examples": [list(pair) for pair in duplicates.pairs],
                "inside_train": duplicates.inside_train,
            },
            "one_colour": {
                "count": len(reading.one_colour),
                "examples": list(reading.one_colour[:SHOWN]),
            },
            "margins": self.margins(),
            "left_out": [each._asdict() for each in reading.left_out],
            "notes": list(reading.notes),
            "skipped": list(self.skipped),
            "untrainable": self.untrainable,
            "checksum": self.checksum,
        }

    def margins(self) -> float | None:
        """Share of the values that is not the source's but the margin of `--fit pad`."""
        inside = [data.values_inside for data in self.parts.values()]
        known = [values for values in inside if values is not None]
        if not known:
            return None
        dims = float(np.prod(self.some.image_shape))
        return 1.0 - float(np.concatenate(known).mean()) / dims


def _contents(data: ImageData) -> NDArray[np.uint64]:
    return np.zeros(0, np.uint64) if data.contents is None else data.contents
