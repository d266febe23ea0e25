"""`glow sample`: draw images from a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from ..errors import InputError
from ..files import replacing
from ..reports.pictures import crossed, grid, marked, rows, save_png, to_pil
from .options import ModelOptions, Outcome, check_device
from .ranges import numbers
from .results import new_folder

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.flow import Drawn, ImageFlow

MOST_SHOWN = 1024
"""Images of a sheet."""
ATTEMPTS = 20
"""Times that a bad sample is drawn anew, at most."""


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    count: int = 16
    """Number of images."""
    temperature: str | None = None
    """Standard deviation of the latents; by default 0.7, as the paper shows, and 1 with --given.
    START:STOP:STEP draws a grid, one row a temperature, with the same noise."""
    given: str | None = None
    """Of a conditional model: what it is given, a file with an array of each condition's name
    (.npz, HDF5, Zarr), or a .npy file where there is one condition; one observation, or several."""
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Class to draw, by its name or its number, for a class-conditional model; by default every
    image its own."""
    redraw: bool = False
    """Draw samples anew that are not finite or far outside of the range of images, and say how many
    it took."""
    seed: int = 0
    """The same seed gives the same bytes."""


def run(options: Options) -> Outcome:
    """Write a grid and single files."""
    from ..models.conditional import ConditionalGlow
    from .model_data import load_model_for
    from .photos import label_of

    device = check_device(options.device)
    if options.count < 1:
        raise InputError(f"count is {options.count}: draw at least 1 image.")
    usual = "0.7" if options.given is None else "1"
    temperatures = numbers(options.temperature or usual, "--temperature")
    model = load_model_for(options.model, device, any_kind=True)
    labels = None
    if options.label is not None:
        labels = label_of(model, options.label, options.count, "--class")
    if min(temperatures) < 0:
        raise InputError(f"--temperature is {options.temperature}: give 0 or more.")
    if len(temperatures) > 1 and options.redraw:
        raise InputError("--redraw is for one temperature: a sheet of several shows what is drawn.")
    if isinstance(model, ConditionalGlow) or options.given is not None:
        return _of_given(options, model, temperatures)
    if len(temperatures) > 1:
        return _by_temperature(options, model, labels, temperatures)
    (temperature,) = temperatures
    folder = new_folder(options.out, "samples")
    return _leave(options, model, labels, temperature, folder)


def _of_given(options: Options, model: "ImageFlow", temperatures: list[float]) -> Outcome:
    """Samples of a conditional model."""
    from ..models.conditional import ConditionalGlow
    from .given import Draws, sample_given

    if not isinstance(model, ConditionalGlow):
        raise InputError(f"{options.model} is no conditional model: leave --given out.")
    if options.given is None:
        names = ", ".join(model.config.names)
        raise InputError(f"{options.model} is given {names}: name a file with --given.")
    if len(temperatures) > 1 or options.redraw:
        raise InputError("--given is for one temperature, without --redraw: leave them out.")
    (temperature,) = temperatures
    return sample_given(
        Draws(model, options.given, options.count, temperature, options.seed, options.out)
    )


def _leave(
    options: Options,
    model: "ImageFlow",
    labels: "Tensor | None",
    temperature: float,
    folder: Path,
) -> Outcome:
    """Write the samples as they are drawn, and a grid of the first ones."""
    from ..models.likelihood import name_of_data

    kept: list[NDArray[Any]] = []
    tally = Tally()
    index = 0
    with _array(folder, model, options.count) as array:
        for images, usable in _parts(options, model, labels, temperature, tally):
            if index < MOST_SHOWN:
                kept.append(crossed(images, usable))
            if array is not None:
                array[index : index + len(images)] = images
            else:
                for number, image in enumerate(images, index):
                    save_png(folder / f"{number:04d}.png", to_pil(image))
            index += len(images)
    save_png(folder / "grid.png", grid(np.concatenate(kept)[:MOST_SHOWN]))
    facts = {
        "out": str(folder),
        "count": options.count,
        "temperature": temperature,
        "seed": options.seed,
        "class": options.label,
        **tally.facts(),
    }
    more = f"; grid.png has the first {MOST_SHOWN}" if options.count > MOST_SHOWN else ""
    drew = f"Drew {options.count:,} {name_of_data(model.config.bits)}{_of_class(options)}"
    return Outcome(
        f"{drew} at temperature {temperature:g} into {folder}{more}{tally.sentence()}.",
        facts,
        code=tally.code(),
    )


