"""Batch files: images as rows of bytes, with their labels."""

import zipfile
from collections.abc import Sequence
from functools import lru_cache
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..config import DataConfig
from ..formats.pickles import load_pickle
from ..images import refit
from ..types import TEST, TRAIN, Source, count_parts


def planar_source(
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
    """Images of batch files, of which at most two are in memory at a time.

    A file, a pickle or an .npz, holds `data`, uint8 (N, 3·side²): a row is the red, the green and
    the blue plane of an image; and `labels`, N integers.

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
        rows, labels = _load(path)
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
        return _load(path)[0]

    def read(index: int) -> NDArray[np.uint8]:
        file = int(np.searchsorted(starts, index, side="right")) - 1
        image = rows_of(paths[file])[index - starts[file]].reshape(native)
        return refit(image, shape, config.fit, config.upscale, names[index])

    partition = np.repeat([TRAIN] * len(train) + [TEST], sizes)
    (train_name, train_size), (test_name, test_size) = published
    return Source(
        title=title.format(side=side),
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


def _load(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The rows (N, 3·side²) of a file and its labels (N,)."""
    content = _load_npz(path) if path.suffix == ".npz" else load_pickle(path)
    if not isinstance(content, dict) or not {"data", "labels"} <= content.keys():
        raise InputError(f"{path} has no `data` and `labels` in it: get the published file.")
    rows = content["data"]
    if (
        not isinstance(rows, np.ndarray)
        or rows.dtype != np.uint8
        or rows.ndim != 2
        or len(rows) == 0
        or rows.shape[1] != 3 * isqrt(rows.shape[1] // 3) ** 2
    ):
        what = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise InputError(
            f"The images in {path} are {what}, and rows of three planes of bytes are expected: "
            "get the published file."
        )
    try:
        labels = np.asarray(content["labels"])
    except ValueError:  # lists of different lengths
        labels = np.empty(0)
    if labels.shape != (len(rows),) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"The labels in {path} are not {len(rows)} integers, one per image: "
            "get the published file."
        )
    return rows, labels.astype(np.int64)


def _load_npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return {key: content[key] for key in ("data", "labels") if key in content}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"Cannot read {path}: it is damaged ({error}); get it again.") from error
