"""The weights of a model in a file of others, found and compared with what belongs there."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import CheckpointError, InputError
from .stored import listed

KNOWN = {
    "optim": "the optimiser's state",
    "criterion": "the loss's state",
    "sched": "the schedule's state",
    "ema": "an average of the weights",
    "average": "an average of the weights",
    "step": "how long it was trained",
    "epoch": "how long it was trained",
    "iter": "how long it was trained",
}
"""What else checkpoints hold, by what its name contains."""


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights under the port's own names."""

    title: str
    """Of the port."""
    source: str
    weights: dict[str, Tensor]
    left_out: tuple[str, ...]

    def size(self, name: str, axis: int = 0) -> int:
        """Length of an axis of a weight, from which the architecture is deduced.

        Raises:
            CheckpointError: there is no such weight, or no such axis.
        """
        if name not in self.weights:
            raise CheckpointError(f"{self.source} lacks {name}: it is no whole {self.title} model.")
        shape = self.weights[name].shape
        if axis >= len(shape) or not shape[axis]:
            raise CheckpointError(
                f"In {self.source} {name} is {tuple(shape)}: this is no {self.title} model."
            )
        return shape[axis]

    def found(self, pattern: str) -> set[int]:
        """The numbers that the group of `pattern` has at the start of names."""
        matches = (re.match(pattern, name) for name in self.weights)
        return {int(match[1]) for match in matches if match and len(match[1]) < 10}

    def plausible(self, levels: int, steps: int) -> tuple[int, int]:
        """These numbers of levels and of steps in each.

        Raises:
            CheckpointError: there are more steps than weights.
        """
        if not 0 < levels * steps <= len(self.weights):
            raise CheckpointError(
                f"{self.source} has names of {levels} levels of {steps} steps, and "
                f"{len(self.weights)} weights: it is no whole {self.title} model."
            )
        return levels, steps

    def complete(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """The weights in float64, if they are those of `shapes` and no others, and finite.

        Raises:
            CheckpointError: they are not; names are listed.
        """
        problems = []
        if missing := [name for name in shapes if name not in self.weights]:
            problems.append(f"lacks {listed(missing)}")
        if extra := [name for name in self.weights if name not in shapes]:
            problems.append(f"has {listed(extra)} too many")
        if problems:
            raise CheckpointError(
                f"{self.source} is no whole {self.title} model: it {' and '.join(problems)}."
            )
        for name, shape in shapes.items():
            weight = self.weights[name]
            if shape and not weight.is_floating_point():
                raise CheckpointError(
                    f"In {self.source} {name} is {weight.dtype}: weights of a {self.title} model "
                    "are floats; give a checkpoint that is not quantised."
                )
            if tuple(weight.shape) != shape:
                raise CheckpointError(
                    f"In {self.source} {name} is {tuple(weight.shape)}, and the other weights of "
                    f"this {self.title} model ask for {shape}: the file is damaged or mixed."
                )
        broken = [n for n, w in self.weights.items() if not torch.isfinite(w).all()]
        if broken:
            raise CheckpointError(
                f"In {self.source} {listed(broken)} {_are(broken)} not finite: "
                "use a checkpoint from before the training went wrong."
            )
        return {name: weight.double() for name, weight in self.weights.items()}

    @property
    def dtype(self) -> torch.dtype:
        """The widest of the weights' float types; float32 for half precision."""
        found = torch.float32
        for weight in self.weights.values():
            if weight.is_floating_point():
                found = torch.promote_types(found, weight.dtype)
        return found

    def require(self, condition: object, name: str, what: str) -> None:
        """Refuse a weight that cannot be meant.

        Raises:
            CheckpointError: the condition is false.
        """
        if not condition:
            raise CheckpointError(
                f"In {self.source} {name} {what}: the file is damaged, or of a changed "
                f"{self.title}."
            )


def find(
    tensors: Mapping[str, Tensor], pattern: re.Pattern[str], title: str, source: str
) -> Checkpoint:
    """The model whose names begin, after some prefix, with `pattern`: `module.`, `graph.` and the
    like are taken off, and what is outside of the prefix is left out.

    Raises:
        CheckpointError: there is no such model, or there are several.
    """
    prefixes = Counter(name[: match.start()] for name in tensors if (match := pattern.search(name)))
    plain = [prefix for prefix in prefixes if not _known(prefix)] or list(prefixes)
    if not plain:
        raise CheckpointError(f"{source} has no weights of a {title} model.")
    if len(plain) != 1:
        where = listed([prefix or "one at the top" for prefix in plain])
        raise CheckpointError(
            f"{source} holds several {title} models, {where}: save the one that is meant in a file "
            "of its own."
        )
    prefix = plain[0]
    weights, others = {}, []
    for name, tensor in tensors.items():
        if not name.startswith(prefix) or (not prefix and _known(name.partition(".")[0])):
            others.append(name)
        else:
            weights[name.removeprefix(prefix)] = tensor
    return Checkpoint(title, source, weights, _lines(others, tensors))


def bits_of(given: int | None, hint: str, source: str) -> int:
    """The bits that were given.

    Raises:
        InputError: none were.
    """
    if given is None:
        raise InputError(
            f"{source} does not say how many bits its images had: give bits, 1 to 8 (--bits BITS; "
            f"{hint})."
        )
    return given


def black_of(given: float | None, default: float) -> float:
    """What a black value is to the model, as was given or is the port's.

    Raises:
        InputError: what was given is no number.
    """
    if given is None:
        return default
    if not isinstance(given, int | float) or not math.isfinite(given):
        raise InputError(
            f"black is {given!r}: give what the model takes for a black value, such as -0.5 or 0."
        )
    return given


def image_size_of(
    given: tuple[int, int] | None, found: tuple[int, int] | None, source: str
) -> tuple[int, int]:
    """Height and width, as the file says or as was given.

    Raises:
        InputError: neither says it, or they differ, or what was given is no size.
    """
    if given is not None and not (
        isinstance(given, tuple | list) and len(given) == 2 and all(type(n) is int for n in given)
    ):
        raise InputError(f"image_size is {given!r}: give height and width, two whole numbers.")
    if given is None and found is None:
        raise InputError(
            f"{source} does not say of what size its images are: give image_size (--image-size "
            "HEIGHT WIDTH)."
        )
    if given is not None and found is not None and tuple(given) != found:
        raise InputError(
            f"{source} is for images of {found[0]}x{found[1]}, and image_size is "
            f"{given[0]}x{given[1]}: leave it out."
        )
    return found or given  # type: ignore[return-value]


def _known(name: str) -> str:
    """What something of this name is, if it is known, and not weights."""
    return next((what for part, what in KNOWN.items() if part in name.lower()), "")


def _lines(names: list[str], tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What was left out, a line for each first part of the names."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition(".")[0], []).append(name)
    lines = []
    for first, members in groups.items():
        what = _known(first) or "not weights of the model"
        value = tensors[members[0]]
        if len(members) == 1 and value.numel() == 1:
            lines.append(f"{first} = {value.item():g}: {what}")
        else:
            lines.append(f"{first}, {len(members)} values: {what}")
    return tuple(lines)


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
