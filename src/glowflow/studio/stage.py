"""A model that is played with: what the page asks of it, each a few calls of the library."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.types import ImageData
from ..errors import InputError
from ..evaluation.calibration import Calibration
from ..evaluation.comparison import compare
from ..evaluation.noise import noise_draws
from ..evaluation.scoring import LEAST, Scores, score
from ..latents.choices import Curve
from ..latents.directions import Directions
from ..latents.edits import blend, edit, resample_level
from ..latents.leakage import Leakage
from ..latents.recipes import Recipe, checksum, edited_exactly
from ..models.companions import identity
from ..models.flow import ImageFlow, Latents, concern_of
from ..models.likelihood import bits_per_dim
from ..reports.pictures import signed_png, to_pil
from .pictures import Photograph
from .program import Program, program_of
from .visitors import Picture

SOON = 0.1
"""Seconds that a picture may take to be decoded by one thread."""


@dataclass(frozen=True)
class Change:
    """What the sliders say."""

    amounts: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    target: int | None = None
    """Class that the picture is decoded as; None for its own."""
    instead: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The attributes that go where one of them comes, of those that are moved."""

    def __post_init__(self) -> None:
        """Leave out what does not move."""
        amounts = {name: amount for name, amount in self.amounts.items() if amount != 0}
        instead = {new: old for new, old in self.instead.items() if new in amounts and old}
        object.__setattr__(self, "amounts", amounts)
        object.__setattr__(self, "instead", instead)

    def part(self, share: float) -> "Change":
        """The same change, part of the way."""
        amounts = {name: share * amount for name, amount in self.amounts.items()}
        return replace(self, amounts=amounts)


@dataclass(frozen=True)
class Frame:
    """A picture that was decoded."""

    image: NDArray[np.uint8]
    """(C, H, W)."""
    concern: str = ""
    """What is wrong with it, in a sentence."""


