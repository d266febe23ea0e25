"""`glow sample`: draw images from a model."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro

from ..errors import InputError
from ..reports.pictures import grid, rows, save_png, to_pil
from .options import ModelOptions, Outcome, check_device
from .ranges import numbers
from .results import new_folder


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    count: int = 16
    """Number of images."""
    temperature: str = "0.7"
    """Standard deviation of the latents; the paper shows 0.7. START:STOP:STEP draws a grid, one row
    a temperature, with the same noise."""
    label: Annotated[int | None, tyro.conf.arg(name="class")] = None
    """Class to draw, for a class-conditional model; by default every image its own."""
    seed: int = 0
    """The same seed gives the same bytes."""


def run(options: Options) -> Outcome:
    """Write a grid and single files."""
    from ..models.registry import load_model
    from .photos import label_of

    device = check_device(options.device)
    if options.count < 1:
        raise InputError(f"count is {options.count}: draw at least 1 image.")
    temperatures = numbers(options.temperature, "--temperature")
    model = load_model(options.model, device=device)
    labels = None
    if options.label is not None:
        labels = label_of(model, options.label, options.count, "--class")
    with model.frozen():
        drawn = [
            model.sample(options.count, temperature=t, seed=options.seed, labels=labels).numpy()
            for t in temperatures
        ]
    folder = new_folder(options.out, "samples")
    if len(drawn) > 1:
        sheet = [(f"T = {t:g}", some) for t, some in zip(temperatures, drawn, strict=True)]
        save_png(folder / "grid.png", rows(sheet))
        return Outcome(
            f"Drew {options.count} images at {len(drawn)} temperatures: {folder / 'grid.png'}.",
            {
                "out": str(folder),
                "count": options.count,
                "temperatures": temperatures,
                "seed": options.seed,
            },
        )
    (images,), (temperature,) = drawn, temperatures
    save_png(folder / "grid.png", grid(images))
    if model.config.bits is None:
        np.save(folder / "samples.npy", images)
    else:
        for index, image in enumerate(images):
            save_png(folder / f"{index:04d}.png", to_pil(image))
    return Outcome(
        f"Drew {options.count} images at temperature {temperature:g} into {folder}.",
        {
            "out": str(folder),
            "count": options.count,
            "temperature": temperature,
            "seed": options.seed,
        },
    )
