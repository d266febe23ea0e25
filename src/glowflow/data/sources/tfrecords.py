"""The TFRecord files that were published with Glow: CelebA-HQ among them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...photos.images import refit, values_of
from ..config import DataConfig
from ..formats.tfrecord import parse_example, read_records
from ..partition import SPLIT_NAMES
from ..types import TRAIN, VALID, Source, count_parts
from .celeba import ATTRIBUTES

SHARD = re.compile(r"(?P<prefix>.+)-r(?P<log2>\d\d)-s-(?P<shard>\d+)-of-(?P<shards>\d+)\.tfrecords")


def tfrecords(folder: Path, config: DataConfig) -> Source | None:
    """`train/train-r08-s-0000-of-0120.tfrecords` and so on: records of shape, data, label, attr.

    `shape` is height, width, channels; `data` the bytes of the image in this order; `attr` 40
    attributes, for CelebA-HQ. `r08` stands for 256x256: of several sizes, the one that is asked for
    is read, or else the largest. Folders, or beginnings of names, that are called train, validation
    or test are the parts.

    Returns:
        The source, or None where there is no such file.

    Raises:
        InputError: a file is missing or damaged, or has records of another kind.
    """
    paths = sorted(folder.rglob("*.tfrecords"))
    if not paths:
        return None
    records = [record for path in _of_one_size(paths, config.size) for record in _index(path)]
    shapes = {record.shape for record in records}
    attributes = {len(record.attributes) for record in records}
    if len(shapes) != 1 or len(attributes) != 1:
        raise InputError(
            f"The records in {folder} differ in shape or in their number of attributes "
            f"({len(records)} records, shapes {sorted(shapes)[:3]}): keep what belongs together."
        )
    (native,) = shapes
    celeba_hq = attributes == {len(ATTRIBUTES)}
    labels = np.array([record.label for record in records])
    partition = np.array([record.part for record in records])
    shape = (config.channels or native[0], *(config.size or native[1:]))

    def read(index: int) -> NDArray[np.uint8]:
        image = records[index].pixels()
        return refit(image, shape, config.fit, config.upscale, records[index].name)

    return Source(
        title="CelebA-HQ" if celeba_hq else folder.name or str(folder),
        layout="TFRecord files",
        values_inside=values_of(native[1:], shape, config.fit, len(records)),
        shape=shape,
        dtype="uint8",
        names=tuple(record.name for record in records),
        read=read,
        labels=labels if labels.min() >= 0 and labels.max() > labels.min() else None,
        attributes=np.array([r.attributes for r in records]) > 0 if celeba_hq else None,
        attribute_names=ATTRIBUTES if celeba_hq else (),
        partition=partition,
        dataset="celebahq" if celeba_hq else "",
        counts=count_parts(
            partition,
            [("train", TRAIN, (27_000,)), ("validation", VALID, (3_000,))] if celeba_hq else [],
        ),
    )


class _Record(NamedTuple):
    """Where an image is, and what belongs to it."""

    path: Path
    name: str
    offset: int
    shape: tuple[int, int, int]
    """Channels, height, width."""
    label: int
    attributes: tuple[int, ...]
    part: int

    def pixels(self) -> NDArray[np.uint8]:
        """The image (C, H, W)."""
        channels, height, width = self.shape
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(channels * height * width)
        flat = np.frombuffer(content, dtype=np.uint8)
        return np.ascontiguousarray(flat.reshape(height, width, channels).transpose(2, 0, 1))


def _of_one_size(paths: list[Path], size: tuple[int, int] | None) -> list[Path]:
    """The files of the size that is asked for, or of the largest one; every shard of them."""
    matches = [(path, match) for path in paths if (match := SHARD.fullmatch(path.name))]
    if not matches:
        return paths
    sizes = {int(match["log2"]) for _, match in matches}
    asked = [log2 for log2 in sizes if size == (2**log2, 2**log2)]
    log2 = asked[0] if asked else max(sizes)
    chosen = [(path, match) for path, match in matches if int(match["log2"]) == log2]
    shards: dict[tuple[Path, str, int], set[int]] = {}
    for path, match in chosen:
        key = (path.parent, match["prefix"], int(match["shards"]))
        shards.setdefault(key, set()).add(int(match["shard"]))
    for (parent, prefix, total), there in shards.items():
        if missing := sorted(set(range(total)) - there):
            raise InputError(
                f"{parent} has {len(there)} of the {total} files {prefix}-r{log2:02d}-…; number "
                f"{missing[0]} is the first that is missing: get it again."
            )
    return [path for path, _ in chosen]


def _index(path: Path) -> Iterator[_Record]:
    prefix = path.name.split("-")[0].split(".")[0]
    part = SPLIT_NAMES.get(path.parent.name, SPLIT_NAMES.get(prefix, TRAIN))
    for number, (start, content) in enumerate(read_records(path)):
        name = f"{path.name}[{number}]"
        try:
            example = parse_example(content)
            height, width, channels = example["shape"].integers
            data = example["data"]
            label = example["label"].integers if "label" in example else []
            attributes = example["attr"].integers if "attr" in example else []
            if min(height, width, channels) < 1 or data.size != height * width * channels:
                raise ValueError
        except (KeyError, ValueError, IndexError) as error:
            raise InputError(
                f"The record {name} in {path.parent} has no `shape` of height, width and channels "
                "with as many bytes of `data`: give files of images as published with Glow."
            ) from error
        yield _Record(
            path,
            name,
            start + data.start,
            (channels, height, width),
            label[0] if len(label) == 1 else 0,
            tuple(attributes),
            part,
        )
