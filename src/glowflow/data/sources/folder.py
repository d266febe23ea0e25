"""Folders of image files, and what their names say: parts and classes."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import InputError
from ...photos.images import Seen, UnreadableImageError, decode, decode_whole, header_size
from ..config import DataConfig
from ..margins import Margins
from ..patches import UNKNOWN, in_patches
from ..types import TEST, TRAIN, VALID, LeftOut, Source
from ..walk import files_below, images_among

SIZE = (64, 64)
"""Height and width by default."""
MOST_CLASSES = 1000
"""Folders that are read as classes, at most."""
WORDS = {
    "train": TRAIN, "training": TRAIN, "trainset": TRAIN, "traindata": TRAIN,
    "valid": VALID, "val": VALID, "validation": VALID, "dev": VALID, "valset": VALID,
    "test": TEST, "testing": TEST, "testset": TEST, "eval": TEST, "evaluation": TEST,
}  # fmt: skip
"""What people call the parts of a data set."""
IMAGE_FOLDERS = {"image", "images", "img", "imgs", "jpegimages", "rgb"}
MASK_FOLDERS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "segmentation",
    "segmentations", "segmentationclass", "segmentationobject", "gt", "depth", "edges",
}  # fmt: skip
"""What people call the folders of images, and of what belongs to each of them."""


def folder_source(folder: Path, config: DataConfig) -> Source:
    """Every image file below `folder`, in the order of their paths.

    Folders called train, valid (val, validation, dev) and test (testing, eval), or with one of
    these words in their names, are parts; other folders, if every image is in one, are classes.

    Raises:
        InputError: there is no image.
    """
    found = files_below(folder)
    names, left_out = images_among(found, folder)
    if not names:
        kinds = f" ({'; '.join(map(str, left_out[:3]))})" if left_out else ""
        raise InputError(
            f"There is no image in {folder}{kinds}: give a folder with png, jpg or webp files in "
            "it."
        )
    title = folder.name or str(folder)
    arranged = by_folders(names, config)
    return images_source(title, folder, arranged, left_out, config, lambda name: folder / name)


def image_files(folder: Path) -> tuple[str, ...]:
    """The image files below `folder`, sorted, relative to it.

    Raises:
        InputError: there is none.
    """
    names, _ = images_among(files_below(folder), folder)
    if not names:
        raise InputError(f"There is no image in {folder}: give a folder with png or jpg files.")
    return names


def images_source(
    title: str,
    root: Path,
    layout: "Arranged",
    left_out: Sequence[LeftOut],
    config: DataConfig,
    open_file: Callable[[str], Any],
    *,
    in_order: bool = False,
) -> Source:
    """A source of image files, wherever their bytes are.

    Args:
        title: of the source.
        root: for messages.
        layout: the files, and what they are.
        left_out: what is not among them.
        config: how they are read.
        open_file: a path or an open file, by name.
        in_order: as in `Source`.
    """
    shape = (config.channels or 3, *(config.size or SIZE))
    cut = config.fit == "patches"
    files = list(layout.names)
    frames = [0] * len(files)
    many = Frames()
    if config.frames == "all":
        files, frames, order = _all_frames(files, open_file)
        layout = layout.at(order)
    shown = tuple(
        name if config.frames == "first" or frame < 0 else f"{name}[{frame}]"
        for name, frame in zip(files, frames, strict=True)
    )
    margins = Margins(len(files), config.fit)

    def note(index: int, seen: Seen) -> None:
        margins.of(index)(seen)
        many.note(files[index], seen, config)

    def read(index: int) -> NDArray[np.uint8]:
        file, path = open_file(files[index]), str(root / files[index])
        how: Any = {
            "frame": max(frames[index], 0),
            "source_range": config.source_range,
            "seen": partial(note, index),
        }
        if cut:
            return decode_whole(file, shape[0], **how)
        return decode(file, shape, config.fit, config.upscale, path, **how)

    source = Source(
        title=title,
        shape=shape,
        dtype="uint8",
        names=shown,
        read=read,
        in_order=in_order,
        labels=layout.labels,
        class_names=layout.class_names,
        partition=layout.partition,
        layout=layout.name,
        left_out=(*left_out, *layout.left_out),
        notes=layout.notes,
        late_notes=many.sentences,
        values_inside=margins.inside,
        files=tuple(files),
    )
    if not cut:
        return source
    return in_patches(source, [_size_of(open_file, name) for name in files], shape[1])


def _size_of(open_file: Callable[[str], Any], name: str) -> tuple[int, int]:
    """Height and width; zeros of what cannot be read, which is told of when it is."""
    try:
        return header_size(open_file(name))
    except UnreadableImageError:
        return UNKNOWN


class Frames:
    """What is noted of images while they are read."""

    def __init__(self) -> None:
        self.several: list[str] = []
        self.dark: list[str] = []
        self.highest = 0.0
        self.white: dict[float, str] = {}

    def note(self, name: str, seen: Seen, config: DataConfig) -> None:
        """Take a file of several frames, and one of 16 bits that uses few of its values."""
        if seen.frames > 1 and config.frames == "first":
            self.several.append(name)
        if not seen.highest or config.source_range is not None:
            return
        if seen.guessed:
            self.white[seen.white] = min(name, self.white.get(seen.white, name))
        if seen.white == 65535 and seen.highest < 8192:
            self.dark.append(name)
            self.highest = max(self.highest, seen.highest)

    def sentences(self) -> tuple[str, ...]:
        """What a user should know of them.

        Raises:
            InputError: the files do not have one range.
        """
        if len(self.white) > 1:
            ranges = " and ".join(
                f"0 to {high:g} in {name}" for high, name in sorted(self.white.items())
            )
            raise InputError(
                f"Images of 32-bit numbers would be read with two ranges ({ranges}): say with "
                "--source-range LOW HIGH what becomes 0 and 255 in all of them."
            )
        said = []
        if self.several:
            said.append(
                f"{len(self.several):,} files have several frames or pages, as "
                f"{min(self.several)}: the first is read; --frames all reads each."
            )
        if self.dark:
            said.append(
                f"{len(self.dark):,} images of more than 8 bits go no higher than "
                f"{self.highest:g} of 65535, as {min(self.dark)}, and are dark: --source-range 0 "
                f"{2 ** int(np.ceil(np.log2(self.highest + 1))) - 1} spreads them."
            )
        return tuple(said)


@dataclass(frozen=True)
class Arranged:
    """What the paths of images say."""

    name: str
    """Of the layout."""
    names: tuple[str, ...]
    """The images that belong to it."""
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    partition: NDArray[np.int64] | None = None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    def at(self, order: NDArray[np.int64]) -> "Arranged":
        """The same of images that are taken once, several times or not at all."""
        return Arranged(
            self.name,
            tuple(self.names[i] for i in order),
            None if self.labels is None else self.labels[order],
            self.class_names,
            None if self.partition is None else self.partition[order],
            self.left_out,
            self.notes,
        )


def by_folders(names: Sequence[str], config: DataConfig) -> Arranged:
    """What the folders in the paths say, or as `config.layout` has it.

    Raises:
        InputError: as `arrange`.
    """
    if config.layout == "folder":
        return Arranged("folder", tuple(names))
    return arrange(names, parts=config.layout != "classes")


def arrange(names: Sequence[str], *, parts: bool = True) -> Arranged:
    """Parts and classes by the folders in the paths; without `parts` all folders are classes.

    Raises:
        InputError: the folders can be read in two ways.
    """
    paths = [PurePosixPath(name) for name in names]
    while all(len(path.parts) > 1 for path in paths) and len({p.parts[0] for p in paths}) == 1:
        if part_of(paths[0].parts[0]) is not None:
            break
        paths = [PurePosixPath(*path.parts[1:]) for path in paths]  # one folder round everything
    tops = [path.parts[0] if len(path.parts) > 1 else "" for path in paths]
    if parts and (masks := _masks(tops)).any():
        return _without(names, masks)
    parts_of = _parts(sorted(set(tops) - {""})) if parts else {}
    if not parts_of:
        labels, class_names, notes = _classes(tops)
        name = "class folders" if class_names else "folder"
        return Arranged(name, tuple(names), labels, class_names, None, (), notes)
    strays: dict[str, list[str]] = {}
    for name, top in zip(names, tops, strict=True):
        if top not in parts_of:
            strays.setdefault(top, []).append(name)
    left_out = [
        LeftOut(
            f"in {top}/, which is none of the parts" if top else "beside the parts", len(n), n[0]
        )
        for top, n in strays.items()
    ]
    kept = [i for i, top in enumerate(tops) if top in parts_of]
    inner = _unwrapped([(tops[i], paths[i]) for i in kept])
    if (masks := _masks(inner)).any():
        every = np.zeros(len(names), dtype=bool)
        every[kept] = masks
        return _without(names, every)
    labels, class_names, notes = _classes(inner)
    return Arranged(
        "split folders of classes" if class_names else "split folders",
        tuple(names[i] for i in kept),
        labels,
        class_names,
        np.array([parts_of[tops[i]] for i in kept], dtype=np.int64),
        tuple(left_out),
        notes,
    )


def _masks(folders: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each image is what belongs to another one, as in images/ and masks/."""
    lower = [folder.lower() for folder in folders]
    others = set(lower) - IMAGE_FOLDERS
    if not others or not set(lower) & IMAGE_FOLDERS or not others <= MASK_FOLDERS:
        return np.zeros(len(folders), dtype=bool)
    return np.array([folder in MASK_FOLDERS for folder in lower])


