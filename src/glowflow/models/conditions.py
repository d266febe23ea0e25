"""What a conditional model is given, and its configuration."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from ..checks import require, require_choice
from .config import Architecture, GlowConfig, is_whole, sides

Kind = Literal["field", "vector", "class"]
Missing = Literal["refuse", "mask"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One thing that a conditional model is given."""

    name: str
    kind: Kind
    """`field` (channels, *grid), also a mask; `vector` (entries); `class`, a number."""
    shape: tuple[int, ...]
    """Of a field or a vector; of a class how many classes there are, (K,)."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        require(
            isinstance(self.name, str) and self.name != "",
            f"A condition is called {self.name!r}: give a name.",
        )
        require_choice(f"kind of condition {self.name}", self.kind, Kind)
        given: Any = self.shape
        shape = tuple(given) if isinstance(given, (tuple, list)) else ()
        counts, said = ((2, 3, 4), "2, 3 or 4") if self.kind == "field" else ((1,), "1")
        require(
            len(shape) in counts and all(map(is_whole, shape)) and 0 < min(shape) <= 2**30,
            f"Condition {self.name} is a {self.kind} of shape {given}: give {said} "
            "whole numbers above 0.",
        )
        object.__setattr__(self, "shape", shape)

    @property
    def value_shape(self) -> tuple[int, ...]:
        """Of one value."""
        return () if self.kind == "class" else self.shape

    @property
    def size(self) -> int:
        """Numbers of one value."""
        return math.prod(self.value_shape)


@dataclass(frozen=True, kw_only=True)
class ConditionalGlowConfig(GlowConfig):
    """A Glow of images, or fields, of one shape, given others."""

    conditions: tuple[Condition, ...]
    """What it is given, in the order in which rows of conditions have them."""
    missing: Missing = "refuse"
    """`mask`: values of fields and vectors may be NaN; they count as the mean, and the conditioning
    network sees where they are."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        super().__post_init__()
        given: Any = self.conditions
        require(isinstance(given, (tuple, list)) and len(given) > 0, "Give at least one condition.")
        conditions = tuple(Condition(**c) if isinstance(c, dict) else c for c in given)
        object.__setattr__(self, "conditions", conditions)
        require(
            all(isinstance(c, Condition) for c in conditions)
            and len({c.name for c in conditions}) == len(conditions),
            f"conditions are {given}: give each a name of its own.",
        )
        require_choice("missing", self.missing, Missing)
        grid = self.image_shape[1:]
        for each in conditions:
            if each.kind == "field":
                own = each.shape[1:]
                require(
                    len(own) == len(grid)
                    and all(side % coarse == 0 for side, coarse in zip(grid, own, strict=True)),
                    f"Condition {each.name} is on a grid of {sides(own)} and the data on one "
                    f"of {sides(grid)}: give the same grid, or a coarser one that divides it.",
                )
        require(
            self.classes == 0,
            "A class is one of the conditions here: leave classes at 0.",
        )
        require(
            self.prior == "convolutional",
            "The priors of a conditional model see what it is given: leave prior convolutional.",
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the conditions, in their order."""
        return tuple(condition.name for condition in self.conditions)

    @property
    def context_channels(self) -> int:
        """`condition_channels`."""
        return self.condition_channels

    @classmethod
    def given(
        cls,
        architecture: Architecture,
        image_shape: tuple[int, ...],
        conditions: tuple[Condition, ...],
        missing: Missing = "refuse",
    ) -> "ConditionalGlowConfig":
        """The architecture, for images of this shape given these conditions."""
        settings = dataclasses.asdict(architecture)
        return cls(**settings, image_shape=image_shape, conditions=conditions, missing=missing)
