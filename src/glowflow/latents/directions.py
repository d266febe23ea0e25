"""Attribute directions of a model, and their file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ..errors import InputError
from ..models.companions import CompanionKind, load_companion, save_companion
from ..models.flow import ImageFlow, Latents
from .choices import Estimator

KIND = CompanionKind("directions", command="glow directions", plural=True)


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

    @property
    def exchangeable(self) -> bool:
        """Whether it is known of every attribute where images with it are, as `exchange` asks."""
        return len(self.latents) > 1 and self._says_where([*self.latents])

    def along(self, instead: Mapping[str, Sequence[str]]) -> dict[str, Latents]:
        """Δε of every attribute; of those that come instead of others, as `exchange`.

        Raises:
            InputError: as `exchange`.
        """
        return {**self.latents, **{new: self.exchange(new, old) for new, old in instead.items()}}

    def exchange(self, new: str, old: Sequence[str]) -> Latents:
        """Δε of an attribute that comes where others go, as one colour of hair for another.

        1.6·(mean ε of images with `new` − mean over `old` of the mean ε of images with each). A
        direction goes from all images without its attribute, of which some have too little of it
        and some too much: who has brown hair is darker than the blond and lighter than the black.
        With m the mean of all and p the share with it, mean ε with it − m is (1 − p)·Δε/1.6 by
        the estimator `mean`; by `matched` it is so of images that are alike in what is held.

        Args:
            new: the attribute that comes.
            old: those that the image has and loses; of none it is the direction itself.

        Raises:
            InputError: an attribute has no direction, is both, or it is not known where images
                with it are: `linear` does not say so, nor do published directions.
        """
        for name in (new, *old):
            if name not in self.latents:
                raise InputError(
                    f"There is no direction {name!r}: choose among {', '.join(self.latents)}."
                )
        old = tuple(dict.fromkeys(old))
        if new in old:
            raise InputError(f"{new} cannot come instead of itself: name what the image has.")
        if not old:
            return self.latents[new]
        if not self._says_where([new, *old]):
            raise InputError(
                "These directions do not say where images with an attribute are: find some by "
                "glow directions --estimator matched."
            )
        coming = self._from_the_mean(new)
        going = zip(*map(self._from_the_mean, old), strict=True)
        return tuple(a - sum(b) / len(old) for a, b in zip(coming, going, strict=True))

    def _says_where(self, names: Sequence[str]) -> bool:
        """Whether it is known where images with these attributes are."""
        counted = all(sum(self.counts.get(name, ())) > 0 for name in names)
        return self.estimator != "linear" and counted

    def _from_the_mean(self, name: str) -> Latents:
        with_it, without = self.counts[name]
        return tuple(without / (with_it + without) * eps for eps in self.latents[name])


def save_directions(path: Path, directions: Directions) -> None:
    """Write a safetensors file: `ATTRIBUTE.LEVEL` is Δε of a level, the rest is in the metadata.

    Raises:
        InputError: the folder cannot be written.
    """
    tensors = {
        f"{name}.{level}": eps
        for name, latents in directions.latents.items()
        for level, eps in enumerate(latents, start=1)
    }
    facts = {
        "estimator": directions.estimator,
        "source": directions.source,
        "attributes": json.dumps(list(directions.latents)),
        "counts": json.dumps(dict(directions.counts)),
        "refused": json.dumps(dict(directions.refused)),
        "held": json.dumps(dict(directions.held)),
        "imbalance": json.dumps(dict(directions.imbalance)),
    }
    save_companion(path, KIND, directions.model, tensors, facts)


def load_directions(path: Path, model: ImageFlow) -> Directions:
    """Read the directions of this model.

    Raises:
        InputError: there is no such file, it is damaged or another kind of file, or its directions
            are another model's.
    """

    def parse(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> Directions:
        try:
            return _parsed(tensors, facts)
        except (TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"its metadata are not what was written: {error}") from error

    def _parsed(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> Directions:
        return Directions(
            latents={
                str(name): tuple(
                    _checked(tensors[f"{name}.{level}"], shape)
                    for level, shape in enumerate(model.latent_shapes, start=1)
                )
                for name in json.loads(facts["attributes"])
            },
            estimator=cast(Estimator, facts["estimator"]),
            model=facts["model"],
            counts={name: (int(a), int(b)) for name, (a, b) in json.loads(facts["counts"]).items()},
            refused={name: str(why) for name, why in json.loads(facts["refused"]).items()},
            held={
                name: tuple(map(str, others)) for name, others in json.loads(facts["held"]).items()
            },
            imbalance={name: float(x) for name, x in json.loads(facts["imbalance"]).items()},
            source=facts["source"],
        )

    return load_companion(path, KIND, model, parse)


def _checked(direction: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The direction, if it is one of a level of this shape."""
    if tuple(direction.shape) != shape or direction.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"a direction is {direction.dtype} {tuple(direction.shape)}")
    if not direction.isfinite().all():
        raise ValueError("a direction is not finite")
    return direction