@contextmanager
def _array(folder: Path, model: "ImageFlow", count: int) -> Iterator[NDArray[Any] | None]:
    """`samples.npy` of a model for float data, which is filled on the disk."""
    if model.config.bits is not None:
        yield None
        return
    shape, dtype = (count, *model.config.image_shape), str(model.dtype).removeprefix("torch.")
    with replacing(folder / "samples.npy") as path:
        yield np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _of_class(options: Options) -> str:
    return "" if options.label is None else f" of class {options.label}"


@dataclass
class Tally:
    """What is wrong with samples."""

    drawn: int = 0
    not_finite: int = 0
    far: int = 0
    redrawn: int = 0
    left: int = 0
    """Of those that were drawn anew, how many never became pictures."""
    floats: bool = False

    def note(self, drawn: "Drawn") -> None:
        """Count them."""
        self.drawn += len(drawn.images)
        self.floats = drawn.images.is_floating_point()
        self.not_finite += drawn.not_finite
        self.far += drawn.far

    def facts(self) -> dict[str, int]:
        """For scripts."""
        return {"not_finite": self.not_finite, "far": self.far, "redrawn": self.redrawn}

    def sentence(self) -> str:
        """For people; empty where nothing is wrong."""
        if not self.not_finite + self.far:
            return ""
        came = "as they came" if self.floats else "as they came: bytes that mean nothing"
        what = "redrawn" if self.redrawn else came
        if self.left:
            no = "no better" if self.floats else "no pictures"
            what = f"redrawn, of which {self.left:,} are {no} after {ATTEMPTS} attempts"
        of = "the training data" if self.floats else "images"
        return (
            f"; {self.not_finite:,} of {self.drawn:,} were not finite and {self.far:,} far outside "
            f"of the range of {of}, {what}; a lower --temperature helps, or training with "
            "--coupling-scale bounded"
        )

    def code(self) -> int:
        """1 where nothing that was drawn can be used, or what was to be redrawn could not be."""
        nothing = bool(self.drawn) and self.not_finite + self.far == self.drawn
        return int(nothing or self.left > 0)


def _parts(
    options: Options,
    model: "ImageFlow",
    labels: "Tensor | None",
    temperature: float,
    tally: Tally,
) -> "Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]":
    """The samples, part by part, and whether each is a picture; bad ones are replaced where that is
    asked for."""
    drawn_in_parts = model.draw_in_parts(
        options.count, temperature=temperature, seed=options.seed, labels=labels
    )
    start = 0
    for drawn in drawn_in_parts:
        tally.note(drawn)
        images = drawn.images.numpy()
        usable = drawn.usable.numpy()
        bad = np.flatnonzero(~usable)
        for attempt in range(ATTEMPTS if options.redraw else 0):
            if not len(bad):
                break
            theirs = None if labels is None else labels[start + bad]
            again = model.draw(
                len(bad),
                temperature=temperature,
                seed=options.seed + 1_000_003 * (start + attempt + 1),
                labels=theirs,
            )
            tally.note(again)
            tally.redrawn += len(bad)
            images[bad], usable[bad] = again.images.numpy(), again.usable.numpy()
            bad = np.flatnonzero(~usable)
        if options.redraw:
            tally.left += len(bad)
        start += len(images)
        yield images, usable


def _by_temperature(
    options: Options, model: "ImageFlow", labels: "Tensor | None", temperatures: list[float]
) -> Outcome:
    """A row for each temperature, of the same noise."""
    from ..models.likelihood import name_of_data

    if options.count > MOST_SHOWN:
        raise InputError(
            f"count is {options.count}: a sheet of temperatures has {MOST_SHOWN} columns at most."
        )
    drawn = [
        model.draw(options.count, temperature=t, seed=options.seed, labels=labels)
        for t in temperatures
    ]
    tally = Tally()
    for some in drawn:
        tally.note(some)
    folder = new_folder(options.out, "samples")
    sheet = [
        (marked(f"T = {t:g}", some), crossed(some.images.numpy(), some.usable.numpy()))
        for t, some in zip(temperatures, drawn, strict=True)
    ]
    save_png(folder / "grid.png", rows(sheet))
    return Outcome(
        f"Drew {options.count} {name_of_data(model.config.bits)}{_of_class(options)} at "
        f"{len(drawn)} temperatures: "
        f"{folder / 'grid.png'}"
        f"{tally.sentence()}.",
        {
            "out": str(folder),
            "count": options.count,
            "temperatures": temperatures,
            "seed": options.seed,
            "class": options.label,
            **tally.facts(),
        },
        code=tally.code(),
    )
