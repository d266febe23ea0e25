"""What is asked of a reader of other people's checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ..models.config import CouplingScale, GlowConfig


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a person says of a checkpoint, because not every file does; None where nothing is."""

    image_size: tuple[int, int] | None = None
    """Height and width in pixels."""
    bits: int | None = None
    """Of the images that it was trained on, 1 to 8."""
    black: float | None = None
    """What a black value is to it: -0.5 in the official code, 0 where images run from 0 to 1."""
    coupling_scale: CouplingScale | None = None
    """How its affine couplings scale, by the names of the configuration."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """What a file beside the checkpoint says of its run, by the names that it has there."""


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A checkpoint in this package's terms: the same density, in the official form."""

    config: GlowConfig
    state: dict[str, Tensor]
    """Weights under the names of `Glow(config).state_dict()`, in the dtype of the file."""
    left_out: tuple[str, ...] = ()
    """What in the file is not weights of the model, and what it is, a line each: optimiser slots,
    averages, step counters."""
    notes: tuple[str, ...] = ()
    """What else a user should know, a sentence each."""


class Format(Protocol):
    """A module of this folder that reads one kind of checkpoint."""

    TITLE: str
    """Whose it is, as in messages."""

    def recognises(self, names: Mapping[str, Tensor]) -> bool:
        """Whether the tensors' names are those of this kind, complete or not."""

    def read(self, tensors: Mapping[str, Tensor], given: Given, source: str) -> Foreign:
        """Deduce the configuration, and map the weights.

        Raises:
            CheckpointError: weights are missing or too many (each named), of shapes that do not
                fit, or not finite.
            InputError: the image size or the bits have to be given.
        """


FORMATS: dict[str, str] = {
    "openai": "openai",
    "rosinality": "rosinality",
    "y0ast": "y0ast",
    "chaiyujin": "chaiyujin",
    "normflows": "normflows",
    "freia": "freia",
}
"""Modules of this folder by the names of `glow convert --from`; they are asked in this order."""
