"""Arrays that are named on the command line."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.formats.named_arrays import HDF5, ZARR, open_arrays
from ..errors import InputError
from ..files import path_of


def read_array(text: str, flag: str) -> NDArray[Any]:
    """An array of a `.npy` file, which stays on the disk, or FILE:NAME of .npz, HDF5 or Zarr.

    Raises:
        InputError: there is no such array, or it is damaged.
    """
    for file, wanted in ((text, ""), tuple(text.rpartition(":")[::2])):
        if file.lower().endswith((*HDF5, *ZARR)) and path_of(file).exists():
            return _named(path_of(file), wanted, flag)
    name, _, member = text.rpartition(".npz:")
    path = path_of(f"{name}.npz" if name else text)
    try:
        if name:
            with np.load(path, allow_pickle=False) as file:
                if member not in file:
                    raise InputError(f"{path} has no array {member!r}: it has {', '.join(file)}.")
                array = np.asarray(file[member])
        else:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}: give an array to {flag}.") from error
    except Exception as error:  # what damaged bytes make of zipfile and NumPy
        raise InputError(
            f"Cannot read {path}: it is no array of numbers in NumPy's format; give a .npy file, "
            f"or FILE:NAME of an .npz, HDF5 or Zarr file, to {flag}."
        ) from error
    if not isinstance(array, np.ndarray) and len(array.files) == 1:
        return read_array(f"{path}:{array.files[0]}", flag)
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} has several arrays: give one as {path}:NAME to {flag}.")
    return array


def is_array(text: str) -> bool:
    """Whether it names an array, as `read_array` takes it."""
    names = (text, text.rpartition(":")[0])
    return any(name.lower().endswith((".npy", ".npz", *HDF5, *ZARR)) for name in names)


def _named(path: Path, name: str, flag: str) -> NDArray[Any]:
    """The array of this name, or the only one."""
    arrays = open_arrays(path)
    if not name and len(arrays) == 1:
        (name,) = arrays
    if name not in arrays:
        told = ", ".join(arrays) or "none"
        raise InputError(f"Give one array of {path} to {flag}, as {path}:NAME: it has {told}.")
    return arrays[name].whole()
