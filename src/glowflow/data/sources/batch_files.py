"""What CIFAR-10 and the new ImageNet share: several batch files to train on, and one to test."""

from collections.abc import Sequence
from functools import lru_cache
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...photos.images import refit, values_of
from ..config import DataConfig
from ..formats.batch_file import read_batch_file
from ..types import TEST, TRAIN, Source, count_parts


def batch_file_source(
    train: Sequence[Path],
    test: Path,
    config: DataConfig,
    *,
    title: str,
    dataset: str,
    published: tuple[tuple[str, int], tuple[str, int]],
    classes: Sequence[str],
    first_label: int,
) -> Source:
    """Images of batch files (`read_batch_file`), of which at most two are in memory at a time.

    Args:
        train: files to train on.
        test: the file that figures are reported on.
        config: what size and channels are asked for.
        title: with `{side}` where the side of the images belongs.
        dataset: as in `Source`, with `{side}` likewise.
        published: name and size of the training part and of the other one.
        classes: names of the classes.
        first_label: the label of the first class.

    Raises:
        InputError: a file is missing, damaged, or not of this form.
    """
    paths = [*train, test]
    all_labels = []
    sides = {}
    for path in paths:
        rows, labels = read_batch_file(path)
        if labels.min() < first_label or labels.max() >= first_label + len(classes):
            raise InputError(
                f"The labels in {path} go from {labels.min()} to {labels.max()}, and "
                f"{first_label} to {first_label + len(classes) - 1} are expected: "
                "get the published file."
            )
        all_labels.append(labels - first_label)
        sides[isqrt(rows.shape[1] // 3)] = path
    if len(sides) > 1:
        a, b = list(sides.items())[:2]
        raise InputError(
            f"The images in {a[1]} are {a[0]}x{a[0]} and those in {b[1]} are {b[0]}x{b[0]}: "
            "keep the files of one size in the folder."
        )
    (side,) = sides
    sizes = [len(labels) for labels in all_labels]
    starts = np.cumsum([0, *sizes])
    names = tuple(
        f"{path.name}[{i}]" for path, n in zip(paths, sizes, strict=True) for i in range(n)
    )
    native = (3, side, side)
    shape = (config.channels or 3, *(config.size or native[1:]))

    @lru_cache(maxsize=1)
    def rows_of(path: Path) -> NDArray[np.uint8]:
        return read_batch_file(path)[0]

    def read(index: int) -> NDArray[np.uint8]:
        file = int(np.searchsorted(starts, index, side="right")) - 1
        image = rows_of(paths[file])[index - starts[file]].reshape(native)
        return refit(image, shape, config.fit, config.upscale, names[index])

    partition = np.repeat([TRAIN] * len(train) + [TEST], sizes)
    (train_name, train_size), (test_name, test_size) = published
    return Source(
        title=title.format(side=side),
        layout="batch files",
        values_inside=values_of(native[1:], shape, config.fit, len(names)),
        shape=shape,
        dtype="uint8",
        names=names,
        read=read,
        in_order=True,
        labels=np.concatenate(all_labels),
        class_names=tuple(classes),
        partition=partition,
        dataset=dataset.format(side=side) if shape == native else "",
        counts=count_parts(
            partition, [(train_name, TRAIN, (train_size,)), (test_name, TEST, (test_size,))]
        ),
    )
