"""The options of a training run as a form, and back: from the dataclasses and their docstrings."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import InputError
from ..training.config import TrainConfig
from ..training.presets import FAMILIES, PRESETS, preset_config

FIRST = (
    "data.data", "data.size", "minutes", "images", "batch_size", "lr",
    "model.levels", "model.scales", "model.steps", "model.residual_blocks", "model.hidden_channels",
)  # fmt: skip
"""What matters most, and is asked first."""
STARTS = (*FAMILIES, *PRESETS)
Kind = Literal["text", "number", "flag", "choice"]


@dataclass(frozen=True)
class Field:
    """One option."""

    name: str
    """Of the field within `TrainConfig`: `model.levels`."""
    kind: Kind
    value: str | bool
    """As it is where nobody changes it; empty for None."""
    choices: tuple[str, ...]
    help: str
    first: bool
    """Whether it is among those that matter most."""


def starting_point(start: str) -> TrainConfig:
    """The run that a family or a preset starts from.

    Raises:
        InputError: there is neither of that name.
    """
    if start not in STARTS:
        raise InputError(f"There is nothing called {start!r}: choose one of {', '.join(STARTS)}.")
    return FAMILIES[start] if start in FAMILIES else preset_config(start)


def form(config: TrainConfig) -> list[Field]:
    """Every option, those that matter most first."""
    fields = [
        _field(name, hint, value, said) for name, hint, value, said in _leaves(config, prefix="")
    ]
    order = {name: place for place, name in enumerate(FIRST)}
    return sorted(fields, key=lambda field: order.get(field.name, len(order)))


def filled(config: TrainConfig, values: Mapping[str, str | bool]) -> TrainConfig:
    """The run with these options changed.

    Raises:
        InputError: there is no such option, or its value cannot be.
    """
    known = {name: hint for name, hint, _, _ in _leaves(config, prefix="")}
    for name in values:
        if name not in known:
            raise InputError(f"There is no option {name[:64]!r}.")
    return _filled(config, {name: _value(name, v, known[name]) for name, v in values.items()}, "")


def _leaves(config: Any, prefix: str) -> list[tuple[str, Any, Any, str]]:
    """Name, type, value and docstring of each field, those of fields in it after its own."""
    said, hints = docstrings(type(config)), get_type_hints(type(config))
    own, inside = [], []
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if dataclasses.is_dataclass(value):
            inside += _leaves(value, f"{prefix}{each.name}.")
        else:
            own.append((f"{prefix}{each.name}", hints[each.name], value, said.get(each.name, "")))
    return [*own, *inside]


def _field(name: str, hint: Any, value: Any, said: str) -> Field:
    kinds = [kind for kind in _kinds(hint) if kind is not NoneType]
    optional = NoneType in _kinds(hint)
    shown: str | bool = value if isinstance(value, bool) else _text(value)
    choices = tuple(str(choice) for kind in kinds for choice in get_args(kind))
    literal = get_origin(kinds[0]) is Literal
    kind: Kind = "text"
    if kinds[0] is bool:
        kind = "flag"
    elif literal:
        kind = "choice"
    elif kinds[0] in (int, float):
        kind = "number"
    return Field(
        name, kind, shown, (*([""] if optional else []), *choices) if literal else (), said,
        name in FIRST,
    )  # fmt: skip


def _text(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _value(name: str, given: str | bool, hint: Any) -> Any:
    """What was written, as the field takes it."""
    kinds = _kinds(hint)
    if isinstance(given, bool):
        if bool not in kinds:
            raise InputError(f"{name} is {given}: give a value.")
        return given
    if not given.strip() and NoneType in kinds:
        return None
    for kind in kinds:
        if kind is not NoneType:
            return _one(name, given.strip(), kind)
    return None


def _one(name: str, text: str, kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        chosen = {str(choice): choice for choice in arguments}
        if text not in chosen:
            raise InputError(f"{name} is {text[:64]!r}: choose one of {', '.join(chosen)}.")
        return chosen[text]
    if origin is tuple:
        words = text.replace(",", " ").split()
        kinds = arguments[:1] * len(words) if arguments[-1] is ... else arguments
        if len(words) != len(kinds):
            raise InputError(f"{name} is {text[:64]!r}: give {len(kinds)} values.")
        return tuple(_one(name, word, k) for word, k in zip(words, kinds, strict=True))
    if kind is bool:
        raise InputError(f"{name} is {text[:64]!r}: give true or false.")
    try:
        return kind(text)
    except (ValueError, OverflowError) as error:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} is {text[:64]!r}: give {what}.") from error


def _filled(config: Any, values: Mapping[str, Any], prefix: str) -> Any:
    changed = {}
    for each in dataclasses.fields(config):
        inner, name = getattr(config, each.name), f"{prefix}{each.name}"
        if dataclasses.is_dataclass(inner):
            changed[each.name] = _filled(inner, values, f"{name}.")
        elif name in values:
            changed[each.name] = values[name]
    return dataclasses.replace(config, **changed)


def docstrings(kind: type) -> Mapping[str, str]:
    """What stands below each field of a dataclass, in one line."""
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    body = made.body if isinstance(made, ast.ClassDef) else []
    found = {}
    for field, below in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found
