"""Batch files: images as rows of bytes with their labels, as CIFAR-10's."""

import zipfile
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .pickles import load_pickle


def read_batch_file(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The rows (N, 3·side²) of a file and its labels (N,).

    A file, a pickle or an .npz, holds `data`, uint8 (N, 3·side²): a row is the red, the green and
    the blue plane of an image; and `labels`, N integers.

    Raises:
        InputError: it is damaged, or not of this form.
    """
    content = _load_npz(path) if path.suffix == ".npz" else load_pickle(path)
    if not isinstance(content, dict) or not {"data", "labels"} <= content.keys():
        raise InputError(f"{path} has no `data` and `labels` in it: get the published file.")
    rows = content["data"]
    if (
        not isinstance(rows, np.ndarray)
        or rows.dtype != np.uint8
        or rows.ndim != 2
        or len(rows) == 0
        or rows.shape[1] != 3 * isqrt(rows.shape[1] // 3) ** 2
    ):
        what = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise InputError(
            f"The images in {path} are {what}, and rows of three planes of bytes are expected: "
            "get the published file."
        )
    try:
        labels = np.asarray(content["labels"])
    except ValueError:  # lists of different lengths
        labels = np.empty(0)
    if labels.shape != (len(rows),) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"The labels in {path} are not {len(rows)} integers, one per image: "
            "get the published file."
        )
    return rows, labels.astype(np.int64)


def _load_npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return {key: content[key] for key in ("data", "labels") if key in content}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"Cannot read {path}: it is damaged ({error}); get it again.") from error
