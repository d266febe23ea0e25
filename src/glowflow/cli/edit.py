"""`glow edit`: move a photograph along attributes, draw a level anew, or change its class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CheckpointError, InputError
from ..latents.directions import load_directions
from ..latents.edits import edit, resample_level
from ..models.flow import ImageFlow, Latents
from ..models.likelihood import bits_per_dim
from ..models.pretrained import locate
from ..models.registry import load_model
from ..reports.pictures import rows, save_png, to_pil
from .options import CommonOptions, Outcome, check_device
from .photos import Photo, PhotoOptions, as_the_model_sees, label_of, read_photos
from .ranges import numbers
from .results import new_folder, write_json

DIRECTIONS_FILE = "directions.safetensors"
STRIP = "-1:1:0.5"
"""Amounts that are shown of each attribute."""


@dataclass(frozen=True, kw_only=True)
class Options(PhotoOptions, CommonOptions):
    image: Annotated[Path, tyro.conf.Positional]
    """Image file."""
    model: str
    """Folder of a run or of a saved model, a Hugging Face hub id, or demo-faces, which is
    shipped."""
    directions: Path | None = None
    """File of glow directions; by default directions.safetensors beside the model."""
    attribute: tuple[str, ...] = ()
    """Attributes to move along, all at once."""
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
    label: Annotated[int | None, tyro.conf.arg(name="class")] = None
    """Class of the image, for a class-conditional model."""
    to_class: int | None = None
    """Decode the same latents as this class."""
    seed: int = 0
    """Of the levels drawn anew."""


def run(options: Options) -> Outcome:
    """Write the image as the model sees it and what became of it."""
    device = check_device(options.device)
    amounts = _check(options)
    model = load_model(options.model, device=device)
    named: dict[str, Latents] = {}
    if options.attribute or options.all:
        path = options.directions or _beside(options.model)
        named = _named(options, path, load_directions(path, model).latents)
    (photo,) = read_photos((options.image,), model, options)
    come_from = label_of(model, options.label, 1, "--class")
    go_to = come_from
    if options.to_class is not None:
        go_to = label_of(model, options.to_class, 1, "--to-class")
    x, seen = as_the_model_sees(model, [photo])
    latents = model.encode(x, come_from)
    if options.resample_level:
        drawn = _draws(options, model, latents, go_to)
        return _sheet(options, photo, seen, drawn, [""] * options.count, "drawn anew")
    if amounts:
        strips = [
            (name, _decoded(model, [edit(latents, [delta], [a], temperature=options.temperature)
                                    for a in amounts], go_to))
            for name, delta in named.items()
        ]  # fmt: skip
        return _sheet(options, photo, seen, strips, [f"{a:+g}" for a in amounts], "moved")
    return _single(options, model, photo, x, seen, latents, named, (come_from, go_to))


def _check(options: Options) -> list[float]:
    """The amounts of strips; empty for a single edit.

    Raises:
        InputError: the options do not go together.
    """
    moves = bool(options.attribute) or options.all
    if options.resample_level and (moves or options.to_class is not None):
        raise InputError("Give --resample-level by itself, without --attribute or --to-class.")
    if not (moves or options.resample_level or options.to_class is not None):
        raise InputError("Say what to do: give --attribute, --all, --resample-level or --to-class.")
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


def _beside(model: str) -> Path:
    """The directions that are kept with a model."""
    try:
        return locate(model, DIRECTIONS_FILE)
    except CheckpointError as error:
        raise InputError(
            f"There is no {DIRECTIONS_FILE} with {model}: make the directions with glow "
            "directions, and give --directions."
        ) from error


def _named(options: Options, path: Path, found: Mapping[str, Latents]) -> dict[str, Latents]:
    if options.all:
        return dict(found)
    for name in options.attribute:
        if name not in found:
            raise InputError(f"{path} has no direction {name!r}: choose among {', '.join(found)}.")
    return {name: found[name] for name in options.attribute}


def _decoded(model: ImageFlow, codes: Sequence[Latents], label: Tensor | None) -> NDArray[np.uint8]:
    """(N, C, H, W): each code by itself, so that memory does not depend on their number."""
    return torch.cat([model.to_images(model.decode(code, label)).cpu() for code in codes]).numpy()


def _draws(
    options: Options, model: ImageFlow, latents: Latents, label: Tensor | None
) -> list[tuple[str, NDArray[np.uint8]]]:
    drawn = []
    for level in options.resample_level:
        codes = [
            resample_level(latents, level, seed=options.seed + i, temperature=options.temperature)
            for i in range(options.count)
        ]
        drawn.append((f"level {level}", _decoded(model, codes, label)))
    return drawn


def _sheet(
    options: Options,
    photo: Photo,
    seen: Tensor,
    strips: Sequence[tuple[str, NDArray[np.uint8]]],
    headings: Sequence[str],
    what: str,
) -> Outcome:
    original = seen.cpu().numpy()
    folder = new_folder(options.out, "edit")
    save_png(folder / "original.png", to_pil(original[0]))
    with_original = [(name, np.concatenate([original, images])) for name, images in strips]
    save_png(folder / "sheet.png", rows(with_original, ["image", *headings]))
    for name, images in strips:
        for index, image in enumerate(images):
            save_png(folder / name.replace(" ", "-") / f"{index:02d}.png", to_pil(image))
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
    model: ImageFlow,
    photo: Photo,
    x: Tensor,
    seen: Tensor,
    latents: Latents,
    named: dict[str, Latents],
    labels: tuple[Tensor | None, Tensor | None],
) -> Outcome:
    come_from, go_to = labels
    directions = list(named.values())
    moved = edit(latents, directions, options.amount, temperature=options.temperature)
    y = model.decode(moved, go_to)
    edited = model.to_images(y)
    facts: dict[str, Any] = {
        "image": str(photo.path),
        "amounts": dict(zip(named, options.amount, strict=True)),
        "temperature": options.temperature,
        "class": options.label,
        "to_class": options.to_class,
        "bytes": seen.numel(),
        "bytes_changed": int((edited != seen).sum()),
        "bits_per_dim": {
            "original": _bits(model, x, come_from),
            "edited": _bits(model, y, go_to),
        },
        "values_clipped": int(((y < -0.5) | (y >= 0.5)).sum()),
        "bytes_not_returned": None,
        "largest_difference": None,
        "bytes_not_returned_unrounded": None,
    }
    back = ""
    if options.temperature == 1:

        def opposite(edited_x: Tensor) -> Tensor:
            again = model.encode(edited_x, go_to)
            returned = model.decode(
                edit(again, directions, [-a for a in options.amount]), come_from
            )
            return (model.to_images(returned).int() - seen.int()).abs()

        rounded, unrounded = opposite(model.to_float(edited, noise="center")), opposite(y)
        different, largest = int((rounded > 0).sum()), int(rounded.max())
        facts["bytes_not_returned"], facts["largest_difference"] = different, largest
        facts["bytes_not_returned_unrounded"] = int((unrounded > 0).sum())
        back = (
            f"; {different:,} of {seen.numel():,} bytes differ, by {largest} at most, after the "
            "opposite edit of the edited picture, "
            f"{facts['bytes_not_returned_unrounded']:,} before it is rounded to bytes"
            if different
            else "; the opposite edit returns every byte"
        )
    before, after = seen[0].cpu().numpy(), edited[0].cpu().numpy()
    folder = new_folder(options.out, "edit")
    facts["out"] = str(folder)
    save_png(folder / "original.png", to_pil(before))
    save_png(folder / "edited.png", to_pil(after))
    if options.paste:
        save_png(folder / "pasted.png", to_pil(photo.pasted(before, after)))
    write_json(folder / "edit.json", facts)
    what = [f"{name} {amount:+g}" for name, amount in facts["amounts"].items()]
    if options.to_class is not None:
        what.append(f"class {options.label} → {options.to_class}")
    return Outcome(
        f"{photo.path.name} with {', '.join(what)}: {facts['bytes_changed']:,} of "
        f"{seen.numel():,} bytes changed{back}; pictures in {folder}.",
        facts,
    )


def _bits(model: ImageFlow, x: Tensor, label: Tensor | None) -> float:
    with torch.no_grad():
        log_prob = model.log_prob(x, label)
    return float(bits_per_dim(log_prob, math.prod(model.config.image_shape), model.config.bits))
