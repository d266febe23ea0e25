"""LSUN: databases of WebP images."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...photos.images import decode
from ..config import DataConfig
from ..extras import extra
from ..margins import Margins
from ..types import TEST, TRAIN, Count, Source
from ..walk import folders_in
from .folder import SIZE

NAME = re.compile(r"(\w+)_(train|val)_lmdb")
TRAIN_SIZES = {
    "bedroom": 3_033_042,
    "bridge": 818_687,
    "church_outdoor": 126_227,
    "classroom": 168_103,
    "conference_room": 229_069,
    "dining_room": 657_571,
    "kitchen": 2_212_277,
    "living_room": 1_315_802,
    "restaurant": 626_331,
    "tower": 708_264,
}
VAL_SIZE = 300


def lsun(folder: Path, config: DataConfig) -> Source | None:
    """An lmdb folder (`data.mdb`: key -> file of an image), or a folder of several.

    `bedroom_train_lmdb` and `bedroom_val_lmdb` are the training images and the test of one
    category; several categories are classes. A database of another name is not split. By default
    the middle of an image is taken; RealNVP and Glow took random squares of smaller copies.

    Returns:
        The source, or None where there is no database.

    Raises:
        InputError: the package lmdb is missing, or a database is damaged.
    """
    folders = [p for p in (folder, *folders_in(folder)) if (p / "data.mdb").is_file()]
    if not folders:
        return None
    bases, keys, names, labels, partition = [], [], [], [], []
    matches = [NAME.fullmatch(path.resolve().name) for path in folders]
    categories = sorted({match[1] if match else "" for match in matches})
    counts = []
    for path, match in zip(folders, matches, strict=True):
        base, own = _open(path)
        bases += [base] * len(own)
        keys += own
        names += [f"{path.name}/{key.decode('latin1')}" for key in own]
        category, part = (match[1], match[2]) if match else ("", "train")
        labels += [categories.index(category)] * len(own)
        partition += [TRAIN if part == "train" else TEST] * len(own)
        if category in TRAIN_SIZES:
            size = TRAIN_SIZES[category] if part == "train" else VAL_SIZE
            counts.append(Count(f"{category} {part}", len(own), (size,)))
    shape = (config.channels or 3, *(config.size or SIZE))

    margins = Margins(len(names), config.fit)

    def read(index: int) -> NDArray[np.uint8]:
        with bases[index].begin(buffers=False) as transaction:
            content = transaction.get(keys[index])
        seen = margins.of(index)
        return decode(
            io.BytesIO(content), shape, config.fit, config.upscale, names[index], seen=seen
        )

    several = len(categories) > 1
    known = not several and categories[0] in TRAIN_SIZES
    return Source(
        values_inside=margins.inside,
        layout="LSUN",
        title=f"LSUN {', '.join(filter(None, categories))}" if any(categories) else folder.name,
        shape=shape,
        dtype="uint8",
        names=tuple(names),
        read=read,
        labels=np.array(labels) if several else None,
        class_names=tuple(categories) if several else (),
        partition=np.array(partition, dtype=np.int64),
        dataset=f"lsun-{categories[0]}" if known else "",
        counts=tuple(counts),
    )


def _open(path: Path) -> tuple[Any, list[bytes]]:
    """The database and its keys."""
    lmdb = extra("lmdb", "lsun")
    try:
        base = lmdb.open(str(path), readonly=True, lock=False, readahead=False, max_readers=64)
        with base.begin() as transaction, transaction.cursor() as cursor:
            return base, [bytes(key) for key in cursor.iternext(keys=True, values=False)]
    except lmdb.Error as error:
        raise InputError(f"Cannot read {path}: it is damaged ({error}); get it again.") from error
