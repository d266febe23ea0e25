"""`glow edit`: move a photograph along attributes, draw a level anew, change its class, or do again
what a recipe of the studio says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from ..errors import InputError
from ..reports.pictures import rows, save_png, to_pil
from .options import ModelOptions, Outcome, PhotoOptions, check_device
from .ranges import numbers
from .results import new_folder, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.flow import ImageFlow, Latents
    from .photos import Photo

STRIP = "-1:1:0.5"
"""Amounts that are shown of each attribute."""

Strip = tuple[str, NDArray[np.uint8]]
"""A name, and images (N, C, H, W)."""


@dataclass(frozen=True, kw_only=True)
class Options(PhotoOptions, ModelOptions):
    image: Annotated[Path, tyro.conf.Positional]
    """Image file."""
    directions: Path | None = None
    """File of glow directions; by default directions.safetensors beside the model."""
    attribute: tuple[str, ...] = ()
    """Attributes to move along, all at once."""
    instead_of: tuple[str, ...] = ()
    """What the image has and loses for the one --attribute, as another colour of hair: it is then
    moved as from images with that to images with the attribute."""
    amount: tuple[float, ...] = ()
    """How far, one an attribute; the published range is -1 to 1."""
    amounts: str | None = None
    """START:STOP:STEP: a strip for each attribute instead, as --amounts=-1:1:0.25."""
    all: bool = False
    """A sheet with a strip for every attribute of the directions."""
    temperature: float = 1.0
    """Of the moved part. Attributes: what the image has of them already is multiplied by it, before
    the amount is added; 1 is the published edit, 0 brings every image to the same place, and an
    amount of 0 moves nothing. Levels drawn anew: the standard deviation of their noise."""
    resample_level: tuple[int, ...] = ()
    """Draw these levels anew, each by itself, and keep the others; 1 has the finest details."""
    count: int = 6
    """Draws of each level."""
    to_class: str | None = None
    """Decode the same latents as this class, by its name or its number."""
    recipe: Path | None = None
    """Do again, to the same bytes, what a recipe of glow studio says; it knows everything but the
    image, the model and where the directions are."""
    seed: int = 0
    """Of the levels drawn anew."""


def run(options: Options) -> Outcome:
    """Write the image as the model sees it and what became of it."""
    from .model_data import load_model_for
    from .photos import as_the_model_sees, label_of, read_photos

    device = check_device(options.device)
    if options.recipe is not None:
        from .recipe import Replay, run_recipe

        _check_recipe(options)
        asked = Replay(
            image=options.image,
            recipe=options.recipe,
            model=options.model,
            directions=options.directions,
            paste=options.paste,
            out=options.out,
        )
        return run_recipe(asked, device)
    amounts = _check(options)
    model = load_model_for(options.model, device)
    directions = _directions(options, model)
    (photo,) = read_photos((options.image,), model, options)
    label = label_of(model, options.label, 1, "--class")
    target = label
    if options.to_class is not None:
        target = label_of(model, options.to_class, 1, "--to-class")
    x, seen = as_the_model_sees(model, [photo])
    with model.frozen():
        latents = model.encode(x, label)
        if options.resample_level:
            drawn = _levels_drawn_anew(options, model, latents, target)
            return _sheet(options, photo, seen, drawn, [""] * options.count, "drawn anew")
        if amounts:
            moved = _moved(options, model, latents, directions, amounts, target)
            return _sheet(options, photo, seen, moved, [f"{a:+g}" for a in amounts], "moved")
        return _single(options, model, photo, x, seen, latents, directions, (label, target))


def _check_recipe(options: Options) -> None:
    """Refuse what the recipe says already."""
    asked = (*options.attribute, *options.instead_of, *options.amount, *options.resample_level)
    others = (options.amounts, options.to_class, options.crop, options.label, options.fit)
    other = any(each is not None for each in others) or options.all or options.align
    if asked or other or options.temperature != 1 or options.count != Options.count:
        raise InputError(
            "The recipe says what to do and what is taken of the image: give --recipe without "
            "--attribute, --crop and their like."
        )


def _check(options: Options) -> list[float]:
    """The amounts of strips; empty for a single edit.

    Raises:
        InputError: the options do not go together.
    """
    moves = bool(options.attribute) or options.all
    if options.resample_level and (moves or options.to_class is not None):
        raise InputError("Give --resample-level by itself, without --attribute or --to-class.")
    if not (moves or options.resample_level or options.to_class is not None):
        raise InputError(
            "Say what to do: give --attribute, --all, --resample-level, --to-class or --recipe."
        )
    if options.instead_of and len(options.attribute) != 1:
        raise InputError("Give --instead-of with one --attribute, which comes for them.")
    if options.count != Options.count and not options.resample_level:
        raise InputError("--count is of levels that are drawn anew: give --resample-level.")
    if options.temperature != 1 and not (moves or options.resample_level):
        raise InputError("--temperature is of attributes and levels: give --attribute as well.")
    if options.directions is not None and not moves:
        raise InputError("--directions are of attributes: give --attribute or --all.")
    if options.count < 1:
        raise InputError(f"count is {options.count}: draw each level at least once.")
    if not options.temperature >= 0:
        raise InputError(f"temperature is {options.temperature}: give 0 or more.")
    if options.all and (options.attribute or options.amount):
        raise InputError("Give --all or --attribute with --amount, not both.")
    strips = options.all or options.amounts is not None
    if strips and options.amount:
        raise InputError("Give --amount for one edit or --amounts for strips, not both.")
    if strips and not moves:
        raise InputError("Strips need attributes: give --attribute or --all.")
    if (strips or options.resample_level) and options.paste:
        raise InputError("Only one edit can be put back into the photograph: give --amount.")
    if not strips and len(options.attribute) != len(options.amount):
        raise InputError(
            f"There are {len(options.attribute)} attributes and {len(options.amount)} amounts: "
            "give one --amount an attribute, or --amounts for strips."
        )
    return numbers(options.amounts or STRIP, "--amounts") if strips else []


def _directions(options: Options, model: "ImageFlow") -> "dict[str, Latents]":
    """Of the attributes that the options ask for."""
    from ..latents.directions import load_directions
    from .model_data import directions_beside

    if not (options.attribute or options.all):
        return {}
    path = options.directions or directions_beside(options.model)
    directions = load_directions(path, model)
    known = directions.latents
    for name in (*options.attribute, *options.instead_of):
        if name not in known:
            raise InputError(f"{path} has no direction {name!r}: choose among {', '.join(known)}.")
    if options.instead_of:
        (name,) = options.attribute
        return {name: directions.exchange(name, options.instead_of)}
    return dict(known) if options.all else {name: known[name] for name in options.attribute}


def _levels_drawn_anew(
    options: Options, model: "ImageFlow", latents: "Latents", label: "Tensor | None"
) -> list[Strip]:
    from ..latents.edits import resample_level

    strips = []
    for level in options.resample_level:
        codes = [
            resample_level(latents, level, seed=options.seed + i, temperature=options.temperature)
            for i in range(options.count)
        ]
        strips.append((f"level {level}", _decoded(model, codes, label)))
    return strips


def _moved(
    options: Options,
    model: "ImageFlow",
    latents: "Latents",
    directions: "dict[str, Latents]",
    amounts: Sequence[float],
    label: "Tensor | None",
) -> list[Strip]:
    """A strip for each attribute."""
    from ..latents.edits import edit

    strips = []
    for name, direction in directions.items():
        codes = [
            edit(latents, [direction], [amount], temperature=options.temperature)
            for amount in amounts
        ]
        strips.append((name, _decoded(model, codes, label)))
    return strips


def _decoded(
    model: "ImageFlow", codes: "Sequence[Latents]", label: "Tensor | None"
) -> NDArray[np.uint8]:
    """(N, C, H, W): each code by itself, so that memory does not depend on their number."""
    import torch

    from ..models.flow import concern_of
    from .model_data import say

    decoded, bad = [], []
    for code in codes:
        x = model.decode(code, label)
        bad.append(torch.stack(model.in_range(x)).cpu())
        decoded.append(model.to_images(x).cpu().numpy())
    finite, inside = torch.cat(bad, dim=1)
    if concern := concern_of(finite, inside, "edited images"):
        say(f"Warning: {concern}.")
    return np.concatenate(decoded)


def _sheet(
    options: Options,
    photo: "Photo",
    seen: "Tensor",
    strips: Sequence[Strip],
    headings: Sequence[str],
    what: str,
) -> Outcome:
    from .photos import own_names

    original = seen.cpu().numpy()
    folder = new_folder(options.out, "edit")
    save_png(folder / "original.png", to_pil(original[0]))
    with_original = [(name, np.concatenate([original, images])) for name, images in strips]
    save_png(folder / "sheet.png", rows(with_original, ["image", *headings]))
    places = own_names([Path(f"{name.replace(' ', '-')}.png") for name, _ in strips])
    for place, (_, images) in zip(places, strips, strict=True):
        for index, image in enumerate(images):
            save_png(folder / place / f"{index:02d}.png", to_pil(image))
    facts = {
        "out": str(folder),
        "image": str(photo.path),
        "rows": [name for name, _ in strips],
        "columns": [heading for heading in headings if heading] or options.count,
        "temperature": options.temperature,
        "seed": options.seed,
    }
    write_json(folder / "edit.json", facts)
    names = ", ".join(name for name, _ in strips[:6]) + (", …" if len(strips) > 6 else "")
    return Outcome(f"{photo.path.name} with {names} {what}: {folder / 'sheet.png'}.", facts)


def _single(
    options: Options,
    model: "ImageFlow",
    photo: "Photo",
    x: "Tensor",
    seen: "Tensor",
    latents: "Latents",
    directions: "dict[str, Latents]",
    labels: "tuple[Tensor | None, Tensor | None]",
) -> Outcome:
    """One edit, and how much of the image the opposite edit brings back."""
    from ..latents.edits import edit
    from ..models.flow import concern_of
    from .photos import bits_per_dim_of

    label, target = labels
    along = list(directions.values())
    y = model.decode(edit(latents, along, options.amount, temperature=options.temperature), target)
    edited = model.to_images(y)
    finite, inside = model.in_range(y)
    facts: dict[str, Any] = {
        "image": str(photo.path),
        "amounts": dict(zip(directions, options.amount, strict=True)),
        "instead_of": list(options.instead_of),
        "temperature": options.temperature,
        "class": options.label,
        "to_class": options.to_class,
        "bytes": seen.numel(),
        "bytes_changed": int((edited != seen).sum()),
        "bits_per_dim": {
            "original": bits_per_dim_of(model, x, label),
            "edited": bits_per_dim_of(model, y, target),
        },
        "values_clipped": int((~((y >= -0.5) & (y < 0.5))).sum()),
        "concern": concern_of(finite, inside, "edited images"),
        "bytes_not_returned": None,
        "largest_difference": None,
        "bytes_not_returned_unrounded": None,
    }
    if options.temperature == 1:

        def difference(edited_x: "Tensor") -> "Tensor":
            """Of each byte, after the opposite edit."""
            again = model.encode(edited_x, target)
            returned = model.decode(edit(again, along, [-a for a in options.amount]), label)
            return (model.to_images(returned).int() - seen.int()).abs()

        rounded = difference(model.to_float(edited, noise="center"))
        facts["bytes_not_returned"] = int((rounded > 0).sum())
        facts["largest_difference"] = int(rounded.max())
        facts["bytes_not_returned_unrounded"] = int((difference(y) > 0).sum())
    folder = new_folder(options.out, "edit")
    facts["out"] = str(folder)
    before, after = seen[0].cpu().numpy(), edited[0].cpu().numpy()
    save_png(folder / "original.png", to_pil(before))
    save_png(folder / "edited.png", to_pil(after))
    if options.paste:
        save_png(folder / "pasted.png", to_pil(photo.pasted(before, after)))
    write_json(folder / "edit.json", facts)
    code = int(not bool((finite & inside).all()))
    return Outcome(_sentence(photo, facts, folder), facts, code)


def _sentence(photo: "Photo", facts: dict[str, Any], folder: Path) -> str:
    what = [f"{name} {amount:+g}" for name, amount in facts["amounts"].items()]
    if facts["instead_of"]:
        what[0] += f" instead of {' and '.join(facts['instead_of'])}"
    if facts["to_class"] is not None:
        what.append(f"class {facts['class']} → {facts['to_class']}")
    back = ""
    if facts["bytes_not_returned"] == 0:
        back = "; the opposite edit returns every byte"
    elif facts["bytes_not_returned"] is not None:
        back = (
            f"; {facts['bytes_not_returned']:,} of {facts['bytes']:,} bytes differ, by "
            f"{facts['largest_difference']} at most, after the opposite edit of the edited "
            f"picture, {facts['bytes_not_returned_unrounded']:,} before it is rounded to bytes"
        )
    return (
        f"{photo.path.name} with {', '.join(what)}: {facts['bytes_changed']:,} of "
        f"{facts['bytes']:,} bytes changed{back}"
        + (f"; {facts['concern']}" if facts["concern"] else "")
        + f"; pictures in {folder}."
    )
