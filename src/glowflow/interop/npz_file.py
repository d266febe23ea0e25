"""Arrays by name in an `.npz`, without pickle, each read when it is asked for."""

import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import CheckpointError
from .stored import Stored, as_tensor, checked_name, damaged, listed

EXPANDED = 20
"""Times its size that an archive may grow to; weights hardly grow at all."""
MARK = "var:"
HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: Path) -> tuple[Stored, tuple[str, ...]]:
    """The variables of a dump, and what else is in it, in words.

    Where names begin with `var:`, those are the variables; `:0`, which TensorFlow has behind the
    name of a variable's value, is taken off.

    Raises:
        CheckpointError: it is damaged, holds other things than arrays, or grows too large.
    """
    try:
        archive = zipfile.ZipFile(path)  # open until the last array is read
        members = archive.infolist()
        names = [checked_name(member.filename) for member in members]
    except Exception as error:  # what damaged bytes make of zipfile
        raise damaged(path, error) from error
    if odd := [name for name in names if not name.endswith(".npy")]:
        raise CheckpointError(f"{path} has members that are no arrays: {listed(odd)}.")
    size, total = path.stat().st_size, sum(member.file_size for member in members)
    if total > EXPANDED * size + 2**20:
        raise CheckpointError(
            f"{path} has {size:,} bytes and would grow to {total:,}: it is damaged, or made to "
            "fill the memory."
        )
    marked = any(name.startswith(MARK) for name in names)
    readers: dict[str, Callable[[], Tensor]] = {}
    others = []
    for member in members:
        name = member.filename.removesuffix(".npy")
        if marked and not name.startswith(MARK):
            others.append(name)
            continue
        name = name.removeprefix(MARK).removesuffix(":0")
        if name in readers:
            raise CheckpointError(f"{path} has {name} twice: which is right cannot be told.")
        readers[name] = partial(_read, path, archive, member)
    said = f"{len(others):,} arrays that are no variables ({listed(others)})"
    return Stored(readers), (said,) if others else ()


def _read(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Tensor:
    """An array, no larger than the member is."""
    try:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version not in HEADERS:
                raise ValueError(f"{member.filename} has the version {version}")
            shape, by_columns, dtype = HEADERS[version](file)
            content = bytearray(file.read())
    except Exception as error:  # what damaged bytes make of zipfile and NumPy
        raise damaged(path, error) from error
    fits = min(shape, default=0) >= 0 and math.prod(shape) * dtype.itemsize == len(content)
    if not fits or dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise CheckpointError(
            f"{member.filename} in {path} is {dtype} {shape} and has {len(content):,} bytes: "
            "it is damaged, or no array of numbers."
        )
    values = np.frombuffer(content, dtype=dtype)
    if by_columns:
        values = np.ascontiguousarray(values.reshape(shape, order="F"))
    return as_tensor(values, shape)
