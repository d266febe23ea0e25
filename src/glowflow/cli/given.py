"""What a conditional model is given on the command line, and the samples of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.formats.named_arrays import SUFFIXES, open_arrays
from ..errors import InputError
from ..files import path_of, replacing
from ..models.conditional import ConditionalGlow, require_finite
from ..models.conditions import Condition
from ..reports.pictures import grid, save_png
from .arrays import read_array
from .options import Outcome
from .results import new_folder

if TYPE_CHECKING:
    from torch import Tensor

MOST_SHOWN = 64
"""Samples of the first observation that a sheet has."""


@dataclass(frozen=True)
class Draws:
    """What is asked for."""

    model: ConditionalGlow
    given: str
    count: int
    temperature: float
    seed: int
    out: Path | None


def read_given(model: ConditionalGlow, text: str) -> "Tensor":
    """Rows of conditions from a file.

    Args:
        model: that is given them.
        text: a .npy file or FILE.npz:NAME for a model of one condition; an .npz, HDF5 or Zarr file
            with an array of each condition's name. With or without an axis of observations.

    Raises:
        InputError: an array is missing, does not fit, or is not finite.
    """
    conditions = model.config.conditions
    path = path_of(text)
    if path.name.lower().endswith(SUFFIXES) and path.exists():
        arrays = open_arrays(path)
        told = ", ".join(map(str, arrays.values())) or "no array"
        if missing := [name for name in model.config.names if name not in arrays]:
            raise InputError(f"{path} has no array {missing[0]!r} for --given: it has {told}.")
        values: dict[str, Any] = {c.name: arrays[c.name].whole() for c in conditions}
    elif len(conditions) > 1:
        names = ", ".join(model.config.names)
        raise InputError(
            f"--given is {text}, and the model is given {names}: give an .npz, HDF5 or Zarr file "
            "with arrays of these names."
        )
    else:
        values = {conditions[0].name: np.array(read_array(text, "--given"))}
    rows = model.pack({c.name: _with_all_axes(c, values[c.name]) for c in conditions})
    require_finite(rows, model.config)
    return rows


def _with_all_axes(condition: Condition, value: Any) -> Any:
    """Fields of one channel, and vectors of one entry, may leave that axis out, as in training."""
    shape = condition.value_shape
    if not shape or shape[0] > 1 or value.shape == shape or value.shape[1:] == shape:
        return value
    if value.shape == shape[1:] or value.shape[1:] == shape[1:]:
        return np.expand_dims(value, -len(shape))
    return value


def sample_given(draws: Draws) -> Outcome:
    """Write samples.npy, (count, C, H, W) of one observation or (N, count, C, H, W) of N, and a
    grid of the first ones."""
    model, count = draws.model, draws.count
    rows = read_given(model, draws.given)
    folder = new_folder(draws.out, "samples")
    bytes_ = model.config.bits is not None
    dtype = "uint8" if bytes_ else str(model.dtype).removeprefix("torch.")
    observations = len(rows)
    shape = (observations, count, *model.config.image_shape)
    not_finite = 0
    with replacing(folder / "samples.npy") as path:
        written = shape if observations > 1 else shape[1:]
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=written)
        by_observation = array.reshape(shape)
        for number, row in enumerate(rows):
            parts = model.draw_in_parts(
                count,
                temperature=draws.temperature,
                seed=draws.seed + number,
                labels=row[None],
            )
            start = 0
            for drawn in parts:
                by_observation[number, start : start + len(drawn.images)] = drawn.images.numpy()
                start += len(drawn.images)
                not_finite += drawn.not_finite
        array.flush()
        shown = np.array(by_observation[0, :MOST_SHOWN])
    save_png(folder / "grid.png", grid(np.nan_to_num(shown)))
    of = "1 observation" if observations == 1 else f"each of {observations:,} observations"
    bad = f"; {not_finite:,} are not finite: the inverse overflows" if not_finite else ""
    facts = {
        "out": str(folder),
        "given": draws.given,
        "observations": observations,
        "count": count,
        "temperature": draws.temperature,
        "seed": draws.seed,
        "not_finite": not_finite,
    }
    return Outcome(
        f"Drew {count:,} samples of {of} at temperature {draws.temperature:g} into "
        f"{folder / 'samples.npy'}{bad}.",
        facts,
        code=int(not_finite == observations * count),
    )
