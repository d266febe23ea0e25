"""What the page asks for, as JSON: each field with its bounds."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from ..latents.choices import Curve
from .pictures import Framing
from .stage import Change

Amount = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0, le=4, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Place = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**53)]
Name = Annotated[str, Field(max_length=64)]
Attribute = Annotated[str, Field(max_length=300)]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A page that opens."""

    model: Annotated[str, Field(max_length=300)] | None = None
    """Name of a model; by default the first."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Pictures to draw."""

    count: Annotated[int, Field(ge=1)] = 12
    temperatures: Annotated[list[Temperature], Field(min_length=1, max_length=64)]
    """One a level, first level first; or one for all."""
    seed: Seed = 0
    """Of the first; the next has the next."""
    label: Annotated[int, Field(ge=0)] | None = None


@dataclass(frozen=True, kw_only=True)
class Editing:
    """Where the sliders are."""

    amounts: Annotated[dict[Attribute, Amount], Field(max_length=400)]
    temperature: Temperature = 1.0
    target: Annotated[int, Field(ge=0)] | None = None
    instead: Annotated[
        dict[Attribute, Annotated[list[Attribute], Field(max_length=16)]], Field(max_length=16)
    ] = field(default_factory=dict)
    """What goes where an attribute comes."""

    def change(self) -> Change:
        """For the stage."""
        return Change(self.amounts, self.temperature, self.target, self.instead)


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """A place between two to four pictures."""

    pictures: Annotated[list[Name], Field(min_length=2, max_length=4)]
    across: Share = 0.5
    down: Share = 0.5
    curve: Curve = "linear"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A way from one place between pictures to another."""

    pictures: Annotated[list[Name], Field(min_length=2, max_length=4)]
    places: Annotated[
        list[Annotated[list[Share], Field(min_length=2, max_length=2)]],
        Field(min_length=2, max_length=64),
    ]
    curve: Curve = "linear"


@dataclass(frozen=True, kw_only=True)
class Redrawing:
    """A level to draw anew."""

    level: Annotated[int, Field(ge=1)]
    count: Annotated[int, Field(ge=1)] = 6
    seed: Seed = 0
    temperature: Temperature = 1.0


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """What to take of a photograph."""

    framing: Framing = "whole"
    left: Place = 0.0
    """Of a box, in pixels of the photograph."""
    top: Place = 0.0
    width: Place = 0.0
