"""Arrays by name, read sample after sample: NumPy's .npz, HDF5 and Zarr."""

import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, in_one_line
from ..extras import extra

HDF5 = (".h5", ".hdf5", ".he5", ".nc", ".nc4")
ZARR = (".zarr", ".zarr.zip")
SUFFIXES = (".npz", *HDF5, *ZARR)
BLOCK = 2**26
"""Bytes of a file's chunk that are kept while its samples are read."""


@dataclass(frozen=True)
class NamedArray:
    """An array on the disk, of which one sample at a time is in memory."""

    name: str
    shape: tuple[int, ...]
    """The first axis is that of the samples."""
    dtype: np.dtype[Any]
    read: Callable[[int], NDArray[Any]]
    """Sample i; ascending i is fast."""

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {self.shape}"

    def whole(self) -> NDArray[Any]:
        """All samples, in memory."""
        if not self.shape[0]:
            return np.empty(self.shape, self.dtype)
        return np.stack([self.read(index) for index in range(self.shape[0])])


def open_arrays(path: Path) -> dict[str, NamedArray]:
    """The arrays of numbers of a file with at least one axis, by name.

    Raises:
        InputError: it is no such file, is damaged, or a package that reads it is missing.
    """
    name = path.name.lower()
    try:
        if name.endswith(HDF5):
            found = list(_hdf5(path))
        elif name.endswith(ZARR):
            found = list(_zarr(path))
        else:
            found = list(_npz(path))
    except InputError:
        raise
    except Exception as error:  # whatever damaged files make of their readers
        said = in_one_line(error)[:200].rstrip(".")
        raise InputError(
            f"Cannot read {path}: it is damaged, or of another format ({said})."
        ) from error
    return {a.name: a for a in found if a.dtype.kind in "biuf" and len(a.shape)}


def _npz(path: Path) -> Iterator[NamedArray]:
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.namelist() if m.endswith(".npy")]
    for member in members:
        stream = _Member(path, member)
        yield NamedArray(member.removesuffix(".npy"), stream.shape, stream.dtype, stream.read)


class _Member:
    """One array of an .npz file, decompressed as far as it is read."""

    def __init__(self, path: Path, member: str) -> None:
        self.path, self.member = path, member
        self.file: IO[bytes] | None = None
        self.next = 0
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            self.shape, self.fortran, self.dtype = _header(file)
        self.bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        self.loaded: NDArray[Any] | None = None

    def read(self, index: int) -> NDArray[Any]:
        if self.fortran:  # its samples are not one after the other
            if self.loaded is None:
                with np.load(self.path, allow_pickle=False) as archive:
                    self.loaded = archive[self.member.removesuffix(".npy")]
            return self.loaded[index]
        if self.file is None or index < self.next:
            if self.file is not None:
                self.file.close()
            self.file = zipfile.ZipFile(self.path).open(self.member)  # noqa: SIM115
            _header(self.file)
            self.next = 0
        while self.next < index:
            self._take()
        return np.frombuffer(self._take(), self.dtype).reshape(self.shape[1:])

    def _take(self) -> bytes:
        assert self.file is not None
        taken = self.file.read(self.bytes)
        if len(taken) < self.bytes:
            raise InputError(f"{self.path}: the array {self.member} ends at sample {self.next}.")
        self.next += 1
        return taken


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _hdf5(path: Path) -> Iterator[NamedArray]:
    h5py = extra("h5py", "science", "HDF5 files need")
    file = h5py.File(path, "r")
    found: list[Any] = []
    file.visititems(lambda name, item: found.append(item) if hasattr(item, "dtype") else None)
    for item in found:
        if isinstance(item.dtype, np.dtype) and item.shape:
            chunk = item.chunks[0] if item.chunks else 1
            yield _blocked(item.name.lstrip("/"), item, chunk)


def _zarr(path: Path) -> Iterator[NamedArray]:
    zarr = extra("zarr", "science", "Zarr stores need")
    opened = zarr.open(str(path), mode="r")
    if not hasattr(opened, "members"):
        yield _blocked("data", opened, opened.chunks[0] if opened.shape else 1)
        return
    for name, item in sorted(opened.members(max_depth=None)):
        if hasattr(item, "chunks") and item.shape:
            yield _blocked(name, item, item.chunks[0])


def _blocked(name: str, array: Any, chunk: int) -> NamedArray:
    """An array whose chunks have so many samples, each of them read once."""
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    sample = max(1, dtype.itemsize * math.prod(shape[1:]))
    rows = max(1, min(chunk, BLOCK // sample))
    kept: dict[int, NDArray[Any]] = {}

    def read(index: int) -> NDArray[Any]:
        block = index // rows
        if block not in kept:
            kept.clear()
            kept[block] = np.asarray(array[block * rows : (block + 1) * rows])
        return kept[block][index - block * rows]

    return NamedArray(name, shape, dtype, read)
