"""CelebA: aligned faces with attributes."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...photos.images import decode
from ..config import DataConfig
from ..margins import Margins
from ..types import TEST, TRAIN, VALID, LeftOut, Source, count_parts
from .folder import SIZE, image_files

CELEBA = ("img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt")
"""The images, their attributes and their parts, as they are called in the flat distribution."""
PLACES = (
    ("", "Img/", "img/"),
    ("", "Anno/", "anno/", "Anno-20180227T133014Z-001/Anno/"),
    ("", "Eval/", "eval/"),
)
"""Folders that each is in, of the distributions there are."""
IMAGES = ("img_align_celeba", "img_align_celeba_png", "img_align_celeba_png.7z")
PUBLISHED = (("train", TRAIN, (162_770,)), ("valid", VALID, (19_867,)), ("test", TEST, (19_962,)))
_NAMES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose
Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee
Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard
Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair
Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
"""
ATTRIBUTES = tuple(_NAMES.split())
"""The 40 of CelebA and CelebA-HQ, in the order of their files."""


def celeba(folder: Path, config: DataConfig) -> Source | None:
    """Images, attributes and parts of CelebA in `folder`, as it is distributed.

    Flat; in the official folders `Img`, `Anno` and `Eval`; or from Kaggle, with tables as .csv and
    the images in a folder within one of the same name. Images may be JPEG or PNG, whatever the
    tables call them. Images of 178x218 are cut to the square `CROP`, unless `fit` is another than
    `crop`; others are taken as they are. With other attributes than CelebA's 40 the layout is the
    same, but not the data set.

    Returns:
        The source, or None where neither the images nor the attributes are there.

    Raises:
        InputError: one of the three is missing, or a table does not fit the images.
    """
    root = _images(folder)
    tables = [
        _find(folder, f"{name}.{suffix}", places)
        for name, places in (
            ("list_attr_celeba", PLACES[1]),
            ("list_eval_partition", PLACES[2]),
        )
        for suffix in ("txt", "csv")
    ]
    attributes, parts = tables[0] or tables[1], tables[2] or tables[3]
    if root is None and attributes is None:
        return None
    missing = [
        name for name, place in zip(CELEBA, (root, attributes, parts), strict=True) if place is None
    ]
    if root is None or attributes is None or parts is None:
        raise InputError(
            f"CelebA in {folder} has no {' and no '.join(missing)}: put it there, or read all "
            "images as an ordinary folder by --layout folder, which glow train and glow data have."
        )
    _, rows = read_table(parts, header_lines=0)
    names, found, left_out = _with_rows(root, image_files(root), rows, parts)
    for name, row in zip(names, found, strict=True):
        if row not in (["0"], ["1"], ["2"]):
            raise InputError(
                f"The image {name} of {folder} has {' '.join(row)!r} and not 0, 1 or 2 in "
                f"{parts.name}: give the file that belongs to the images."
            )
    partition = np.array([int(row[0]) for row in found], dtype=np.int64)
    source = faces_with_attributes(root, names, attributes, config)
    left_out = (*left_out, *source.pop("left_out"))
    if source["attribute_names"] != ATTRIBUTES:
        return Source(
            title=folder.name or str(folder), partition=partition, left_out=left_out, **source
        )
    return Source(
        title="CelebA",
        partition=partition,
        dataset="celeba",
        counts=count_parts(partition, PUBLISHED),
        left_out=left_out,
        **source,
    )


def _images(folder: Path) -> Path | None:
    """The folder with the images themselves."""
    for name in IMAGES:
        found = _find(folder, name, PLACES[0])
        while found is not None and found.is_dir():
            inner = next((found / n for n in IMAGES if (found / n).is_dir()), None)
            if inner is None:
                return found
            found = inner
    return None


def _find(folder: Path, name: str, places: Sequence[str]) -> Path | None:
    return next((path for p in places if (path := folder / p / name).exists()), None)


def _with_rows(
    root: Path, names: Sequence[str], rows: dict[str, list[str]], table: Path
) -> tuple[tuple[str, ...], list[list[str]], tuple[LeftOut, ...]]:
    """The images that a table knows, whatever the suffix, their rows, and the others."""
    by_stem = {PurePosixPath(name).stem: row for name, row in rows.items()}
    found = [rows.get(name) or by_stem.get(PurePosixPath(name).stem) for name in names]
    known = [(name, row) for name, row in zip(names, found, strict=True) if row is not None]
    others = [name for name, row in zip(names, found, strict=True) if row is None]
    if not known:
        raise InputError(
            f"No image of {root}, as {others[0]}, has a line in {table}: give the file that "
            "belongs to the images."
        )
    left_out = (LeftOut(f"not in {table.name}", len(others), others[0]),) if others else ()
    return tuple(name for name, _ in known), [row for _, row in known], left_out


def read_table(path: Path, header_lines: int) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """A CelebA table: the names in its last header line, and the fields of each file.

    In a text file fields are split on runs of blanks, and the first of two header lines is the
    number of files. A .csv file has one header line, of names.

    Raises:
        InputError: the file is cut off, or is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}: it is no text file ({error}).") from error
    lines = text.splitlines()
    comma = path.suffix.lower() == ".csv"
    if comma:
        lines = [line.replace(",", " ") for line in lines]
        header_lines = 1
    if len(lines) <= header_lines:
        raise InputError(f"{path} is empty: give the file that belongs to the images.")
    names = tuple(lines[header_lines - 1].split()[int(comma) :]) if header_lines else ()
    rows = [line.split() for line in lines[header_lines:] if line.strip()]
    if header_lines == 2 and lines[0].strip() != str(len(rows)):
        raise InputError(
            f"{path} announces {lines[0].strip()} files and has lines for {len(rows)}: "
            "get it again."
        )
    return names, {row[0]: row[1:] for row in rows}


def faces_with_attributes(
    root: Path, names: tuple[str, ...], attribute_file: Path, config: DataConfig
) -> dict[str, Any]:
    """What a `Source` has to know of the images `names` below `root`.

    Raises:
        InputError: an image has no line, or another line than of 1 and -1, in the attribute file.
    """
    attribute_names, values = read_table(attribute_file, header_lines=2)
    known, rows, left_out = _with_rows(root, names, values, attribute_file)
    if len(known) < len(names):
        raise InputError(
            f"The image {left_out[0].example} of {root} has no line of {len(attribute_names)} "
            f"times 1 or -1 in {attribute_file.name}: give the file that belongs to the images."
        )
    for name, fields in zip(names, rows, strict=True):
        if len(fields) != len(attribute_names) or not {"1", "-1", "0"}.issuperset(fields):
            raise InputError(
                f"The image {name} of {root} has no line of {len(attribute_names)} times 1 or -1 "
                f"in {attribute_file.name}: give the file that belongs to the images."
            )
    shape = (config.channels or 3, *(config.size or SIZE))
    margins = Margins(len(names), config.fit)

    def read(index: int) -> NDArray[np.uint8]:
        path, seen = root / names[index], margins.of(index)
        return decode(path, shape, config.fit, config.upscale, aligned=True, seen=seen)

    return {
        "shape": shape,
        "dtype": "uint8",
        "names": names,
        "read": read,
        "aligned": True,
        "layout": "CelebA",
        "values_inside": margins.inside,
        "left_out": (),
        "attributes": np.array([[v == "1" for v in row] for row in rows], dtype=bool),
        "attribute_names": attribute_names,
    }