def _without(names: Sequence[str], masks: NDArray[np.bool_]) -> Arranged:
    """The others, arranged."""
    found = arrange([name for name, mask in zip(names, masks, strict=True) if not mask])
    left = [name for name, mask in zip(names, masks, strict=True) if mask]
    reason = "belongs to another image (--layout classes reads the folders as classes)"
    return replace(found, left_out=(*found.left_out, LeftOut(reason, len(left), left[0])))


def part_of(name: str) -> int | None:
    """TRAIN, VALID or TEST, where a folder's name has one such word among others."""
    words = [WORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in WORDS]
    return words[0] if len(words) == 1 else None


def _parts(tops: Sequence[str]) -> dict[str, int]:
    """The folders that are parts: at least one to train on and one held out, or nothing beside."""
    domains = [top for top in tops if re.fullmatch(r"(train|val|test)_?[ab]", top.lower())]
    if len(domains) > 1:
        raise InputError(
            f"The folders {' and '.join(domains[:4])} are parts of two domains: give a folder with "
            "the parts of one (train, test), or say with --layout classes that all are classes."
        )
    exact = {top: WORDS[top.lower()] for top in tops if top.lower() in WORDS}
    loose = {top: part for top in tops if (part := part_of(top)) is not None}
    for found in (exact, loose):
        several = len(set(found.values())) > 1 and TRAIN in found.values()
        alone = found and len(found) == len(tops)
        if several or alone:
            twice = [top for top in found if list(found.values()).count(found[top]) > 1]
            if twice:
                raise InputError(
                    f"The folders {' and '.join(twice)} are the same part: rename one of them, or "
                    "read all images as one folder with --layout folder."
                )
            return found
    if exact and len(tops) > 1:
        others = ", ".join([top for top in tops if top not in exact][:3])
        raise InputError(
            f"Folders are called {' and '.join(exact)}, as parts of a data set are, and others "
            f"({others}) not: give the parts one folder each (train, valid, test), or say with "
            "--layout classes that all are classes, or with --layout folder that none is anything."
        )
    return {}


