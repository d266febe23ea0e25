"""Fields and what they are given: arrays of one file, by name."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...models.conditions import Condition
from ..config import DataConfig
from ..formats.named_arrays import NamedArray, open_arrays
from ..grids import end_of, other_grid, require_floats, with_channels
from ..types import BY_NAME, Source
from .folder import MOST_CLASSES

FIELDS = {1: "(N, C, L)", 2: "(N, H, W) or (N, C, H, W)", 3: "(N, D, H, W) or (N, C, D, H, W)"}
"""Conditions that are fields, by the axes of the grid."""


def field_source(path: Path, config: DataConfig) -> Source | None:
    """Samples of the array `--target`, given those of `--condition`, of an .npz, HDF5 or Zarr file.

    The target is (N, H, W) or (N, C, H, W): floats of any width, which become `config.dtype`
    and are neither scaled nor dequantised, or uint8, which are bytes of images; floats may be on
    another grid, see `with_channels`. Conditions are fields on a grid of as many axes, (N, H, W) or
    (N, C, H, W) for images, (N, C, L) for one axis; vectors (N, V), single numbers (N,), or
    classes: (N,) whole numbers from 0. Of all arrays one sample at a time is read.

    Returns:
        None for an .npz file of which nothing is named: its images are found by `array_source`.

    Raises:
        InputError: an array is missing, is of another type or shape, or has a value that is not
            finite; the message names the array, the sample and the place. With `missing` "mask"
            conditions may be NaN.
    """
    names = condition_names(config)
    if path.suffix.lower() == ".npz" and config.target is None and not names:
        return None
    arrays = open_arrays(path)
    told = ", ".join(map(str, arrays.values())) or "no array"
    target = _target(path, config, arrays, names, told)
    for name in names:
        if name not in arrays:
            raise InputError(f"{path} has no array {name!r} for --condition: it has {told}.")
        if name == target.name:
            raise InputError(f"{name!r} is the target: it cannot be given too.")
        if arrays[name].shape[0] != target.shape[0]:
            raise InputError(
                f"{path} has {target.shape[0]:,} samples of {target.name} and "
                f"{arrays[name].shape[0]:,} of {name}: give as many."
            )
    shape, dtype = _target_shape(path, target, config)
    chosen = [arrays[name] for name in names]
    conditions = tuple(condition_of(array, path, len(shape) - 1) for array in chosen)

    def read(index: int) -> NDArray[Any]:
        return _finite(target, index, path, config.dtype).reshape(shape)

    def given(index: int) -> NDArray[Any]:
        parts = (_finite(a, index, path, config.dtype, config.missing) for a in chosen)
        return np.concatenate([part.ravel() for part in parts])

    return Source(
        title=f"{path.name}: {target.name}{' given ' + ', '.join(names) if names else ''}",
        shape=shape,
        dtype=dtype,
        names=tuple(map(str, range(target.shape[0]))),
        read=read,
        in_order=True,
        layout=BY_NAME,
        notes=_notes(target, conditions, shape, config, path),
        conditions=conditions,
        given=given if names else None,
    )


def condition_names(config: DataConfig) -> tuple[str, ...]:
    """The arrays that `--condition` names, in its order."""
    return tuple(name.strip() for name in (config.condition or "").split(",") if name.strip())


def condition_of(array: NamedArray, path: Path, axes: int = 2) -> Condition:
    """What an array is to a model, of data on a grid of so many axes, that is given it.

    Raises:
        InputError: it is of another shape, or its whole numbers are no classes.
    """
    shape, name = array.shape[1:], array.name
    if not shape and array.dtype.kind in "iub":
        values = array.whole().astype(np.int64) if array.shape[0] else np.zeros(1, np.int64)
        if values.min() < 0 or values.max() >= MOST_CLASSES:
            raise InputError(
                f"The array {name} of {path} has whole numbers from {values.min()} to "
                f"{values.max()}: classes run from 0 to {MOST_CLASSES - 1} at most; save it as "
                "floats if these are quantities."
            )
        return Condition(name=name, kind="class", shape=(int(values.max()) + 1,))
    if len(shape) <= 1:
        return Condition(name=name, kind="vector", shape=shape or (1,))
    if len(shape) in (axes, axes + 1):
        field = with_channels(shape, axes, f"The array {name} of {path}")
        return Condition(name=name, kind="field", shape=field)
    raise InputError(
        f"The array {name} of {path} is {array.shape}: a condition is (N,), (N, V) or "
        f"{FIELDS[axes]}."
    )


def _notes(
    target: NamedArray,
    conditions: Sequence[Condition],
    shape: tuple[int, ...],
    config: DataConfig,
    path: Path,
) -> tuple[str, ...]:
    """What may have been meant for something else."""
    what = f"The array {target.name} of {path.name}"
    other = other_grid(target.shape[1:], config.grid, what) if target.dtype.kind == "f" else ()
    return other + tuple(
        f"The array {c.name} of {path.name} is read as a vector, which has no places; save it as "
        "(N, 1, L) if it is a field."
        for c in conditions
        if len(shape) == 2 and c.kind == "vector" and c.shape == shape[1:]
    )


def _target(
    path: Path,
    config: DataConfig,
    arrays: dict[str, NamedArray],
    names: Sequence[str],
    told: str,
) -> NamedArray:
    wanted = config.target or config.array
    if wanted is None:
        others = [name for name in arrays if name not in names]
        if len(others) != 1:
            raise InputError(
                f"{path} has several arrays ({told}): say with --target NAME which the model is "
                "for, and with --condition NAME,NAME what it is given."
                if others
                else f"{path} has no array that could be the target: it has {told}."
            )
        wanted = others[0]
    if wanted not in arrays:
        raise InputError(f"{path} has no array {wanted!r} for --target: it has {told}.")
    return arrays[wanted]


def _target_shape(
    path: Path, target: NamedArray, config: DataConfig
) -> tuple[tuple[int, ...], str]:
    what = f"The array {target.name} of {path}"
    shape = with_channels(target.shape[1:], config.grid, what)
    if not target.shape[0]:
        raise InputError(f"{what} is {target.shape}: there are no samples.")
    if target.dtype.kind != "f" and target.dtype != np.uint8:
        raise InputError(
            f"The array {target.name} of {path} is {target.dtype}: give floats, or uint8 images."
        )
    if config.size not in (None, shape[1:]) or config.channels not in (None, shape[0]):
        raise InputError(f"{what} has samples of {shape}: leave --size and --channels out.")
    require_floats(target.dtype, shape, what)
    return shape, "uint8" if target.dtype == np.uint8 else config.dtype


def _finite(
    array: NamedArray, index: int, path: Path, dtype: str, missing: str = "refuse"
) -> NDArray[Any]:
    """A sample, in this dtype unless it is bytes.

    Raises:
        InputError: a value is infinite, or missing and that is refused.
    """
    sample = array.read(index)
    if array.dtype == np.uint8:
        return sample
    with np.errstate(over="ignore"):
        values = sample.astype(dtype)
    finite = ~np.isinf(values) if missing == "mask" else np.isfinite(values)
    if not finite.all():
        first = int(np.flatnonzero(~finite.ravel())[0])
        place = tuple(int(i) for i in np.unravel_index(first, values.shape)) if values.ndim else ()
        where = f" at {place}" if place else ""
        count = math.prod(values.shape) - int(finite.sum())
        raise InputError(
            f"The array {array.name} of {path} is NaN or infinite in sample {index}{where} "
            f"({count:,} of its {values.size:,} values): fill them in, or leave the sample out; "
            f"--missing mask takes NaN in a condition ({end_of(dtype)})."
        )
    return values
