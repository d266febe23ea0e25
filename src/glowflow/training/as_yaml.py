"""Configurations as YAML, and back, every field checked against its type."""

import dataclasses
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from ..errors import InputError

Config = TypeVar("Config")


def to_yaml(config: Any) -> str:
    """The configuration as YAML, every field in it."""
    return yaml.safe_dump(_plain(config), sort_keys=False, default_flow_style=None)


def from_yaml(kind: type[Config], text: str, source: str) -> Config:
    """The configuration that a YAML text describes; fields that are left out keep their default.

    Args:
        kind: the dataclass, for example `TrainConfig`.
        text: YAML.
        source: where the text is from, for the message of an error.

    Raises:
        InputError: the text is not YAML, or a field is unknown or of the wrong type.
    """
    try:
        fields = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{source} is not YAML: {' '.join(str(error).split())}.") from error
    return _build(kind, fields if fields is not None else {}, source)


def _plain(config: Any) -> Any:
    if dataclasses.is_dataclass(config):
        fields = {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"family": config.family, **fields} if hasattr(config, "family") else fields
    return list(config) if isinstance(config, tuple) else config


def _build(kind: type[Config], fields: Any, source: str) -> Config:
    if not isinstance(fields, dict):
        raise InputError(f"{source} holds {fields!r} where {kind.__name__} has fields.")
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in types:
            raise InputError(f"{source} has a field {name!r}, which {kind.__name__} has not.")
        hint = types[name]
        value = tuple(value) if isinstance(value, list) else value
        if kinds := [k for k in get_args(hint) or (hint,) if dataclasses.is_dataclass(k)]:
            value = _build_one_of(kinds, value, source)
        elif not _fits(value, hint):
            raise InputError(f"In {source} the field {name} is {value!r}, which is not {hint}.")
        values[name] = value
    return kind(**values)


def _build_one_of(kinds: list[Any], fields: Any, source: str) -> Any:
    """The dataclass that the field `family` names, where there are several; else the first."""
    if len(kinds) == 1 or not isinstance(fields, dict):
        return _build(kinds[0], fields, source)
    by_family = {kind.family: kind for kind in kinds}
    family = fields.get("family", kinds[0].family)
    if not isinstance(family, str) or family not in by_family:
        raise InputError(
            f"In {source} the family is {family!r}: choose one of {', '.join(by_family)}."
        )
    others = {name: value for name, value in fields.items() if name != "family"}
    return _build(by_family[family], others, source)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is tuple and isinstance(value, tuple):
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is (type(None) if hint is None else hint)
