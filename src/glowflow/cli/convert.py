"""`glow convert`: a model of other code, as one of this package."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..files import require_new
from ..models.config import CouplingScale
from .options import CommonOptions, Outcome, check_device
from .results import new_folder, write_json


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    source: Annotated[Path, tyro.conf.Positional]
    """A file of another implementation; of a TensorFlow checkpoint its folder, its .index, or its
    name without."""
    format: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Whose it is, where that is not to be found out."""
    image_size: tuple[int, int] | None = None
    """Height and width of its images, where the file does not say."""
    bits: int | None = None
    """Bits per value of its images, 1 to 8, where the file does not say."""
    black: float | None = None
    """What a black value is to it, where its format leaves that open: -0.5, or 0 for images from 0
    to 1."""
    coupling_scale: CouplingScale | None = None
    """How its affine couplings scale, where its format leaves that open."""
    directions: Path | None = None
    """The official z_manipulate.npy: its 40 attributes are put beside the model, for glow edit."""
    seed: int = 0
    """Nothing here is random; it is taken for the sake of scripts."""


def run(options: Options) -> Outcome:
    """Write the folder of a model, which every other command takes."""
    from ..interop.convert import convert
    from ..interop.published_directions import read_published_directions
    from ..latents.directions import save_directions
    from ..models.companions import DIRECTIONS_FILE

    check_device(options.device)
    if options.out is not None:
        require_new(options.out)
    converted = convert(
        options.source,
        image_size=options.image_size,
        bits=options.bits,
        black=options.black,
        coupling_scale=options.coupling_scale,
        format=options.format,
    )
    model = converted.model
    directions = None
    if options.directions is not None:
        directions = read_published_directions(options.directions, model)
    folder = new_folder(options.out, "converted")
    model.save_pretrained(folder)
    if directions is not None:
        save_directions(folder / DIRECTIONS_FILE, directions)
    config = model.config
    parameters = sum(weight.numel() for weight in model.parameters())
    facts = {
        "out": str(folder),
        "source": str(options.source),
        "format": converted.format,
        "parameters": parameters,
        "config": dataclasses.asdict(config),
        "left_out": list(converted.left_out),
        "notes": list(converted.notes),
        "directions": [] if directions is None else list(directions.latents),
    }
    write_json(folder / "convert.json", facts)
    channels, height, width = config.image_shape
    left_out = "".join(f"; left out: {line}" for line in converted.left_out)
    beside = "" if directions is None else f", with {len(directions.latents)} directions"
    notes = "".join(f" {note}" for note in converted.notes)
    return Outcome(
        f"{options.source.name} of {converted.title}: {config.levels} levels of {config.steps} "
        f"steps, {config.hidden_channels} hidden channels, {config.coupling}, "
        f"{config.permutation}, {parameters:,} parameters, images of {channels}x{height}x{width} "
        f"and {config.bits} bits, is in {folder}{beside}{left_out}.{notes}",
        facts,
    )
