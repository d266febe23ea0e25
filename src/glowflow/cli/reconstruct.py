"""`glow reconstruct`: encode, decode, and count the bytes that differ."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from ..errors import InputError
from ..reports.pictures import rows, save_png, to_pil
from .options import ModelOptions, Outcome, PhotoOptions, check_device
from .results import new_folder


@dataclass(frozen=True, kw_only=True)
class Options(PhotoOptions, ModelOptions):
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files."""


def run(options: Options) -> Outcome:
    """Write each image as the model sees it and as it comes back, and count what differs."""
    import torch

    from ..models.flow import concern_of
    from ..training.health import round_trip
    from .model_data import load_model_for
    from .photos import label_of, own_names, read_photos

    device = check_device(options.device)
    if not options.images:
        raise InputError("No image is given: name at least one image file.")
    model = load_model_for(options.model, device)
    photos = read_photos(options.images, model, options)
    originals = torch.from_numpy(np.stack([photo.seen for photo in photos]))
    labels = label_of(model, options.label, len(originals), "--class")
    x, back = round_trip(model, originals, labels)
    concern = concern_of(*model.in_range(back), "reconstructions")
    seen, decoded = (model.to_images(part).cpu() for part in (x, back))
    different = (decoded != seen).flatten(1).sum(1)
    folder = new_folder(options.out, "reconstructions")
    save_png(folder / "grid.png", rows([("original", seen.numpy()), ("decoded", decoded.numpy())]))
    names = own_names(options.images, ("grid", "pasted"))
    for name, photo, before, image in zip(
        names, photos, seen.numpy(), decoded.numpy(), strict=True
    ):
        save_png(folder / f"{name}.png", to_pil(image))
        if options.paste:
            save_png(folder / "pasted" / f"{name}.png", to_pil(photo.pasted(before, image)))
    changed = int(different.sum())
    return Outcome(
        f"{int((different == 0).sum())} of {len(photos)} images came back with every byte unchanged"
        + (f"; {changed} of {seen.numel()} bytes differ" if changed else "")
        + (f"; {concern}" if concern else "")
        + f"; pictures in {folder}.",
        {
            "out": str(folder),
            "images": len(photos),
            "bytes": seen.numel(),
            "bytes_changed": changed,
            "files": [f"{name}.png" for name in names],
            "concern": concern,
        },
        code=1 if changed else 0,
    )
