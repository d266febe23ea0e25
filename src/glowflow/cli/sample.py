"""`glow sample`: draw images from a model."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import tyro

from ..errors import InputError
from ..glow import Glow
from ..pictures import grid, save_png, to_pil
from .options import CommonOptions, Outcome, check_device
from .results import new_folder


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    model: str
    """Folder of a run or of a saved model, or a Hugging Face hub id."""
    count: int = 16
    """Number of images."""
    temperature: float = 0.7
    """Standard deviation of the latents; the paper shows 0.7."""
    label: Annotated[int | None, tyro.conf.arg(name="class")] = None
    """Class to draw, for a class-conditional model; by default every image its own."""
    seed: int = 0
    """The same seed gives the same bytes."""


def run(options: Options) -> Outcome:
    """Write a grid and single files."""
    device = check_device(options.device)
    if options.count < 1:
        raise InputError(f"count is {options.count}: draw at least 1 image.")
    model = Glow.from_pretrained(options.model, device=device)
    labels = None
    if options.label is not None:
        classes = model.config.classes
        if not 0 <= options.label < classes:
            raise InputError(
                f"class is {options.label}, and this model has {classes} classes"
                + (f": give 0 to {classes - 1}." if classes else ": leave --class out.")
            )
        labels = torch.full((options.count,), options.label)
    images = model.sample(
        options.count, temperature=options.temperature, seed=options.seed, labels=labels
    ).numpy()
    folder = new_folder(options.out, "samples")
    save_png(folder / "grid.png", grid(images))
    if model.config.bits is None:
        np.save(folder / "samples.npy", images)
    else:
        for index, image in enumerate(images):
            save_png(folder / f"{index:04d}.png", to_pil(image))
    return Outcome(
        f"Drew {options.count} images at temperature {options.temperature:g} into {folder}.",
        {
            "out": str(folder),
            "count": options.count,
            "temperature": options.temperature,
            "seed": options.seed,
        },
    )
