"""The files of a folder that are data: links followed, what this package wrote left out."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from PIL import Image

from ..files import MARK, SOFTWARE
from .types import LeftOut

RESULTS = ("edit.json", "interpolation.json", "pca.json", "score.json", "summary.json")
"""Of which one is in folders of results that have no mark; each names its folder as `out`, or its
`study`."""
SHEETS = ("grid.png", "sheet.png", "strip.png")
"""Of which one is in folders of nothing but pictures; each says who wrote it."""
WRITTEN = "written by this package, not data"
"""Why folders of runs, models and results are left out."""
NO_PICTURES = {
    ".pdf", ".eps", ".ps", ".wmf", ".emf", ".h5", ".hdf", ".grib", ".bufr", ".mpg", ".mpeg",
    ".fits", ".fit",
}  # fmt: skip
"""Suffixes that Pillow registers and that are no pictures of pixels, or that it only writes."""


@dataclass(frozen=True)
class Found:
    """Files below a folder."""

    names: tuple[str, ...]
    """Relative to it, sorted; hidden ones are not among them."""
    left_out: tuple[LeftOut, ...] = ()
    """Folders that were not looked into."""


def files_below(folder: Path) -> Found:
    """Every file below a folder that is not hidden.

    Linked folders are followed, each folder once, those that are there themselves first. Folders
    that this package wrote (runs, models, results) are left out, unless they are `folder` itself.
    """
    names: list[str] = []
    reasons: dict[str, list[str]] = {}
    seen = {os.path.realpath(folder)}
    links: list[tuple[str, str]] = []

    def walk(here: str, inside: str) -> None:
        with os.scandir(here) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        for entry in entries:
            name = entry.name
            if is_hidden(name):
                continue
            if entry.is_symlink() and is_folder(entry):
                links.append((entry.path, inside + name))
            elif entry.is_dir(follow_symlinks=False):
                enter(entry.path, inside + name)
            else:
                names.append(inside + name)

    def enter(path: str, name: str) -> None:
        real = os.path.realpath(path)
        if real in seen:
            reasons.setdefault("a link to a folder that was read already", []).append(f"{name}/")
        elif is_output(Path(path)):
            reasons.setdefault(WRITTEN, []).append(f"{name}/")
        else:
            seen.add(real)
            try:
                walk(path, f"{name}/")
            except OSError as error:
                reasons.setdefault(f"cannot be read ({error.strerror})", []).append(f"{name}/")

    walk(str(folder), "")
    while links:
        enter(*links.pop(0))
    left_out = tuple(LeftOut(why, len(some), some[0]) for why, some in reasons.items())
    return Found(tuple(sorted(names)), left_out)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith(".") or name == "__MACOSX"


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in a folder, linked and hidden ones too, sorted; files cost no look."""
    with os.scandir(folder) as scan:
        return sorted(Path(entry.path) for entry in scan if is_folder(entry))


def is_folder(path: "Path | os.DirEntry[str]") -> bool:
    """Whether it is a folder or a link to one; a link to itself, or an impossible name, is not."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether it is a file or a link to one; an impossible name is not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_output(folder: Path) -> bool:
    """Whether this package wrote the folder: a run, a model, or results."""
    try:
        inside = {path.name for path in folder.iterdir()}
    except OSError:
        return False
    return (
        MARK in inside
        or "train.yaml" in inside
        or {"config.json", "model.safetensors"} <= inside
        or any(_names_its_folder(folder / name) for name in RESULTS if name in inside)
        or {"grid.png", "0000.png"} <= inside
        or any(_says_who_wrote_it(folder / name) for name in SHEETS if name in inside)
    )


def _names_its_folder(file: Path) -> bool:
    try:
        facts = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and ("out" in facts or {"study", "command"} <= facts.keys())


def _says_who_wrote_it(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return f"Software\0{SOFTWARE}".encode() in opened.read(256)
    except OSError:
        return False


def images_among(found: Found, root: Path) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """The names of the files that Pillow reads, by their suffix or by their first bytes, and what
    else there is, by type."""
    images = [name for name in found.names if looks_like_image(root / name)]
    others = sorted(set(found.names) - set(images))
    return tuple(images), (*found.left_out, *left_out_by_type(others))


def left_out_by_type(names: Sequence[str]) -> tuple[LeftOut, ...]:
    """Files that are no images, a line for each suffix, the most first."""
    by_type: dict[str, list[str]] = {}
    for name in names:
        by_type.setdefault(PurePosixPath(name).suffix.lower() or "no suffix", []).append(name)
    return tuple(
        LeftOut(f"{suffix} is no image that can be read", len(some), some[0])
        for suffix, some in sorted(by_type.items(), key=lambda item: -len(item[1]))
    )


def looks_like_image(path: Path) -> bool:
    """Whether a file has the suffix of a picture, or, without a known one, begins like one."""
    suffix = path.suffix.lower()
    if suffix in picture_suffixes():
        return path.is_file() or path.is_symlink()
    return path.is_file() and begins_like_image(path)


def begins_like_image(path: Path) -> bool:
    """Whether Pillow knows the format of a file."""
    try:
        with Image.open(path) as image:
            return str(image.format) not in ("PDF", "EPS", "WMF", "MPEG", "HDF5", "GRIB", "BUFR")
    except Exception:  # Pillow raises whatever its decoders raise
        return False


@cache
def picture_suffixes() -> frozenset[str]:
    """Suffixes of the formats that Pillow reads here."""
    readable = (s for s, name in Image.registered_extensions().items() if name in Image.OPEN)
    return frozenset(readable) - NO_PICTURES
