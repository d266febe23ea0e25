"""`glow edit --recipe`: what was done in the studio, done again."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..reports.pictures import save_png, to_pil
from .options import Outcome
from .results import new_folder, write_json

if TYPE_CHECKING:
    from ..latents.recipes import Recipe
    from ..models.flow import ImageFlow


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What is asked for."""

    image: Path
    recipe: Path
    model: str
    directions: Path | None
    paste: bool
    out: Path | None


def run_recipe(options: Replay, device: str) -> Outcome:
    """Write the image as the model sees it and what the recipe makes of it.

    Raises:
        InputError: the recipe is damaged, or of another model or image.
    """
    from ..latents.directions import load_directions
    from ..latents.recipes import checksum, replay
    from ..models.companions import identity
    from ..models.config import picture_shape
    from ..models.training_data import TrainingData
    from ..photos.crops import paste, whole
    from .model_data import directions_beside, load_model_for

    recipe = _read(options.recipe)
    model = load_model_for(options.model, device)
    known = None
    if recipe.amounts or recipe.instead:
        path = options.directions or directions_beside(options.model)
        known = load_directions(path, model)
    photo, before = _seen(options.image, model, recipe)
    after = replay(model, identity(model), before, known, recipe)
    same = checksum(after) == recipe.result
    folder = new_folder(options.out, "edit")
    save_png(folder / "original.png", to_pil(before))
    save_png(folder / "edited.png", to_pil(after))
    if options.paste:
        data = model.trained_on or TrainingData()
        shape = picture_shape(model.config.image_shape)
        crop = recipe.crop or whole(photo, shape, recipe.fit or data.fit, data.aligned)
        save_png(folder / "pasted.png", to_pil(paste(photo, crop, before, after)))
    facts = {
        "out": str(folder),
        "image": str(options.image),
        "recipe": str(options.recipe),
        "amounts": dict(recipe.amounts),
        **({"instead": dict(recipe.instead)} if recipe.instead else {}),
        "temperature": recipe.temperature,
        "bytes": before.size,
        "bytes_changed": int((after != before).sum()),
        "as_in_the_studio": same,
    }
    write_json(folder / "edit.json", facts)
    end = "every byte as in the studio" if same else "not the bytes of the studio"
    moves = [f"{name} {amount:+g}" for name, amount in recipe.amounts.items()]
    moves += [f"{new} instead of {' and '.join(old)}" for new, old in recipe.instead.items()]
    what = ", ".join(moves) or "no edit"
    return Outcome(
        f"{options.image.name} with {what}: {end}; pictures in {folder}.", facts, int(not same)
    )


def _read(path: Path) -> "Recipe":
    from ..latents.recipes import LONGEST, Recipe

    if not path.is_file():
        raise InputError(f"There is no recipe {path}: download one from glow studio.")
    with path.open("rb") as file:
        text = file.read(LONGEST + 1).decode("utf-8", "replace")
    return Recipe.from_json(text, str(path))


def _seen(
    path: Path, model: "ImageFlow", recipe: "Recipe"
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The photograph, and the part of it that the recipe is of, as the model sees it."""
    import torch

    from ..models.config import picture_shape
    from ..models.training_data import TrainingData
    from ..photos.crops import cut
    from ..photos.images import read_photo

    if model.config.bits is None:
        raise InputError("This model is for float data: it does not take image files.")
    known = model.trained_on or TrainingData()
    shape = picture_shape(model.config.image_shape)
    photo = read_photo(path, shape[0], known.source_range)
    if recipe.crop is None:
        seen = model.prepare(path, fit=recipe.fit)[0].numpy()
    else:
        seen = cut(photo, recipe.crop, shape)
    x = model.to_float(torch.from_numpy(seen)[None], noise="center")
    return photo, model.to_images(x)[0].cpu().numpy()
