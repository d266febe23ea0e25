"""Text files that list images."""

import csv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import InputError
from ..config import DataConfig
from ..types import LeftOut, Source
from ..walk import is_file, picture_suffixes
from .folder import MOST_CLASSES, Arranged, images_source, natural


def list_source(path: Path, config: DataConfig) -> Source:
    """Images that a text file names, a line each: a path, and a class after it where there is one.

    Paths are relative to the list's folder, or absolute. Path and class are told apart by a comma,
    a tab, or the last blank, whichever leaves a file that is there. A first line that names no
    image is the heading.

    Raises:
        InputError: no line names a file that is there.
    """
    rows = _rows(path)
    if rows and _is_heading(path.parent, rows[0][0]):
        heading, rows = rows[:1], rows[1:]
    else:
        heading = []
    there = [row for row in rows if is_file(path.parent / row[0])]
    missing = [name for name, _ in rows if not is_file(path.parent / name)]
    if not there:
        first = (heading or rows or [("nothing", "")])[0][0]
        raise InputError(
            f"{path} names no image that is there (the first line says {first[:80]!r}): list one "
            f"path a line, relative to {path.parent}."
        )
    left_out = (
        [LeftOut("named in the list and not there", len(missing), missing[0])] if missing else []
    )
    return images_source(
        path.name, path.parent, _arranged(there), left_out, config, lambda name: path.parent / name
    )


def listed_files(path: Path) -> list[Path]:
    """The files that the list names, those that are there.

    Raises:
        InputError: the list cannot be read.
    """
    return [path.parent / name for name, _ in _rows(path) if is_file(path.parent / name)]


def _rows(path: Path) -> list[tuple[str, str]]:
    """Path and class of each line that is not blank."""
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error.strerror}): give another file.") from error
    return [_row(path.parent, line) for line in lines if line.strip()]


def _is_heading(root: Path, name: str) -> bool:
    return not is_file(root / name) and PurePosixPath(name).suffix.lower() not in picture_suffixes()


def _arranged(rows: Sequence[tuple[str, str]]) -> Arranged:
    """The images in the order of the list, whatever folders they are in, by the classes in it."""
    names, classes = tuple(name for name, _ in rows), [label for _, label in rows]
    known = tuple(sorted(set(classes), key=natural))
    if "" in known or not 2 <= len(known) <= MOST_CLASSES:
        return Arranged("list", names)
    numbers = np.array([known.index(label) for label in classes], dtype=np.int64)
    return Arranged("list", names, numbers, known)


def _row(root: Path, line: str) -> tuple[str, str]:
    """Path and class, told apart in the first way that names a file; an empty class for none."""
    line = line.strip()
    if is_file(root / line):
        return line, ""
    ways = (next(csv.reader([line]), []), line.split("\t"), line.rsplit(None, 1))
    rows = [(cells[0].strip(), cells[1].strip()) for cells in ways if len(cells) > 1]
    return next((row for row in rows if is_file(root / row[0])), rows[0] if rows else (line, ""))
