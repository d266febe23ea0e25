"""Pickles from strangers, read without running what is in them."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError


def load_pickle(path: Path) -> Any:
    """Read a pickle of dicts, lists, numbers, text, bytes and NumPy arrays.

    A pickle names functions and is free to call them. Here it gets the few that arrays and bytes
    need, under their old and their new names; every other name is refused before anything is
    called. Strings of Python 2 are read as latin-1.

    Raises:
        InputError: the file is damaged, or names something else.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()
    except _RefusedError as error:
        raise InputError(
            f"{path} asks for {error}, which no file of images needs, and was not run: "
            "get the file from its publisher."
        ) from error
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(
            f"Cannot read {path}: it is damaged, or not a pickle "
            f"({' '.join(str(error).split()) or type(error).__name__}); get it again."
        ) from error


class _RefusedError(Exception):
    """A name that is not in `_ALLOWED`."""


def _empty_array(*_: Any) -> NDArray[Any]:
    """What `numpy` calls `_reconstruct`: an array whose content follows."""
    return np.empty(0, dtype=np.uint8)


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise _RefusedError(f"the encoding {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 writes bytes of length 0."""
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): "ndarray",  # an argument of _reconstruct; not to be called
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _RefusedError(f"{module}.{name}")
        return _ALLOWED[module, name]
