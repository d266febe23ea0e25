"""Command lines of every command with one value that nobody meant."""

import io
import random
import re
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path

from glowflow.cli import COMMANDS, main

NUMBERS = ["0", "-1", "1e400", "-1e9", "nan", "inf", "-inf", str(2**80), "1e-300", "١٢", "1,5"]
WORDS = ["", " ", "-", "None", "é", "日本語", "\udcff", "a\nb", "%s%n", "{}", "[1", "~", "..",
         "/proc/nope/x", "a" * 300, "a/" * 2500, "a" * 100_000, "cuda:99", "meta", "hub:", "x:y",
         "0,0,0", "nan,0,4", "0:1:0", "0:1:nan", "0:inf:1", "1:0:1", "a:b:c"]  # fmt: skip
TINY = ["--size", "8", "8", "--levels", "1", "--steps", "1", "--hidden-channels", "4"]
NOT_TRIED = {"--help", "--track"}


@cache
def flags_of(command: str) -> tuple[str, ...]:
    """As `--help` shows them: a new option is tried without a line here."""
    said = io.StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        main([command, "--help"])
    found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", said.getvalue())) - NOT_TRIED
    return tuple(sorted(found)) or ("--model",)


def sound_lines(draw: random.Random, world: Path) -> dict[str, list[str]]:
    """A call of each command that works, or that a refused value keeps from starting."""
    run, photo = ["--model", str(world / "run")], str(world / "photos" / "a" / "00.png")
    short = ["--chains", "2", "--draws", "2", "--warmup", "2"]
    return {
        "train": ["train", str(world / "photos"), *TINY, "--print-config"],
        "evaluate": ["evaluate", *run, "--images", "2"],
        "sample": ["sample", *run, "--count", "2"],
        "reconstruct": ["reconstruct", photo, *run],
        "directions": ["directions", *run, "--images", "4"],
        "edit": ["edit", photo, *run, "--resample-level", "1"],
        "interpolate": ["interpolate", photo, photo, *run, "--steps", "3"],
        "pca": ["pca", photo, *run],
        "score": ["score", photo, *run, "--calibration-images", "4"],
        "solve": ["solve", *run, "--observed", photo, "--operator", "noise", *short],
        "check": ["check", *run, "--data", str(world / "photos"), "--count", "20"],
        "push": ["push", str(world / "run"), "me/mine", "--dry-run"],
        "convert": ["convert", str(world / "run" / "model.safetensors")],
        "study": ["study", "nothing"],
        "data": ["data", draw.choice(["info", "verify"]), str(world / "photos"), *TINY[:3]],
        "export": ["export", str(world / "photos"), "--format", "torch"],
        "plan": ["plan", *TINY],
        # Refused twice, so that it is not opened with either option changed.
        "studio": ["studio", str(world / "run"), "--no-open", "--port", "-1", "--token", "short"],
        "demo": ["demo", "--minutes", "-1"],
    }


def odd_options(draw: random.Random, world: Path) -> list[str]:
    """The arguments of one call."""
    sound = sound_lines(draw, world)
    command = draw.choice([*COMMANDS])
    value = draw.choice(NUMBERS if draw.random() < 0.6 else WORDS)
    if draw.random() < 0.1:
        return [command, *[draw.choice(WORDS) for _ in range(draw.randrange(1, 4))]]
    return [*sound[command], f"{draw.choice(flags_of(command))}={value}"]
