"""`glow interpolate`: the images between two images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import numpy as np
import tyro
from numpy.typing import NDArray

from ..errors import InputError
from ..files import replacing
from ..latents.choices import Curve
from ..reports.pictures import rows, save_animation, save_png, to_pil
from .options import ModelOptions, Outcome, PhotoOptions, check_device
from .results import new_folder, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.flow import ImageFlow
    from .photos import Photo


@dataclass(frozen=True, kw_only=True)
class Options(PhotoOptions, ModelOptions):
    first: Annotated[Path, tyro.conf.Positional]
    """Image file."""
    second: Annotated[Path, tyro.conf.Positional]
    """Image file."""
    steps: int = 9
    """Images, both ends among them."""
    curve: Literal[Curve, "both"] = "linear"
    """linear: as published; spherical: turns each level's code and keeps its length."""
    animation: Literal["gif", "webp", "none"] = "gif"
    """Format of the animation, there and back."""


def run(options: Options) -> Outcome:
    """Encode both, decode what lies between, and write pictures and bits/dim along the path."""
    from .model_data import load_model_for
    from .photos import as_the_model_sees, label_of, read_photos

    device = check_device(options.device)
    if options.steps < 2:
        raise InputError(f"steps is {options.steps}: give at least 2, the two images.")
    model = load_model_for(options.model, device)
    photos = read_photos((options.first, options.second), model, options)
    label = label_of(model, options.label, 1, "--class")
    x, seen = as_the_model_sees(model, photos)
    curves = get_args(Curve) if options.curve == "both" else (options.curve,)
    positions = np.linspace(0, 1, options.steps).tolist()
    with model.frozen():
        paths = {curve: _path(model, x, curve, positions, label) for curve in curves}
    frames: dict[str, NDArray[np.uint8]] = {curve: images for curve, (images, _) in paths.items()}
    bits: dict[str, list[float]] = {curve: along for curve, (_, along) in paths.items()}
    folder = new_folder(options.out, "interpolation")
    _draw(options, folder, positions, frames, bits)
    shown = frames[curves[0]]
    if options.paste:
        _paste(folder, photos, shown)
    changed = int((shown[[0, -1]] != seen.cpu().numpy()).sum())
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


def _path(
    model: "ImageFlow", x: "Tensor", curve: Curve, positions: list[float], label: "Tensor | None"
) -> tuple[NDArray[np.uint8], list[float]]:
    """Images (N, C, H, W) at the positions between two, and the bits/dim of each."""
    import torch

    from ..latents.edits import interpolate
    from ..models.flow import concern_of
    from .model_data import say
    from .photos import bits_per_dim_of

    first, second = (model.encode(end[None], label) for end in x)
    images, bits, bad = [], [], []
    for t in positions:
        between = model.decode(interpolate(first, second, t, curve), label)
        bad.append(torch.stack(model.in_range(between)).cpu())
        images.append(model.to_images(between).cpu().numpy())
        bits.append(bits_per_dim_of(model, between, label))
    finite, inside = torch.cat(bad, dim=1)
    if concern := concern_of(finite, inside, "images between the two"):
        say(f"Warning: {concern}.")
    return np.concatenate(images), bits


def _draw(
    options: Options,
    folder: Path,
    positions: list[float],
    frames: dict[str, NDArray[np.uint8]],
    bits: dict[str, list[float]],
) -> None:
    """A strip, every image, an animation of each curve, and the bits/dim along it."""
    from ..reports.plots import path_curve

    headings = [f"{t:.3g}" for t in positions]
    save_png(folder / "strip.png", rows([*frames.items()], headings))
    for curve, images in frames.items():
        for index, image in enumerate(images):
            save_png(folder / curve / f"{index:03d}.png", to_pil(image))
        if options.animation != "none":
            save_animation(folder / f"{curve}.{options.animation}", images)
    with replacing(folder / "bits_per_dim.png") as path:
        path.write_bytes(path_curve(positions, bits))


def _paste(folder: Path, photos: "list[Photo]", images: NDArray[np.uint8]) -> None:
    """Each image, put back into both photographs."""
    for photo, own, name in zip(photos, images[[0, -1]], ("first", "second"), strict=True):
        for index, image in enumerate(images):
            save_png(
                folder / f"pasted-{name}" / f"{index:03d}.png", to_pil(photo.pasted(own, image))
            )
