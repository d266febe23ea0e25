"""openai/glow: the official code's variables, from whatever file they come."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, InputError
from ..models.config import GlowConfig
from .foreign import Foreign, Given
from .openai_layers import KINDS, BadLayerError, layers_of
from .stored import listed

TITLE = "openai/glow"
NAMES = re.compile(r"model/\d+/\d+/(?:actnorm_center/b|actnorm_scale/logs|f1/.+)")
STEP = re.compile(r"model/(\d{1,6})/(\d{1,6})/.+")
AVERAGE = "/ExponentialMovingAverage"
COUNTER = "Variable"
"""1 + the steps of the optimiser: its variables have TensorFlow's names for what has none."""
SLOT = re.compile(r"Variable(?:_\d+)?")
FIRST = "model/0/0/"
SETTINGS: dict[str, Callable[[GlowConfig], int]] = {
    "n_levels": lambda config: config.levels,
    "depth": lambda config: config.steps,
    "width": lambda config: config.hidden_channels,
    "flow_permutation": lambda config: {"reverse": 0, "shuffle": 1}.get(config.permutation, 2),
    "flow_coupling": lambda config: int(config.coupling == "affine"),
    "learntop": lambda config: int(config.learn_top),
    "ycond": lambda config: int(config.classes > 0),
}
"""Settings in the log of a run that the weights say too."""


def recognises(names: Mapping[str, Tensor]) -> bool:
    """Whether there are variables of a step."""
    return any(NAMES.fullmatch(name) for name in names)