class Stage:
    """A model, its directions, and what was measured of it. Of one thread at a time.

    Args:
        model: in eval mode; it is frozen from here on.
        name: how it is called on the page.
        directions: of attributes, if there are some.
        leakage: figures of the directions, by attribute.

    Raises:
        InputError: the model is not for pictures.
    """

    def __init__(
        self,
        model: ImageFlow,
        name: str,
        directions: Directions | None = None,
        leakage: Mapping[str, Leakage] | None = None,
    ) -> None:
        if model.config.bits is None or model.config.image_shape[0] not in (1, 3, 4):
            raise InputError(f"{name} is no model of pictures: the studio shows pictures only.")
        self.model, self.name = model.requires_grad_(False), name
        self.directions = directions
        self.leakage = dict(leakage or {})
        self.calibration: Calibration | None = None
        """Scores of images that are not strange, once they are known."""
        self.identity = identity(model)
        self._program: Program | None = None
        self._open = ExitStack()
        self._open.enter_context(model.frozen())

    def close(self) -> None:
        """Let go of what is kept of the frozen model."""
        self._program = None
        self._open.close()

    @property
    def dims(self) -> int:
        """Values of a picture."""
        return math.prod(self.model.config.image_shape)

    def bits(self, log_prob: float) -> float:
        """Bits/dim of log p in nats."""
        return float(
            bits_per_dim(
                torch.tensor(log_prob, dtype=torch.float64), self.dims, self.model.config.bits
            )
        )

    @torch.inference_mode()
    def take(
        self,
        images: NDArray[np.uint8],
        label: int | None = None,
        photograph: Photograph | None = None,
        names: Sequence[str] = (),
    ) -> list[Picture]:
        """Images (N, C, H, W) as pictures to play with.

        Raises:
            InputError: the model has classes and there is no label, or the other way round.
        """
        self._labels(label, len(images))
        seen = self.model.to_images(self._centred(images)).cpu()
        log_prob = self._by_level(seen).sum(1).tolist()
        return [
            Picture(
                image=seen[i].numpy(),
                bits_per_dim=self.bits(log_prob[i]),
                name=names[i] if names else "",
                label=label,
                photograph=photograph,
            )
            for i in range(len(images))
        ]

    @torch.inference_mode()
    def code(self, picture: Picture) -> Latents:
        """The latents of a picture, encoded once."""
        if picture.latents is None or picture.encoded_by != self.identity:
            labels = self._labels(picture.label, 1)
            picture.latents = self.model.encode(self._centred(picture.image[None]), labels)
            picture.encoded_by = self.identity
        return picture.latents

    @torch.inference_mode()
    def sample(
        self, count: int, *, seed: int, temperatures: Sequence[float], label: int | None = None
    ) -> list[Picture]:
        """Draw pictures: ε ~ N(0, T_ℓ²·I) at each level ℓ, first level first.

        Raises:
            InputError: there is not one temperature a level, or as `take`.
        """
        shapes = self.model.latent_shapes
        if len(temperatures) != len(shapes):
            raise InputError(
                f"There are {len(temperatures)} temperatures, and the model has {len(shapes)} "
                "levels: give one a level."
            )
        generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
        code = tuple(
            torch.stack([t * torch.randn(shape, generator=g) for g in generators])
            for t, shape in zip(temperatures, shapes, strict=True)
        )
        decoded = self.decode(code, self._labels(label, count))
        names = [f"seed {seed + i}" for i in range(count)]
        return self.take(np.stack([frame.image for frame in decoded]), label, None, names)

    @torch.inference_mode()
    def decode(self, code: Latents, labels: Tensor | None = None) -> list[Frame]:
        """Pictures of codes."""
        like = next(self.model.parameters())
        code = tuple(eps.to(like) for eps in code)
        one = self._program if len(code[0]) == 1 else None
        x = self.model.decode(code, labels) if one is None else one(code, labels)
        finite, inside = (each.cpu() for each in self.model.in_range(x))
        return [
            Frame(image, concern_of(finite[i : i + 1], inside[i : i + 1], "pictures"))
            for i, image in enumerate(self.model.to_images(x).cpu().numpy())
        ]

    def edit(self, picture: Picture, change: Change) -> Frame:
        """The picture with the sliders where they are.

        Raises:
            InputError: there is no such attribute or class, or as `latents.edits.edit`.
        """
        directions = self._along(change)
        for name in change.amounts:
            if name not in directions:
                raise InputError(f"This model has no direction {name!r}.")
        along = [directions[name] for name in change.amounts]
        amounts = [*change.amounts.values()]
        code = edit(self.code(picture), along, amounts, temperature=change.temperature)
        return self.decode(code, self._labels(self._target(picture, change), 1))[0]

    def edit_exactly(self, picture: Picture, change: Change) -> tuple[NDArray[np.uint8], Recipe]:
        """The edited picture in the precision that a recipe is done again with, and the recipe."""
        target = self._target(picture, change)
        edited = edited_exactly(
            self.model,
            picture.image,
            self._along(change),
            change.amounts,
            temperature=change.temperature,
            label=picture.label,
            target=target,
        )
        known = self.model.trained_on
        return edited, Recipe(
            model=self.identity,
            picture=checksum(picture.image),
            fit=None if known is None else known.fit,
            crop=None if picture.photograph is None else picture.photograph.crop,
            amounts=change.amounts,
            instead=change.instead,
            temperature=change.temperature,
            label=picture.label,
            target=target,
            result=checksum(edited),
        )

    def path(self, picture: Picture, change: Change, count: int) -> NDArray[np.uint8]:
        """(count, C, H, W) from the picture itself to all of the change."""
        shares = np.linspace(0, 1, count).tolist()
        return np.stack([self.edit(picture, change.part(share)).image for share in shares])

    def mix(
        self, corners: Sequence[Picture], across: float, down: float, curve: Curve = "linear"
    ) -> Frame:
        """The picture at a place of a pad with two to four pictures at its corners."""
        codes = [self.code(picture) for picture in corners]
        label = corners[0].label if corners else None
        return self.decode(blend(codes, across, down, curve), self._labels(label, 1))[0]

    def redraw(
        self, picture: Picture, level: int, count: int, *, seed: int, temperature: float
    ) -> NDArray[np.uint8]:
        """(count, C, H, W) with one level drawn anew and the others kept."""
        codes = [
            resample_level(self.code(picture), level, seed=seed + i, temperature=temperature)
            for i in range(count)
        ]
        code = tuple(torch.cat(level) for level in zip(*codes, strict=True))
        return np.stack([f.image for f in self.decode(code, self._labels(picture.label, count))])

    def score(self, image: NDArray[np.uint8]) -> dict[str, Any]:
        """What `glow score` says of one image, beside the calibration if there is one."""
        return self._figures(score(self.model, ImageData(image[None]), progress=False))

    def likelihood(self, image: NDArray[np.uint8]) -> dict[str, Any]:
        """`score` without complexity, for which codecs would have to compress the image."""
        by_level = self._by_level(torch.from_numpy(image)[None]).numpy()
        log_prob = by_level.sum(1)
        bits = np.array([self.bits(float(log_prob[0]))])
        return self._figures(Scores(np.zeros(1, np.int64), log_prob, by_level, bits, None))

    def _figures(self, scores: Scores) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "log_prob": float(scores.log_prob[0]),
            "bits_per_dim": float(scores.bits_per_dim[0]),
            "by_level": scores.by_level[0].tolist(),
        }
        if self.calibration is not None:
            compared = compare(scores, self.calibration)
            figures["p_log_prob"] = float(compared.p_log_prob[0])
            figures["p_typicality"] = float(compared.p_typicality[0])
            if scores.complexity is not None and compared.p_complexity is not None:
                figures["complexity"] = float(scores.complexity[0])
                figures["p_complexity"] = float(compared.p_complexity[0])
        return figures

    @torch.inference_mode()
    def _by_level(self, images: Tensor) -> Tensor:
        """Each level's part of log p in nats, (N, levels), with the noise that an image gets when
        it is scored alone; `LEAST` for what float32 cannot hold."""
        alone = np.zeros(len(images), dtype=np.int64)
        (noisy,) = noise_draws(self.model, images, alone, draws=1, seed=0)
        parts = self.model.log_prob_by_level(noisy).double().cpu()
        return parts.nan_to_num(nan=LEAST, posinf=LEAST, neginf=LEAST)

    @torch.inference_mode()
    def make_fast(self) -> None:
        """Choose how one picture is decoded, in this thread.

        By one thread where that takes no longer than `SOON`: the browser has the other cores, and
        a thread that waits for another to be given one holds up the picture.
        """
        most = torch.get_num_threads()
        code = tuple(torch.zeros(1, *shape) for shape in self.model.latent_shapes)
        label = self._labels(0 if self.model.config.classes else None, 1)

        def seconds(threads: int) -> float:
            torch.set_num_threads(threads)
            taken = []
            for _ in range(3):
                start = time.perf_counter()
                self.decode(code, label)
                taken.append(time.perf_counter() - start)
            return min(taken)

        alone = seconds(1)
        if alone > SOON and most > 1:
            torch.set_num_threads(
                min({1: alone, most: seconds(most)}.items(), key=itemgetter(1))[0]
            )
        if alone <= SOON:
            self._program = program_of(self.model)

    def _centred(self, images: NDArray[np.uint8]) -> Tensor:
        """x at the centres of the bytes' bins."""
        x = self.model.to_float(torch.from_numpy(images), noise="center")
        return x.to(self.model.device)

    def _along(self, change: Change) -> Mapping[str, Latents]:
        """Δε of each attribute."""
        return {} if self.directions is None else self.directions.along(change.instead)

    def _target(self, picture: Picture, change: Change) -> int | None:
        return picture.label if change.target is None else change.target

    def _labels(self, label: int | None, count: int) -> Tensor | None:
        classes = self.model.config.classes
        if not classes and label is None:
            return None
        if label is None or not 0 <= label < classes:
            raise InputError(f"The class is {label}: this model has {classes} classes, from 0 on.")
        return torch.full((count,), label, device=self.model.device)


def png(image: NDArray[np.uint8]) -> bytes:
    """uint8 (C, H, W) as a PNG."""
    return signed_png(to_pil(image))
