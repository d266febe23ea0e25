"""Other people's checkpoints as models of this package."""

from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import cast

import torch

from ..errors import CheckpointError, InputError
from ..models.config import CouplingScale
from ..models.glow import Glow
from ..models.outline import outline_of
from ..models.pretrained import check_state
from ..models.training_data import TrainingData
from .files import Contents, read_contents
from .foreign import FORMATS, Foreign, Format, Given
from .mapping import finished
from .stored import listed


@dataclass(frozen=True)
class Converted:
    """A model, and what is known of the file that it is from."""

    model: Glow
    format: str
    """Name of the format, as `glow convert --from` takes it."""
    title: str
    left_out: tuple[str, ...]
    """What in the file is not weights of the model, a line each."""
    notes: tuple[str, ...]
    """What else a user should know, a sentence each."""


def convert(
    source: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    bits: int | None = None,
    black: float | None = None,
    coupling_scale: CouplingScale | None = None,
    format: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Converted:
    """Read a model that other code has made: the same density, with the numbers of the original.

    Args:
        source: a file, a folder, or the prefix of a TensorFlow checkpoint.
        image_size: height and width, where the file does not say.
        bits: of the images, 1 to 8, where the file does not say.
        black: what a black value is to the model, where its format leaves that open.
        coupling_scale: how its affine couplings scale, where its format leaves that open.
        format: a name of `FORMATS`; by default the one that recognises the file.
        dtype: of the model's weights.

    Returns:
        The model, in eval mode, and what was left out.

    Raises:
        CheckpointError: the file is missing, damaged, of no known format, or not all of a model.
        InputError: size or bits have to be given, or contradict the file; there is no such format.
    """
    if not dtype.is_floating_point:
        raise InputError(f"dtype is {dtype}: give one of floats, as torch.float32.")
    contents = read_contents(source)
    name, reader = _reader(contents, format)
    asked = Given(image_size=image_size, bits=bits, black=black, coupling_scale=coupling_scale)
    given = _together(asked, contents)
    foreign = reader.read(contents.tensors, given, str(contents.path))
    _require_used(asked, foreign, str(contents.path))
    return Converted(
        model=_model(foreign, dtype, str(contents.path)),
        format=name,
        title=reader.TITLE,
        left_out=(*contents.left_out, *foreign.left_out),
        notes=foreign.notes,
    )


def _reader(contents: Contents, format: str | None) -> tuple[str, Format]:
    """The format that is named, or the one that recognises the names."""
    if format is not None and format not in FORMATS:
        raise InputError(f"There is no format {format!r}: choose one of {', '.join(FORMATS)}.")
    for name in FORMATS if format is None else (format,):
        reader = cast(Format, resolve_name(f"{__package__}.{FORMATS[name]}"))
        if reader.recognises(contents.tensors):
            return name, reader
    names = sorted(contents.tensors)
    what = f"of {', '.join(FORMATS)}" if format is None else f"{format}"
    raise CheckpointError(
        f"{contents.path} is no model {what}: it has {len(names):,} tensors"
        + (f", {listed(names[:6])}{', …' if len(names) > 6 else ''}." if names else ".")
    )


def _together(given: Given, contents: Contents) -> Given:
    """What a person says, and what the file says where the person says nothing.

    Raises:
        InputError: they contradict each other.
    """
    said = contents.said
    if None not in (given.bits, said.bits) and given.bits != said.bits:
        raise InputError(
            f"{contents.path} says that its images have {said.bits} bits and --bits is "
            f"{given.bits}: leave it out."
        )
    if given.image_size and said.image_size and tuple(given.image_size) != said.image_size:
        (height, width), (other_height, other_width) = said.image_size, given.image_size
        same_area = height * width == other_height * other_width
        if said.run or not same_area:  # a graph may say the area alone
            raise InputError(
                f"{contents.path} says that its images are {height}x{width} and --image-size is "
                f"{other_height}x{other_width}: leave it out."
            )
    return replace(
        given,
        image_size=given.image_size or said.image_size,
        bits=said.bits if given.bits is None else given.bits,
        run=said.run,
    )


def _require_used(asked: Given, foreign: Foreign, path: str) -> None:
    """Refuse what was given and is not so.

    Raises:
        InputError: the format settles it, otherwise.
    """
    for name, flag in (("coupling_scale", "--coupling-scale"), ("bits", "--bits")):
        value, found = getattr(asked, name), getattr(foreign.config, name)
        if value is not None and value != found:
            raise InputError(f"{path} has {flag} {found}, and {value} was given: leave it out.")


def _model(foreign: Foreign, dtype: torch.dtype, source: str) -> Glow:
    """The model with these weights, which are its own from here on."""
    model = outline_of(lambda: Glow(foreign.config))
    state = finished(foreign.state, dtype, source)
    check_state(model.state_dict(), state, source)
    model.load_state_dict(state, assign=True)
    channels, height, width = foreign.config.image_shape
    model.trained_on = TrainingData(
        size=(height, width), channels=channels, fit="crop", bits=foreign.config.bits
    )
    return model.eval()
