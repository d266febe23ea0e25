"""What the commands share: their options, how these are parsed, and what a command answers."""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import tyro

from ..checks import has_device, require
from ..errors import InputError
from ..photos.fit import Fit

SIZES = ("--size", "--image-size")
"""Height and width in pixels."""
NARROWEST = 40
"""Columns of a console that help is laid out for at least."""


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


@dataclass(frozen=True, kw_only=True)
class ModelOptions(CommonOptions):
    model: str
    """Folder of a run or of a saved model, a Hugging Face hub id, or demo-faces, which is
    shipped."""
    seed: int = 0
    """Of what is random; where nothing is, it is taken for the sake of scripts."""


@dataclass(frozen=True, kw_only=True)
class DataOptions(ModelOptions):
    data: str | None = None
    """Images: faces, digits, a folder, an array, …; by default the data of the run."""
    target: str | None = None
    """Which array of --data, an .npz, HDF5 or Zarr file; by default the one of training."""
    upscale: bool = False
    """Accept images smaller than the model's and enlarge them."""
    fit: Fit | None = None
    """How images become the model's size; by default as its training images did."""


@dataclass(frozen=True, kw_only=True)
class PhotoOptions:
    align: bool = False
    """Find the face and bring its eyes to where the official demo has them (needs
    glowflow[align])."""
    crop: str | None = None
    """What to take of a photograph: `center`, or x,y,size of the upper left corner and the width
    in pixels."""
    paste: bool = False
    """Also put the result back into the original photograph."""
    upscale: bool = False
    """Accept images smaller than the model's and enlarge them."""
    fit: Fit | None = None
    """How an image becomes the model's size; by default as its training images did."""
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Class of the images, for a class-conditional model: its name or its number."""


def parse(command: ModuleType, name: str, description: str, arguments: Sequence[str]) -> Any:
    """Parse the arguments of a command into its `Options`.

    A first argument that is not a flag is the data, where the command takes data.
    """
    _widen_console()
    arguments = _with_both_sides([_with_dashes(argument) for argument in arguments])
    if getattr(command, "DATA_FIRST", False) and arguments and not arguments[0].startswith("-"):
        arguments.insert(0, "--data")
    default = command.default(arguments) if hasattr(command, "default") else None
    refusal = io.StringIO()
    try:
        with redirect_stderr(refusal):
            options = tyro.cli(
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
    except SystemExit as error:
        if not error.code:
            raise
        raise InputError(f"{_in_a_sentence(refusal.getvalue())}; see glow {name} --help.") from None
    print(refusal.getvalue(), end="", file=sys.stderr)  # what the parser says beside
    seed = getattr(options, "seed", 0)
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed is {seed}: give a whole number from 0 to 2^63 - 1.")
    return options


def _in_a_sentence(box: str) -> str:
    """What the parser says in a box: what is wrong, and what may have been meant."""
    parts: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:  # below the title
        text = line[2:].rstrip("│ ")
        if text.strip("─-╰╯ "):
            parts[-1].append(text)
        elif text:
            parts.append([])
    wrong, *hints = [part for part in parts if part]
    if "Got errors:" in wrong:  # of each type that was tried
        wrong = wrong[: wrong.index("Got errors:")]
    if wrong[0].startswith("Missing from"):
        wrong = [wrong[0], ", ".join(_names(wrong))]
    said = " ".join(line.strip() for line in wrong).rstrip(".")
    for hint in hints:
        if hint[0].startswith("Available"):
            said += f" ({' '.join(line.strip() for line in hint)})"
        elif hint[0].startswith("Perhaps"):
            said += f"; perhaps {' or '.join(_names(hint)[:2])}"
        elif hint[0].startswith("Argument"):
            said += f"; give {' or '.join(_names(hint)[:1])}"
    return said


def _names(part: list[str]) -> list[str]:
    """The options of a part of the parser's box, which are indented by four."""
    return [line.strip() for line in part if line.startswith("    ") and line[4:5] not in " "]


def _widen_console() -> None:
    """Help is never wrapped to less than 40 columns: its layout does not end on fewer."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and 0 < int(columns) < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)


def _with_dashes(argument: str) -> str:
    """`--batch_size` is `--batch-size`."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _with_both_sides(arguments: list[str]) -> list[str]:
    """`--size 64` and `--size=64` are `--size 64 64`."""
    found: list[str] = []
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in SIZES and value.isdecimal():
            found += [name, value, value]
            continue
        found.append(argument)
        after = arguments[index + 1 : index + 2]
        if index and arguments[index - 1] in SIZES and argument.isdecimal():
            found += [] if after and after[0].isdecimal() else [argument]
    return found


def taken(arguments: list[str], flag: str) -> str | None:
    """Remove every `flag VALUE` from the arguments and return the last VALUE.

    Raises:
        InputError: the flag is last.
    """
    value = None
    index = 0
    while index < len(arguments):
        argument = _with_dashes(arguments[index])
        if argument == flag:
            if index + 1 == len(arguments):
                raise InputError(f"{flag} needs a value.")
            value = arguments[index + 1]
            del arguments[index : index + 2]
        elif argument.startswith(flag + "="):
            value = argument.removeprefix(flag + "=")
            del arguments[index]
        else:
            index += 1
    return value


def check_device(device: str | None) -> str:
    """The device to use: the one asked for, or an accelerator if there is one.

    Raises:
        InputError: there is no such device.
    """
    import torch

    if device is None:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if accelerator is None else accelerator.type
    require(has_device(device), f"There is no device {device!r} here: leave --device out.")
    return device
