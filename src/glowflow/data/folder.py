"""Folders of image files, CelebA's layout among them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .images import decode
from .store import TEST, TRAIN, VALID, Source

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
SPLIT_NAMES = {"train": TRAIN, "valid": VALID, "val": VALID, "validation": VALID, "test": TEST}
SIZE = (64, 64)
"""Height and width by default."""
CELEBA = ("img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt")


def folder_source(
    folder: Path, size: tuple[int, int] | None, channels: int | None, fit: str, upscale: bool
) -> Source:
    """Every image file below `folder`, in the order of their paths.

    Sub-folders `train`, `valid` (or `val`) and `test` are splits; other sub-folders, if every image
    is in one, are classes. A folder in CelebA's layout gives its attributes and its partition.

    Raises:
        InputError: there is no image, or an attribute file does not fit the images.
    """
    celeba = all((folder / name).exists() for name in CELEBA)
    root = folder / CELEBA[0] if celeba else folder
    found = sorted(
        path.relative_to(root)
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not found:
        raise InputError(
            f"There is no image in {folder}: give a folder with png, jpg or webp files in it."
        )
    shape = (channels or 3, *(size or SIZE))
    names = tuple(path.as_posix() for path in found)
    more: dict[str, Any] = _celeba(folder, names) if celeba else _layout(found)
    return Source(
        title=folder.name or str(folder),
        fingerprint=f"folder {_listing(root, found)} {fit} {upscale} {celeba}",
        shape=shape,
        dtype="uint8",
        names=names,
        read=lambda i: decode(root / names[i], shape, fit, upscale),
        **more,
    )


def read_table(path: Path, header_lines: int) -> tuple[list[str], dict[str, list[str]]]:
    """A CelebA text file: the names in its last header line, and the fields of each file.

    Raises:
        InputError: the file is too short.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) <= header_lines:
        raise InputError(f"{path} is empty: give the file that belongs to the images.")
    names = lines[header_lines - 1].split() if header_lines else []
    rows = (line.split() for line in lines[header_lines:] if line.strip())
    return names, {row[0]: row[1:] for row in rows}


def _celeba(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    attribute_names, values = read_table(folder / CELEBA[1], header_lines=2)
    _, parts = read_table(folder / CELEBA[2], header_lines=0)
    for name in names:
        if len(values.get(name, ())) != len(attribute_names) or len(parts.get(name, ())) != 1:
            raise InputError(
                f"The image {name} of {folder} has no complete line in {CELEBA[1]} and "
                f"{CELEBA[2]}: give the files that belong to the images."
            )
    attributes = np.array([[int(v) > 0 for v in values[name]] for name in names], dtype=bool)
    return {
        "attributes": attributes,
        "attribute_names": tuple(attribute_names),
        "partition": np.array([int(parts[name][0]) for name in names]),
    }


def _layout(found: list[Path]) -> dict[str, Any]:
    tops = [path.parts[0] if len(path.parts) > 1 else "" for path in found]
    if all(top.lower() in SPLIT_NAMES for top in tops):
        partition = np.array([SPLIT_NAMES[top.lower()] for top in tops])
        inside = [path.parts[1] if len(path.parts) > 2 else "" for path in found]
        return {"partition": _complete(partition), **_classes(inside)}
    return _classes(tops)


def _classes(tops: list[str]) -> dict[str, Any]:
    class_names = tuple(sorted(set(tops)))
    if "" in class_names or not 2 <= len(class_names) <= 1000:
        return {}
    index = {name: i for i, name in enumerate(class_names)}
    return {"class_names": class_names, "labels": np.array([index[top] for top in tops])}


def _complete(partition: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where there is no VALID or no TEST, halve the other one."""
    partition = partition.copy()
    for missing, other in ((VALID, TEST), (TEST, VALID)):
        if not (partition == missing).any():
            partition[np.flatnonzero(partition == other)[::2]] = missing
    return partition


def _listing(root: Path, found: list[Path]) -> str:
    """A hash of what can be known of the files without reading them."""
    digest = hashlib.sha256(str(root.resolve()).encode())
    for path in found:
        status = (root / path).stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
