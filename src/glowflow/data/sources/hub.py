"""Data sets of the Hugging Face hub, read as a stream."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...photos.images import decode
from ..config import DataConfig
from ..extras import extra
from ..margins import Margins
from ..partition import SPLIT_NAMES, held_size
from ..types import TEST, TRAIN, VALID, NoMoreImagesError, Source, UnreadableImageError
from .folder import SIZE

PREFIX = "hub:"
NAME = re.compile(r"(?P<path>[^:@]+)(?::(?P<subset>[^:@]+))?(?:@(?P<revision>[^:@]+))?")
BUFFER = 1000
"""Images among which a limited stream is shuffled."""


def version(config: DataConfig) -> str:
    """What else than its name says which images of a data set are read."""
    return f"{config.image_column} {config.label_column}"


def hub_source(config: DataConfig) -> Source:
    """`hub:org/name`, with `:subset` and `@revision` where there are several; or a local folder.

    The data set is never stored: its files are streamed, each image is decoded and fitted, and only
    the array is kept, so that a set may be larger than the disk. With a `limit`, the stream ends as
    soon as there are enough images, after a shuffle of the files and, in a buffer, of the images;
    without one, the data set has to say how many it has. Its splits train, validation and test are
    kept; others are read only if there is no train.

    Raises:
        InputError: the package datasets is missing, there is no such data set, or its image or
            label column cannot be told.
    """
    name = config.data.removeprefix(PREFIX)
    match = NAME.fullmatch(name)
    if match is None:
        raise InputError(f"{config.data} is no name: give {PREFIX}org/name[:subset][@revision].")
    splits = _load(name, **match.groupdict())
    image_column, label_column, class_names = _columns(name, splits, config)
    plan = _plan(name, splits, config)
    stream = _stream(name, splits, plan, image_column, config)
    names = tuple(f"{part.name}/{i}" for part in plan for i in range(part.size))
    labels = np.zeros(len(names), dtype=np.int64)
    shape = (config.channels or 3, *(config.size or SIZE))

    margins = Margins(len(names), config.fit)

    def read(index: int) -> NDArray[np.uint8]:
        example = next(example for i, example in stream if i == index)
        if example is None:
            raise NoMoreImagesError
        if label_column is not None:
            label = example[label_column]
            if not isinstance(label, int) or label < 0:
                raise UnreadableImageError(f"its {label_column} is {label}")
            labels[index] = label
        content = _content(example[image_column])
        seen = margins.of(index)
        return decode(content, shape, config.fit, config.upscale, names[index], seen=seen)

    return Source(
        values_inside=margins.inside,
        layout="hub",
        title=name,
        shape=shape,
        dtype="uint8",
        names=names,
        read=read,
        in_order=True,
        labels=None if label_column is None else labels,
        class_names=class_names,
        partition=np.repeat([part.part for part in plan], [part.size for part in plan]),
    )


class _Part(NamedTuple):
    """A split that is read: its name, what it is for, and how many of its images are wanted."""

    name: str
    part: int
    size: int


def _load(name: str, path: str, subset: str | None, revision: str | None) -> dict[str, Any]:
    datasets = extra("datasets", "hub")
    try:
        return dict(datasets.load_dataset(path, name=subset, revision=revision, streaming=True))
    except Exception as error:  # of the network, of the hub, or of a builder
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise InputError(
            f"Cannot open {name} ({reason}); check the name, :subset, @revision and the network."
        ) from error


def _columns(
    name: str, splits: dict[str, Any], config: DataConfig
) -> tuple[str, str | None, tuple[str, ...]]:
    """The image column, the label column and the names of its classes."""
    datasets = extra("datasets", "hub")
    features = next(iter(splits.values())).features or {}
    columns = ", ".join(features) or "unknown"
    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    for option, column in (
        ("--image-column", config.image_column),
        ("--label-column", config.label_column),
    ):
        if column is not None and features and column not in features:
            raise InputError(f"{name} has no column {column} for {option}: it has {columns}.")
    if config.image_column is None and len(images) != 1:
        raise InputError(
            f"{name} has {len(images)} columns of images: give --image-column, one of {columns}."
        )
    image = config.image_column or images[0]
    label = config.label_column or (labels[0] if len(labels) == 1 else None)
    kind = features.get(label)
    if label is not None and kind is not None and "int" not in str(getattr(kind, "dtype", "")):
        raise InputError(
            f"The column {label} of {name} is {kind}, and classes or integers are expected: give "
            "another --label-column, or none."
        )
    return image, label, tuple(getattr(kind, "names", None) or ())


def _plan(name: str, splits: dict[str, Any], config: DataConfig) -> list[_Part]:
    """Which splits are read, and how much of each."""
    known = {split: SPLIT_NAMES[split] for split in splits if split in SPLIT_NAMES}
    parts = known if TRAIN in known.values() else dict.fromkeys(splits, TRAIN)
    wanted: dict[int, int] = {}
    if config.limit is not None:
        held = held_size(config.limit, config.held_out)
        wanted = {part: held for part in (VALID, TEST) if part in parts.values()}
        wanted[TRAIN] = config.limit - sum(wanted.values())
    plan = []
    for split, part in parts.items():
        sizes = splits[split].info.splits or {}
        size = sizes[split].num_examples if split in sizes else None
        if size is None and config.limit is None:
            raise InputError(f"{name} does not say how many images it has: give --limit.")
        plan.append(_Part(split, part, min(n for n in (size, wanted.get(part)) if n is not None)))
    return plan


def _stream(
    name: str, splits: dict[str, Any], plan: list[_Part], image_column: str, config: DataConfig
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Number and content of each example of the plan; None where its split has ended."""
    datasets = extra("datasets", "hub")
    index = 0
    for part in plan:
        data = splits[part.name].cast_column(image_column, datasets.Image(decode=False))
        if config.limit is not None:
            data = data.shuffle(seed=0, buffer_size=BUFFER)
        examples = iter(data)
        for _ in range(part.size):
            try:
                example = next(examples, None)
            except Exception as error:  # of the network, or of a damaged file
                reason = " ".join(str(error).split())[:300].rstrip(".")
                raise InputError(
                    f"The stream of {name} broke off at {part.name}/{index} ({reason}); try again."
                ) from error
            yield index, example
            index += 1


def _content(image: dict[str, Any] | None) -> io.BytesIO | Path:
    """The file of an image: in the example, or beside it, here or on the hub."""
    if image is not None and image.get("bytes"):
        return io.BytesIO(image["bytes"])
    if image is None or not image.get("path"):
        raise UnreadableImageError("there is no image")
    try:
        with extra("fsspec", "hub").open(image["path"], "rb") as file:
            return io.BytesIO(file.read())
    except Exception as error:  # of the network or of the disk
        raise UnreadableImageError(" ".join(str(error).split())) from error
