"""`glow reconstruct`: encode, decode, and count the bytes that differ."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from ..data import read_image
from ..errors import InputError
from ..evaluation import round_trip
from ..glow import Glow
from ..pictures import rows, save_png, to_pil
from .options import CommonOptions, Outcome, check_device
from .results import new_folder


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files."""
    model: str
    """Folder of a run or of a saved model, or a Hugging Face hub id."""
    upscale: bool = False
    """Accept images smaller than the model's and enlarge them."""
    label: Annotated[int | None, tyro.conf.arg(name="class")] = None
    """Class of the images, for a class-conditional model."""
    seed: int = 0
    """Nothing here is random; taken for the sake of scripts."""


def run(options: Options) -> Outcome:
    """Write each image as the model sees it and as it comes back, and count what differs."""
    device = check_device(options.device)
    if not options.images:
        raise InputError("No image is given: name at least one image file.")
    model = Glow.from_pretrained(options.model, device=device)
    config = model.config
    if config.bits is None:
        raise InputError("This model is for float data: image files cannot be reconstructed by it.")
    read = [read_image(p, config.image_shape, upscale=options.upscale) for p in options.images]
    originals = torch.from_numpy(np.stack(read))
    labels = None
    if options.label is not None:
        labels = torch.full((len(originals),), options.label, device=device)
    seen, decoded = (model.to_images(part).cpu() for part in round_trip(model, originals, labels))
    different = (decoded != seen).flatten(1).sum(1)
    folder = new_folder(options.out, "reconstructions")
    save_png(folder / "grid.png", rows([("original", seen.numpy()), ("decoded", decoded.numpy())]))
    for path, image in zip(options.images, decoded.numpy(), strict=True):
        save_png(folder / f"{path.stem}.png", to_pil(image))
    changed = int(different.sum())
    return Outcome(
        f"{int((different == 0).sum())} of {len(read)} images came back with every byte unchanged"
        + (f"; {changed} of {seen.numel()} bytes differ" if changed else "")
        + f"; pictures in {folder}.",
        {
            "out": str(folder),
            "images": len(read),
            "bytes": seen.numel(),
            "bytes_changed": changed,
        },
        code=1 if changed else 0,
    )
