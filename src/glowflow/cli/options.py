"""What the subcommands share: how options are parsed, and what a command answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import tyro

from ..errors import InputError


@dataclass(frozen=True)
class Outcome:
    """What a command has done: a line for people, the same as facts for scripts, an exit code."""

    sentence: str
    facts: dict[str, Any]
    code: int = 0


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    out: Path | None = None
    """Folder for the results; by default a new one under runs/."""
    device: str | None = None
    """cpu, cuda, cuda:1, …; by default an accelerator if there is one."""
    json: bool = False
    """Print the results as one line of JSON."""


def parse(command: ModuleType, name: str, description: str, arguments: Sequence[str]) -> Any:
    """Parse the arguments of a subcommand into its `Options`.

    A first argument that is not a flag is the data, where the command takes data.
    """
    arguments = list(arguments)
    if getattr(command, "DATA_FIRST", False) and arguments and not arguments[0].startswith("-"):
        arguments.insert(0, "--data")
    default = command.default(arguments) if hasattr(command, "default") else None
    return tyro.cli(
        command.Options,
        prog=f"glow {name}",
        description=description,
        args=arguments,
        **({} if default is None else {"default": default}),
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.AvoidSubcommands,
        ),
    )


def taken(arguments: list[str], flag: str) -> str | None:
    """Remove `flag VALUE` from the arguments and return VALUE.

    Raises:
        InputError: the flag is last.
    """
    for index, argument in enumerate(arguments):
        if argument == flag:
            if index + 1 == len(arguments):
                raise InputError(f"{flag} needs a value.")
            value = arguments[index + 1]
            del arguments[index : index + 2]
            return value
        if argument.startswith(flag + "="):
            del arguments[index]
            return argument.removeprefix(flag + "=")
    return None


def check_device(device: str | None) -> str:
    """The device to use: the one asked for, or an accelerator if there is one.

    Raises:
        InputError: there is no such device.
    """
    if device is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if found is None else found.type
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"There is no device {device!r} here: leave --device out.") from error
    return device
