"""CelebA: aligned faces with attributes."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...photos.images import decode
from ..config import DataConfig
from ..types import TEST, TRAIN, VALID, Source, count_parts
from .folder import SIZE, image_files

CELEBA = ("img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt")
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
    """`img_align_celeba`, `list_attr_celeba.txt` and `list_eval_partition.txt` in `folder`.

    Images of 178x218 are cut to the square `CROP`, unless `fit` is `stretch`; others are taken as
    they are. With other attributes than CelebA's 40 the layout is the same, but not the data set.

    Returns:
        The source, or None where one of the three is not there.

    Raises:
        InputError: a text file does not fit the images.
    """
    if not all((folder / name).exists() for name in CELEBA):
        return None
    _, parts = read_table(folder / CELEBA[2], header_lines=0)
    names = image_files(folder / CELEBA[0])
    for name in names:
        if parts.get(name) not in (["0"], ["1"], ["2"]):
            raise InputError(
                f"The image {name} of {folder} has no 0, 1 or 2 in {CELEBA[2]}: "
                "give the file that belongs to the images."
            )
    partition = np.array([int(parts[name][0]) for name in names])
    source = faces_with_attributes(folder / CELEBA[0], names, folder / CELEBA[1], config)
    if source["attribute_names"] != ATTRIBUTES:
        return Source(title=folder.name or str(folder), partition=partition, **source)
    return Source(
        title="CelebA",
        partition=partition,
        dataset="celeba",
        counts=count_parts(partition, PUBLISHED),
        **source,
    )


def read_table(path: Path, header_lines: int) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """A CelebA text file: the names in its last header line, and the fields of each file.

    Fields are split on runs of blanks. The first of two header lines is the number of files.

    Raises:
        InputError: the file is cut off.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) <= header_lines:
        raise InputError(f"{path} is empty: give the file that belongs to the images.")
    names = tuple(lines[header_lines - 1].split()) if header_lines else ()
    rows = [line.split() for line in lines[header_lines:] if line.strip()]
    if header_lines and lines[0].strip() != str(len(rows)):
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
        InputError: an image has no line in the attribute file.
    """
    attribute_names, values = read_table(attribute_file, header_lines=2)
    for name in names:
        fields = values.get(name, [])
        if len(fields) != len(attribute_names) or not {"1", "-1"}.issuperset(fields):
            raise InputError(
                f"The image {name} of {root} has no line of {len(attribute_names)} times 1 or -1 "
                f"in {attribute_file.name}: give the file that belongs to the images."
            )
    shape = (config.channels or 3, *(config.size or SIZE))
    inside = np.zeros(len(names), dtype=np.int64) if config.fit == "pad" else None

    def read(index: int) -> NDArray[np.uint8]:
        note = None if inside is None else partial(inside.__setitem__, index)
        path = root / names[index]
        return decode(path, shape, config.fit, config.upscale, aligned=True, inside=note)

    return {
        "shape": shape,
        "dtype": "uint8",
        "names": names,
        "read": read,
        "aligned": True,
        "values_inside": inside,
        "attributes": np.array([[v == "1" for v in values[name]] for name in names], dtype=bool),
        "attribute_names": attribute_names,
    }
