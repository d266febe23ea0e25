"""Arrays that are named on the command line."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files import path_of


def read_array(text: str, flag: str) -> NDArray[Any]:
    """An array of a `.npy` file, which stays on the disk, or FILE.npz:NAME.

    Raises:
        InputError: there is no such array, or it is damaged.
    """
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
            f"or FILE.npz:NAME, to {flag}."
        ) from error
    if not isinstance(array, np.ndarray) and len(array.files) == 1:
        return read_array(f"{path}:{array.files[0]}", flag)
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} has several arrays: give one as {path}:NAME to {flag}.")
    return array
