"""Recipes: an edit as a file, which gives the same bytes wherever it is done again."""

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..models.flow import ImageFlow, Latents
from ..photos.crops import Crop
from .directions import Directions
from .edits import edit

FORMAT = "glowflow recipe 1"
LONGEST = 200_000
"""Characters of a recipe's file, at most."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What was done to one picture."""

    model: str
    """`identity` of the model."""
    picture: str
    """`checksum` of the picture as the model sees it."""
    fit: str | None = None
    """How the photograph became the model's size, where `crop` is not given: None as the training
    images did."""
    crop: Crop | None = None
    """The part of the photograph that the model sees."""
    amounts: Mapping[str, float]
    """α of each attribute."""
    instead: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The attributes that go where one of them comes, as in `Directions.exchange`."""
    temperature: float = 1.0
    """As in `edit`."""
    label: int | None = None
    """Class of the picture, of a class-conditional model."""
    target: int | None = None
    """Class that it is decoded as."""
    result: str = ""
    """`checksum` of the edited picture."""

    def to_json(self) -> str:
        """The text of its file."""
        values = {"format": FORMAT, **asdict(self)}
        if not self.instead:  # as versions before wrote it, which know no other
            del values["instead"]
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str) -> "Recipe":
        """Read what `to_json` wrote; `name` is for messages.

        Raises:
            InputError: it is something else.
        """
        try:
            if len(text) > LONGEST:
                raise ValueError(f"it has {len(text):,} characters")
            values = json.loads(text)
            if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
                raise ValueError(f"it does not say that it is a {FORMAT}")
            if values.get("crop") is not None:
                values["crop"] = _crop(values["crop"])
            recipe = cls(**values)
            recipe._check()
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(
                f"{name} is no recipe of the studio ({error}): download it there again."
            ) from error
        return recipe

    def _check(self) -> None:
        for name, kinds in KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}")
        numbers = [*self.amounts.values(), self.temperature]
        if not all(map(_is_number, numbers)) or self.temperature < 0:
            raise ValueError("an amount or the temperature is not a finite number")
        for old in self.instead.values():
            if not isinstance(old, list) or not all(isinstance(name, str) for name in old):
                raise ValueError(f"instead is {str(dict(self.instead))[:200]}")


KINDS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "picture": (str,),
    "fit": (str, type(None)),
    "crop": (Crop, type(None)),
    "amounts": (dict,),
    "instead": (dict,),
    "temperature": (int, float),
    "label": (int, type(None)),
    "target": (int, type(None)),
    "result": (str,),
}
"""What each field of a recipe is."""


def _crop(values: Any) -> Crop:
    try:
        pairs = {name: tuple(values[name]) for name in ("origin", "right", "down")}
        if not all(len(pair) == 2 and all(map(_is_number, pair)) for pair in pairs.values()):
            raise ValueError
        crop = Crop(**{name: (float(x), float(y)) for name, (x, y) in pairs.items()})
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"its crop is {str(values)[:200]}") from error
    if abs(crop.right[0] * crop.down[1] - crop.right[1] * crop.down[0]) < 1:
        raise ValueError("its crop has no area")
    return crop


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def checksum(image: NDArray[np.uint8]) -> str:
    """SHA-256 of uint8 (C, H, W): of its shape and its bytes."""
    digest = hashlib.sha256(f"{image.shape}".encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


@torch.no_grad()
def edited_exactly(
    model: ImageFlow,
    image: NDArray[np.uint8],
    directions: Mapping[str, Latents],
    amounts: Mapping[str, float],
    *,
    temperature: float = 1.0,
    label: int | None = None,
    target: int | None = None,
) -> NDArray[np.uint8]:
    """decode(edit(encode(x))) in float64, as uint8 (C, H, W).

    In float32 a value beside the border of two bytes can fall to either side, by the processor and
    the number of threads. In float64 that is rounded away, so that a recipe gives the same bytes
    elsewhere.

    Args:
        model: in eval mode; it stays as it is.
        image: uint8 (C, H, W).
        directions: Δε of each attribute.
        amounts: α of each; those that are 0 need no direction.
        temperature: as in `edit`.
        label: class of the image.
        target: class that it is decoded as.

    Raises:
        InputError: there is no such direction, or as `edit`.
    """
    moving = {name: amount for name, amount in amounts.items() if amount != 0}
    for name in moving:
        if name not in directions:
            raise InputError(
                f"There is no direction {name!r}: choose among {', '.join(directions)}."
            )
    exact = copy.deepcopy(model).double()
    x = exact.to_float(torch.from_numpy(image)[None], noise="center").to(exact.device)
    labels = [_label(exact, each) for each in (label, target)]
    along = [directions[name] for name in moving]
    with exact.frozen():
        code = edit(
            exact.encode(x, labels[0]), along, list(moving.values()), temperature=temperature
        )
        return exact.to_images(exact.decode(code, labels[1]))[0].cpu().numpy()


def _label(model: ImageFlow, label: int | None) -> torch.Tensor | None:
    classes = model.config.classes
    if (label is None) != (not classes) or (label is not None and not 0 <= label < classes):
        raise InputError(f"The class is {label}, and the model has {classes} classes.")
    return None if label is None else torch.tensor([label], device=model.device)


def replay(
    model: ImageFlow,
    identity: str,
    image: NDArray[np.uint8],
    directions: Directions | None,
    recipe: Recipe,
) -> NDArray[np.uint8]:
    """What a recipe makes of the picture that it is of; of one without amounts no directions are
    needed.

    Raises:
        InputError: the model or the picture is another one, there are no directions, or as
            `edited_exactly` and `Directions.exchange`.
    """
    if recipe.model != identity:
        raise InputError("The recipe is of another model: give the one that it was made with.")
    if recipe.picture != checksum(image):
        raise InputError("The recipe is of another picture: give the one that it was made with.")
    if directions is None and (recipe.amounts or recipe.instead):
        raise InputError("The recipe moves along attributes: give the model's directions.")
    return edited_exactly(
        model,
        image,
        {} if directions is None else directions.along(recipe.instead),
        recipe.amounts,
        temperature=recipe.temperature,
        label=recipe.label,
        target=recipe.target,
    )