def read(tensors: Mapping[str, Tensor], given: Given, source: str) -> Foreign:
    """Deduce the configuration from names and shapes, and map the weights.

    Raises:
        CheckpointError: variables are missing or too many, of other shapes, or not finite.
        InputError: nothing says how large the images are, or of how many bits; or something is
            given that this format settles.
    """
    if given.black not in (None, -0.5) or given.coupling_scale not in (None, "sigmoid"):
        raise InputError(
            f"{TITLE} has black at -0.5 and couplings that scale by a sigmoid: leave --black and "
            "--coupling-scale out."
        )
    names = {name for name in tensors if not name.endswith(AVERAGE) and not SLOT.fullmatch(name)}
    levels, steps = _counts(names, source)
    shape_of = _Shapes(tensors, source)
    channels = shape_of.length(f"{FIRST}actnorm_center/b")
    hidden = shape_of.length(f"{FIRST}f1/l_1/W")
    out = shape_of.length(f"{FIRST}f1/l_last/W")
    if channels % 4 or out not in (channels, channels // 2):
        raise CheckpointError(
            f"{source} has {channels} channels in its first step and {out} behind its network: "
            "neither an affine nor an additive coupling has."
        )
    kinds = (kind for kind, parts in KINDS.items() if any(n.endswith(parts) for n in names))
    with_classifier = _has(names, "model/classifier/")
    with_classes = with_classifier or _has(names, "model/prior/y_emb/")
    classes = shape_of.length("model/prior/y_emb/W", 0) if with_classes else 0
    config = GlowConfig(
        image_shape=(channels // 4, *_image_size(given, levels, source)),
        levels=levels,
        steps=steps,
        hidden_channels=hidden,
        coupling="affine" if out == channels else "additive",
        permutation=next(kinds, "reverse"),
        learn_top=_has(names, "model/prior/p/"),
        classes=classes,
        bits=_bits(given, source),
        weight_classes=_weight_of_classes(given.run),
    )
    layers = list(layers_of(config, with_classifier=with_classifier))
    expected = [name for layer in layers for name in layer.shapes]
    _compare(expected, names, source)
    _compare_run(config, given.run, source)
    state: dict[str, Tensor] = {}
    for layer in layers:
        variables = [_variable(tensors, name, s, source) for name, s in layer.shapes.items()]
        try:
            state.update(layer.ours(*variables))
        except BadLayerError as error:
            what = f"{next(iter(layer.shapes)).rpartition('/')[0]} {error}"
            raise CheckpointError(f"In {source} {what}: the file is damaged.") from error
    notes = []
    if classes and not with_classifier:
        notes.append("It has no classifier, as graphs have none: its logits are 0 here.")
    return Foreign(
        config=config,
        state=state,
        left_out=tuple(_left_out(tensors, expected)),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Shapes:
    tensors: Mapping[str, Tensor]
    source: str

    def length(self, name: str, axis: int = -1) -> int:
        """Length of an axis, the last one by default, from which something is deduced."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.source} has no {name}: it is not all of the model.")
        shape = self.tensors[name].shape
        if not shape or shape[axis] < 1:
            raise CheckpointError(f"In {self.source} {name} is {tuple(shape)}: it is damaged.")
        return shape[axis]


def _has(names: set[str], part: str) -> bool:
    """Whether anything of a part of the model is there: what else belongs to it is missing then."""
    return any(name.startswith(part) for name in names)


def _counts(names: set[str], source: str) -> tuple[int, int]:
    """Levels, and steps in each."""
    found = [(int(m[1]), int(m[2])) for m in map(STEP.fullmatch, names) if m]
    levels = max((level for level, _ in found), default=-1) + 1
    steps = max((step for _, step in found), default=-1) + 1
    if not 0 < levels * steps <= len(names):
        raise CheckpointError(
            f"{source} names {levels} levels of {steps} steps and has {len(names)} variables: it "
            "is not all of the model."
        )
    return levels, steps


def _image_size(given: Given, levels: int, source: str) -> tuple[int, int]:
    if given.image_size is None:
        raise InputError(
            f"{source} does not say how large its images are: give --image-size HEIGHT WIDTH "
            f"(image_size=), which {2**levels} divides."
        )
    return given.image_size


def _bits(given: Given, source: str) -> int:
    if given.bits is None:
        raise InputError(
            f"{source} does not say how many bits its images have: give --bits (bits=); 8 for most "
            "of the published models, 5 for CelebA-HQ."
        )
    return given.bits


def _weight_of_classes(run: Mapping[str, Any]) -> float:
    weight = run.get("weight_y")
    if isinstance(weight, int | float) and math.isfinite(weight):
        return float(weight)
    return GlowConfig.weight_classes


def _variable(
    tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], source: str
) -> Tensor:
    """A variable of this shape, without the axes of length 1 before a vector."""
    value = tensors[name]
    found = tuple(value.shape)
    fits = found[-1:] == shape and value.numel() == shape[0] if len(shape) == 1 else found == shape
    if not fits:
        hint = ""
        if len(shape) == 4 and found[:2] == (3, 3) and found[2] == shape[2] - 1:
            hint = (
                "; it has no channel for the border, as in graph_optimized.pb: convert "
                "graph_unoptimized.pb"
            )
        raise CheckpointError(
            f"In {source} {name} is {found}, and the other variables ask for {shape}{hint}."
        )
    is_index = "/shuffle/" in name
    if value.is_floating_point() == is_index or value.dtype in (torch.bool, torch.uint8):
        raise CheckpointError(f"In {source} {name} is {value.dtype}: the file is damaged.")
    if not is_index and not torch.isfinite(value).all():
        raise CheckpointError(
            f"In {source} {name} is not finite: use a checkpoint from before training went wrong."
        )
    return value.flatten() if len(shape) == 1 else value


def _compare(expected: list[str], names: set[str], source: str) -> None:
    """Refuse what is missing and what is too many, by name."""
    missing = [name for name in expected if name not in names]
    extra = sorted(names - set(expected))
    said = [f"lacks {listed(missing)}"] * bool(missing)
    said += [f"has {listed(extra)}, which the model does not explain"] * bool(extra)
    if said:
        raise CheckpointError(f"{source} is no whole {TITLE} model: it {' and '.join(said)}.")


def _compare_run(config: GlowConfig, run: Mapping[str, Any], source: str) -> None:
    """Refuse the log of another run."""
    for name, value_of in SETTINGS.items():
        if name in run and run[name] != value_of(config):
            raise InputError(
                f"The log beside {source} says that {name} is {run[name]}, and the weights say "
                f"{value_of(config)}: it is of another run; move it away, and give --bits and "
                "--image-size."
            )


def _left_out(tensors: Mapping[str, Tensor], expected: list[str]) -> Iterator[str]:
    """Averages, optimiser slots and the step counter, in words."""
    known = set(expected)
    averages = [name for name in tensors if name.endswith(AVERAGE)]
    if of_others := [name for name in averages if name.removesuffix(AVERAGE) not in known]:
        raise CheckpointError(
            f"There are averages of variables that the model does not have: {listed(of_others)}."
        )
    slots = {name for name in tensors if SLOT.fullmatch(name)}
    counter = tensors[COUNTER] if COUNTER in slots else None
    if counter is not None and counter.numel() == 1:
        slots.remove(COUNTER)
        yield f"1 step counter ({COUNTER} = {float(counter):g})"
    if slots:
        yield f"{len(slots):,} optimiser slot{'s' * (len(slots) > 1)}"
    if averages:
        yield f"{len(averages):,} average{'s' * (len(averages) > 1)} of weights"
