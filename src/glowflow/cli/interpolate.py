"""`glow interpolate`: the images between two images."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from ..errors import InputError
from ..files import replacing
from ..latents.edits import Curve, interpolate
from ..models.likelihood import bits_per_dim
from ..models.registry import load_model
from ..reports.pictures import rows, save_animation, save_png, to_pil
from ..reports.plots import path_curve
from .options import CommonOptions, Outcome, check_device
from .photos import PhotoOptions, as_the_model_sees, label_of, read_photos
from .results import new_folder, write_json


@dataclass(frozen=True, kw_only=True)
class Options(PhotoOptions, CommonOptions):
    first: Annotated[Path, tyro.conf.Positional]
    """Image file."""
    second: Annotated[Path, tyro.conf.Positional]
    """Image file."""
    model: str
    """Folder of a run or of a saved model, a Hugging Face hub id, or demo-faces, which is
    shipped."""
    steps: int = 9
    """Images, both ends among them."""
    curve: Literal["linear", "spherical", "both"] = "linear"
    """linear: as published; spherical: turns each level's code and keeps its length."""
    animation: Literal["gif", "webp", "none"] = "gif"
    """Format of the animation, there and back."""
    label: Annotated[int | None, tyro.conf.arg(name="class")] = None
    """Class of both images, for a class-conditional model."""
    seed: int = 0
    """Nothing here is random; taken for the sake of scripts."""


def run(options: Options) -> Outcome:
    """Encode both, decode what lies between, and write pictures and bits/dim along the path."""
    device = check_device(options.device)
    if options.steps < 2:
        raise InputError(f"steps is {options.steps}: give at least 2, the two images.")
    model = load_model(options.model, device=device)
    photos = read_photos((options.first, options.second), model, options)
    label = label_of(model, options.label, 1, "--class")
    x, seen = as_the_model_sees(model, photos)
    ends = [model.encode(end[None], label) for end in x]
    curves = get_args(Curve) if options.curve == "both" else (options.curve,)
    positions = np.linspace(0, 1, options.steps).tolist()
    frames: dict[str, NDArray[np.uint8]] = {}
    bits: dict[str, list[float]] = {}
    for curve in curves:
        images, bits[curve] = [], []
        for t in positions:
            between = model.decode(interpolate(ends[0], ends[1], t, curve), label)
            images.append(model.to_images(between).cpu())
            with torch.no_grad():
                log_prob = model.log_prob(between, label)
            dims = math.prod(model.config.image_shape)
            bits[curve].append(float(bits_per_dim(log_prob, dims, model.config.bits)))
        frames[curve] = torch.cat(images).numpy()
    shown = frames[curves[0]]
    changed = int((shown[[0, -1]] != seen.cpu().numpy()).sum())
    folder = new_folder(options.out, "interpolation")
    headings = [f"{t:.3g}" for t in positions]
    save_png(folder / "strip.png", rows([(c, frames[c]) for c in curves], headings))
    for curve in curves:
        for index, image in enumerate(frames[curve]):
            save_png(folder / curve / f"{index:03d}.png", to_pil(image))
        if options.animation != "none":
            save_animation(folder / f"{curve}.{options.animation}", frames[curve])
    with replacing(folder / "bits_per_dim.png") as path:
        path.write_bytes(path_curve(positions, bits))
    if options.paste:
        for photo, own, name in zip(photos, shown[[0, -1]], ("first", "second"), strict=True):
            for index, image in enumerate(shown):
                pasted = to_pil(photo.pasted(own, image))
                save_png(folder / f"pasted-{name}" / f"{index:03d}.png", pasted)
    facts = {
        "out": str(folder),
        "images": [str(options.first), str(options.second)],
        "t": positions,
        "bits_per_dim": bits,
        "bytes_changed_at_the_ends": changed,
    }
    write_json(folder / "interpolation.json", facts)
    ends_are = "the ends are the images, every byte" if not changed else f"{changed} bytes differ"
    return Outcome(
        f"{options.steps} images from {options.first.name} to {options.second.name} "
        f"({', '.join(curves)}); {ends_are}; pictures in {folder}.",
        facts,
        code=1 if changed else 0,
    )