def _unwrapped(some: Sequence[tuple[str, PurePosixPath]]) -> list[str]:
    """The folder within the part that each image is in; empty for none. A folder in a part that is
    called as the part itself, and holds all of it, is no class."""
    inside = {top: [path.parts[1:-1] for t, path in some if t == top] for top, _ in some}
    skip = {
        top: 1 if all(folders and folders[0] == top for folders in within) else 0
        for top, within in inside.items()
    }
    found = []
    for top, path in some:
        folders = path.parts[1 + skip[top] : -1]
        found.append(folders[0] if folders else "")
    return found


def _classes(
    folders: Sequence[str],
) -> tuple[NDArray[np.int64] | None, tuple[str, ...], tuple[str, ...]]:
    """Labels, names, and why there are none."""
    class_names = tuple(sorted(set(folders), key=natural))
    if len(class_names) < 2:
        return None, (), ()
    if "" in class_names:
        count = sum(not folder for folder in folders)
        return None, (), (
            f"{count:,} of {len(folders):,} images are in no folder of a class: the folders are "
            "not read as classes.",
        )  # fmt: skip
    if len(class_names) > MOST_CLASSES:
        return None, (), (
            f"{len(class_names):,} folders are too many for classes (at most {MOST_CLASSES:,}): "
            "the images have no labels.",
        )  # fmt: skip
    index = {name: i for i, name in enumerate(class_names)}
    alike: dict[str, list[str]] = {}
    for name in class_names:
        alike.setdefault(name.casefold(), []).append(name)
    twice = [" and ".join(some) for some in alike.values() if len(some) > 1]
    notes = tuple(
        f"The folders {some} differ in case alone, and are two classes." for some in twice
    )
    return np.array([index[folder] for folder in folders], dtype=np.int64), class_names, notes


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by their values: 2 before 10."""
    pieces = re.split(r"(\d+)", name)
    return [(0, int(p), p) if p.isdigit() and p.isascii() else (1, 0, p) for p in pieces if p]


def _all_frames(
    files: Sequence[str], open_file: Callable[[str], Any]
) -> tuple[list[str], list[int], NDArray[np.int64]]:
    """Each frame of each file, its number (-1 in a file of one), and the file's number."""
    names: list[str] = []
    frames: list[int] = []
    order: list[int] = []
    for index, name in enumerate(files):
        try:
            with Image.open(open_file(name)) as image:
                count = int(getattr(image, "n_frames", 1))
        except Exception:  # what is broken is told of when it is read
            count = 1
        names += [name] * count
        frames += range(count) if count > 1 else [-1]
        order += [index] * count
    return names, frames, np.array(order, dtype=np.int64)
