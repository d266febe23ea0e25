"""Folders of image files."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...errors import InputError
from ...photos.images import decode
from ..config import DataConfig
from ..partition import SPLIT_NAMES
from ..types import Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SIZE = (64, 64)
"""Height and width by default."""


def folder_source(folder: Path, config: DataConfig) -> Source:
    """Every image file below `folder`, in the order of their paths.

    Sub-folders `train`, `valid` (or `val`) and `test` are splits; other sub-folders, if every image
    is in one, are classes.

    Raises:
        InputError: there is no image.
    """
    names = image_files(folder)
    shape = (config.channels or 3, *(config.size or SIZE))
    return Source(
        title=folder.name or str(folder),
        shape=shape,
        dtype="uint8",
        names=names,
        read=lambda i: decode(folder / names[i], shape, config.fit, config.upscale),
        **_layout([PurePosixPath(name) for name in names]),
    )


def image_files(folder: Path) -> tuple[str, ...]:
    """The image files below `folder` that are not hidden, sorted, relative to it.

    Raises:
        InputError: there is none.
    """
    names = tuple(name for name in files_below(folder) if name.lower().endswith(SUFFIXES))
    if not names:
        raise InputError(
            f"There is no image in {folder}: give a folder with png, jpg or webp files in it."
        )
    return names


def files_below(folder: Path) -> list[str]:
    """The files below `folder` that are not hidden, sorted, relative to it."""
    names: list[str] = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(here).relative_to(folder).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        names += [prefix + name for name in files if not name.startswith(".")]
    return sorted(names)


def _layout(paths: list[PurePosixPath]) -> dict[str, Any]:
    tops = [path.parts[0] if len(path.parts) > 1 else "" for path in paths]
    if all(top.lower() in SPLIT_NAMES for top in tops):
        partition = np.array([SPLIT_NAMES[top.lower()] for top in tops])
        inside = [path.parts[1] if len(path.parts) > 2 else "" for path in paths]
        return {"partition": partition, **_classes(inside)}
    return _classes(tops)


def _classes(tops: list[str]) -> dict[str, Any]:
    class_names = tuple(sorted(set(tops)))
    if "" in class_names or not 2 <= len(class_names) <= 1000:
        return {}
    index = {name: i for i, name in enumerate(class_names)}
    return {"class_names": class_names, "labels": np.array([index[top] for top in tops])}
