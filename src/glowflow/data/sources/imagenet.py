"""The two ImageNets of small images, which are not the same: figures are not compared across.

The old release (PNG, no labels; van den Oord et al. 2016) is the one that RealNVP and Glow report
on. The new release (pickles or npz, with labels; Chrabaszcz et al. 2017) was shrunk with a box
filter and is about 0.25 bits per dimension easier.
"""

import io
import re
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...photos.images import decode
from ..config import DataConfig
from ..margins import Margins
from ..types import TEST, TRAIN, Source, UnreadableImageError, count_parts
from ..walk import folders_in
from .batch_files import batch_file_source
from .folder import image_files

OLD_NAME = re.compile(r"(train|valid)_(\d+)x\2(\.tar)?")
OLD_TRAIN_SIZES = (1_281_149, 1_281_167)
OLD_VALID_SIZES = (49_999, 50_000)
NEW_TRAIN_NAMES = tuple(f"train_data_batch_{i}" for i in range(1, 11))
NEW_VALID_NAME = "val_data"


def imagenet_old(folder: Path, config: DataConfig) -> Source | None:
    """`train_32x32` and `valid_32x32` (or 64x64) in `folder`: folders of PNG files, or .tar files.

    The official validation images are the test; validation is taken out of the training images.

    Returns:
        The source, or None where there is no such folder or tar file.

    Raises:
        InputError: one of the two is missing, a tar file is damaged, or there are several sizes
            and none of them is asked for.
    """
    parts = {(m[1], int(m[2])): path for path, m in _old_parts(folder)}
    sides = sorted({side for _, side in parts})
    if not sides:
        return None
    if len(sides) > 1 and config.size is not None:
        sides = [side for side in sides if config.size == (side, side)] or sides
    if len(sides) > 1:
        raise InputError(
            f"{folder} holds ImageNet in several sizes ({', '.join(map(str, sides))}): "
            f"give --size {sides[0]} {sides[0]}, or another one of them."
        )
    (side,) = sides
    for name in ("train", "valid"):
        if (name, side) not in parts:
            raise InputError(
                f"ImageNet in {folder} has no {name}_{side}x{side}: "
                f"put the folder, or {name}_{side}x{side}.tar, there."
            )
    files = [_pngs(parts[name, side]) for name in ("train", "valid")]
    partition = np.repeat([TRAIN, TEST], [len(part) for part in files])
    everything = files[0] + files[1]
    native = (3, side, side)
    shape = (config.channels or 3, *(config.size or native[1:]))

    margins = Margins(len(everything), config.fit)

    def read(index: int) -> NDArray[np.uint8]:
        png = everything[index]
        seen = margins.of(index)
        return decode(png.open(), shape, config.fit, config.upscale, png.name, seen=seen)

    return Source(
        values_inside=margins.inside,
        layout="ImageNet",
        title=f"ImageNet {side}x{side}, old release (PNG)",
        shape=shape,
        dtype="uint8",
        names=tuple(png.name for png in everything),
        read=read,
        partition=partition,
        dataset=f"imagenet{side}-old" if shape == native else "",
        counts=count_parts(
            partition, [("train", TRAIN, OLD_TRAIN_SIZES), ("valid", TEST, OLD_VALID_SIZES)]
        ),
    )


def imagenet_new(folder: Path, config: DataConfig) -> Source | None:
    """`train_data_batch_1` to `_10` and `val_data`, pickles or .npz, in `folder` or folders in it.

    Labels are 1 to 1000 in the files, and 0 to 999 afterwards. The official validation images are
    the test; validation is taken out of the training images.

    Returns:
        The source, or None where there is no such file.

    Raises:
        InputError: a file is missing, damaged, or there twice.
    """
    places = [folder, *folders_in(folder)]
    paths_of = {
        name: [p for place in places for p in (place / name, place / f"{name}.npz") if p.is_file()]
        for name in (*NEW_TRAIN_NAMES, NEW_VALID_NAME)
    }
    missing = [name for name, paths in paths_of.items() if not paths]
    if len(missing) == len(paths_of):
        return None
    if missing:
        raise InputError(f"ImageNet in {folder} has no {', '.join(missing)}: put the files there.")
    for name, paths in paths_of.items():
        if len(paths) > 1:
            raise InputError(f"{name} is twice in {folder} ({paths[0]}, {paths[1]}): keep one.")
    return batch_file_source(
        [paths_of[name][0] for name in NEW_TRAIN_NAMES],
        paths_of[NEW_VALID_NAME][0],
        config,
        title="ImageNet {side}x{side}, new release (box-filtered, labelled)",
        dataset="imagenet{side}-new",
        published=(("train", 1_281_167), ("val", 50_000)),
        classes=tuple(map(str, range(1, 1001))),
        first_label=1,
    )


class _Png(NamedTuple):
    """A PNG file, or the part of a tar file that is one."""

    name: str
    path: Path
    offset: int = 0
    size: int = -1

    def open(self) -> io.BytesIO:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return io.BytesIO(file.read(self.size))
        except OSError as error:
            raise UnreadableImageError(str(error.strerror)) from error


def _old_parts(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    matches = ((path, OLD_NAME.fullmatch(path.name)) for path in folder.iterdir())
    return sorted(
        (path, match)
        for path, match in matches
        if match and (path.is_file() if match[3] else path.is_dir())
    )


def _pngs(path: Path) -> list[_Png]:
    if path.is_dir():
        return [_Png(f"{path.name}/{name}", path / name) for name in image_files(path)]
    pngs = []
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                if member.isfile() and member.name.endswith(".png"):
                    pngs.append(_Png(member.name, path, member.offset_data, member.size))
                tar.members = []  # type: ignore[attr-defined]  # a million of them fill the memory
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"Cannot read {path}: it is damaged ({error}); get it again.") from error
    if not pngs:
        raise InputError(f"There is no PNG file in {path}: get the published file.")
    return sorted(pngs)
