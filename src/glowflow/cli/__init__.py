"""The `glow` command: each subcommand is a module with `Options` and `run`, and a line below.

The top of a command's module imports what its options need, and nothing that imports PyTorch or
matplotlib; its functions import what they work with, so that `--help` is there at once.
"""

import atexit
import json
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

from ..errors import GlowflowError
from ..launcher import launched_processes, process_number
from .results import keep_made, remove_made

TRACEBACK = "GLOWFLOW_TRACEBACK"
"""Environment variable with which an unforeseen error shows where it is from."""
COMMANDS = {
    "train": "Train a model on a folder of images, an array, or data that is built in.",
    "evaluate": "Bits per dimension on held-out images, beside baselines, and the round trip.",
    "sample": "Draw images from a model.",
    "reconstruct": "Encode images, decode them, and count the bytes that differ.",
    "directions": "Find what each attribute is in latent space.",
    "edit": "Move a photograph along attributes, draw a level anew, or change its class.",
    "interpolate": "The images between two images, as a strip and an animation.",
    "pca": "Principal axes of the latents by level, and what can be read off them, as a page.",
    "score": "How strange each image is: likelihood, typicality, complexity, p-values, as a table.",
    "solve": "What an image was, from a part, a blur or a noisy copy, with a model as prior.",
    "check": "Whether a posterior or samples can be trusted: ranks, coverage, spectra, as a page.",
    "export": "A model for other software: torch.export, ONNX, or a page in the browser.",
    "study": "Measure a claim: attributes, permutations, bits and eight more; tables and pictures.",
    "data": "Prepare a data set, say what is in it, or verify it: prepare, info, verify.",
    "push": "Send a model to the Hugging Face hub, with a model card.",
    "plan": "Memory and time of a training run, before it starts, on this or another device.",
    "convert": "Open a model of other code: official TensorFlow files, and ports.",
    "studio": "A page in the browser where one plays with a model: edit, sample, mix, score.",
    "demo": "Train on drawn faces in ten minutes, evaluate, sample, and write a report.",
}
"""Modules of this folder, in the order of `glow --help`, and what they do."""
SHARED = ("train", "demo", "evaluate", "directions")
"""Commands that several processes of a launcher work on together; of others process 0 does all."""

LONGEST_ARGUMENT = 4096
"""Characters of an argument, as of a path."""
LONGEST_WORD = 300
"""Characters of a word that a message repeats."""


def run_process() -> NoReturn:
    """`glow` as a process.

    One of several ends without Python's own clearing up, in which PyTorch 2.13 now and then aborts
    a process whose work is done (its issue 190489), and a launcher takes that for a failure.
    """
    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    with suppress(GlowflowError):  # of what a launcher left behind, which has been said
        if launched_processes() > 1:
            atexit._run_exitfuncs()
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `glow` and return its exit code: 0, 1 for a failed check, 2 for bad input, 130 Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _let_consoles_take_everything()
    try:
        code = _run(given)
        if sys.stdout is not None:  # a console that is closed has none
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # the output does not take what is printed
        print(f"glow: cannot write the output ({error.strerror}).", file=sys.stderr)
        return 1


def _run(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0 if given else 2
    if given[0] == "--version":
        print(import_module("glowflow").__version__)
        return 0
    name, *rest = given
    if name not in COMMANDS:
        print(_in_short(f"glow: there is no command {name!r}; see glow --help."), file=sys.stderr)
        return 2
    if longest := next((word for word in rest if len(word) > LONGEST_ARGUMENT), None):
        print(
            _in_short(f"glow {name}: {longest} has {len(longest):,} characters: give fewer."),
            file=sys.stderr,
        )
        return 2
    if name not in SHARED and process_number() > 0:
        return 0
    try:
        from .options import parse

        keep_made()
        command = import_module(f".{name}", __name__)
        options = parse(command, name, COMMANDS[name], rest)
        outcome = command.run(options)
        answer = json.dumps(outcome.facts) if options.json else outcome.sentence
    except GlowflowError as error:
        remove_made()
        print(_in_short(f"glow {name}: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"glow {name}: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:  # whatever it is, a person gets a sentence
        if TRACEBACK in os.environ:
            raise
        remove_made()
        print(_in_short(f"glow {name}: {_unforeseen(error)}"), file=sys.stderr)
        return 2 if isinstance(error, (OSError, OverflowError)) else 1
    print(answer)
    return int(outcome.code)


def _unforeseen(error: Exception) -> str:
    said = " ".join(str(error).split())[:300].rstrip(".") or "no more is known"
    if isinstance(error, MemoryError) or ("alloc" in said and "memory" in said):
        return f"There is not enough memory ({said}): take fewer or smaller images at once."
    if isinstance(error, OSError) and error.filename is not None:
        return f"Cannot use {error.filename} ({error.strerror}): give another file or folder."
    return (
        f"It failed unexpectedly, which is a fault of glowflow: {type(error).__name__}, {said}; "
        f"{TRACEBACK}=1 shows where, for a report."
    )


def _in_short(text: str) -> str:
    """With the middle left out of words that are longer than a line or two."""
    return " ".join(
        word if len(word) <= LONGEST_WORD else f"{word[:100]}...{word[-100:]}"
        for word in text.split(" ")
    )


def _let_consoles_take_everything() -> None:
    """Characters that a console cannot show are escaped; what libraries say of odd files is not."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with suppress(ValueError, OSError):
                reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")


def usage() -> str:
    """What `glow --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "usage: glow COMMAND [OPTIONS]",
            "",
            "Glow: a generative flow with invertible 1x1 convolutions.",
            "",
            *lines,
            "",
            "glow COMMAND --help shows the options of a command.",
        ]
    )
