"""Attribute directions of a model, and their file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError
from ..files import replacing
from ..models.companions import identity
from ..models.flow import ImageFlow, Latents

FORMAT = "1"
Estimator = Literal["mean", "matched", "linear"]


@dataclass(frozen=True)
class Directions:
    """Attribute directions of one model."""

    latents: Mapping[str, Latents]
    """Δε of each attribute, (channels, height, width) a level: an amount of 1 adds it."""
    estimator: Estimator
    model: str
    """`identity` of the model whose latents these are."""
    counts: Mapping[str, tuple[int, int]]
    """Images with and without each attribute."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why other attributes have no direction."""
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The other attributes that are kept equal; empty for `mean`."""
    imbalance: Mapping[str, float] = field(default_factory=dict)
    """Of `matched`: in how many held attributes the two images of a pair differ, on average."""
    source: str = ""
    """The images, in words."""


def save_directions(path: Path, directions: Directions) -> None:
    """Write a safetensors file: `ATTRIBUTE.LEVEL` is Δε of a level, the rest is in the metadata.

    Raises:
        InputError: the folder cannot be written.
    """
    tensors = {
        f"{name}.{level}": eps.contiguous()
        for name, latents in directions.latents.items()
        for level, eps in enumerate(latents, start=1)
    }
    metadata = {
        "format": FORMAT,
        "kind": "glowflow directions",
        "model": directions.model,
        "estimator": directions.estimator,
        "source": directions.source,
        "attributes": json.dumps(list(directions.latents)),
        "counts": json.dumps(dict(directions.counts)),
        "refused": json.dumps(dict(directions.refused)),
        "held": json.dumps(dict(directions.held)),
        "imbalance": json.dumps(dict(directions.imbalance)),
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_directions(path: Path, model: ImageFlow) -> Directions:
    """Read the directions of this model.

    Raises:
        InputError: there is no such file, it is damaged or another kind of file, or its directions
            are another model's.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}: make one with glow directions.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != "glowflow directions" or metadata.get("format") != FORMAT:
                raise InputError(
                    f"{path} does not hold directions of format {FORMAT}: "
                    "make it with glow directions."
                )
            if metadata["model"] != identity(model):
                raise InputError(
                    f"The directions in {path} are of another model: make them for this one with "
                    "glow directions."
                )
            levels = range(1, len(model.latent_shapes) + 1)
            latents = {
                name: tuple(file.get_tensor(f"{name}.{level}") for level in levels)
                for name in json.loads(metadata["attributes"])
            }
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"Cannot read {path}: it is damaged or not safetensors ({error}); "
            "make it again with glow directions."
        ) from error
    return Directions(
        latents=latents,
        estimator=metadata["estimator"],
        model=metadata["model"],
        counts={name: (a, b) for name, (a, b) in json.loads(metadata["counts"]).items()},
        refused=json.loads(metadata["refused"]),
        held={name: tuple(others) for name, others in json.loads(metadata["held"]).items()},
        imbalance=json.loads(metadata["imbalance"]),
        source=metadata["source"],
    )
