"""`python -m tests.fuzzing --cases 2000 --seed 7`: many cases, and a table of what came of them."""

import argparse
import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image

from glowflow import cli

from .arrays import odd_data, odd_run
from .environments import ENVIRONMENTS, faults_of
from .images import odd_image
from .options import TINY, odd_options

KINDS = ("options", "images", "arrays", "runs")
SECONDS = 60
MEMORY = 6 * 2**30
"""Bytes that a case may add: numbers that are too large fail at once."""
LONGEST = 600
"""Characters of a refusal, the frame around it not counted."""
FRAME = str.maketrans("", "", "─│╭╮╰╯")


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str
    place: str
    """Where an error that nobody foresaw was raised, or nothing."""


@dataclass(frozen=True)
class Result:
    kind: str
    number: int
    arguments: tuple[str, ...]
    code: int
    faults: tuple[str, ...]

    def __str__(self) -> str:
        words = " ".join(word[:120] for word in self.arguments)
        shown = words.encode("ascii", "backslashreplace").decode()
        return f"{self.kind} {self.number}: glow {shown}: exit {self.code}, {self.faults}"


def place_of(error: BaseException) -> str:
    """The last line of the package that the error came through, and its type."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{f.filename}:{f.lineno}" for f in frames if "/glowflow/" in f.filename]
    return f"{ours[-1].split('/glowflow/')[-1] if ours else '?'} {type(error).__name__}"


def call(arguments: Sequence[str]) -> Answer:
    """`glow` in this process."""
    out, err, places = io.StringIO(), io.StringIO(), []
    unforeseen = cli._unforeseen

    def recording(error: Exception) -> str:
        said = unforeseen(error)
        if "a fault of glowflow" in said:
            places.append(place_of(error))
        return said

    with redirect_stdout(out), redirect_stderr(err), patch.object(cli, "_unforeseen", recording):
        try:
            code = cli.main(arguments)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            code = -1
            places.append(f"out of main: {place_of(error)}")
    return Answer(code, out.getvalue(), err.getvalue(), " ".join(places))


@contextmanager
def limited(folder: Path) -> Iterator[None]:
    """No network, little memory, and `folder` as the place where the call stands."""
    limits, there = resource.getrlimit(resource.RLIMIT_AS), Path.cwd()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    changed = {"COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
    with (
        patch.dict(os.environ, changed),
        patch("huggingface_hub.constants.HF_HUB_OFFLINE", True),
    ):
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
        signal.alarm(SECONDS)
        try:
            yield
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
            resource.setrlimit(resource.RLIMIT_AS, limits)
            os.chdir(there)


def make_world(folder: Path) -> Path:
    """Pictures in two classes and a run of a tiny model."""
    numbers = np.random.default_rng(0)
    for index in range(48):
        path = folder / "photos" / "ab"[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    sizes = ["--images", "16", "--batch-size", "8", "--evaluation-images", "4"]
    run = ["--out", str(folder / "run")]
    answer = call(["train", str(folder / "photos"), *TINY, *sizes, *run])
    assert answer.code == 0, answer.err
    return folder


def arguments_of(kind: str, draw: random.Random, world: Path, given: Path) -> list[str]:
    if kind == "options":
        return odd_options(draw, world)
    photo = world / "photos" / "a" / "00.png"
    run = ["--model", str(world / "run")]
    if kind == "runs":
        path = str(odd_run(given, draw, world / "run"))
        config = f"{path}/train.yaml"
        return draw.choice([["sample", "--model", path, "--count", "2"],
                            ["evaluate", "--model", path, "--images", "2"],
                            ["reconstruct", str(photo), "--model", path],
                            ["train", "--resume", path, "--images", "24"],
                            ["train", "--config", config, "--print-config"]])  # fmt: skip
    if kind == "images":
        path = str(odd_image(given, draw))
        calls = [["reconstruct", path, *run], ["interpolate", path, path, *run, "--steps", "3"]]
    else:
        path = str(odd_data(given, draw, photo.read_bytes()))
        calls = [["evaluate", path, *run]]
    info = ["data", "info", path, "--size", "8", "8"]
    return draw.choice([*calls, info, ["data", "verify", *info[2:]], info[:3]])


def length(refusal: str) -> int:
    return len(" ".join(refusal.translate(FRAME).split()))


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() for path in files if path.is_file()}


def case(kind: str, number: int, seed: int, world: Path) -> Result:
    """Draw a case, run it, and look for what must not be."""
    with tempfile.TemporaryDirectory(dir=world) as name:
        given, here = Path(name) / "given", Path(name) / "here"
        given.mkdir()
        here.mkdir()
        draw = random.Random(f"{seed} {kind} {number}")
        arguments = arguments_of(kind, draw, world, given)
        kept = [given, world / "photos", world / "run"]
        before = [contents(folder) for folder in kept]
        start = time.monotonic()
        with limited(here):
            answer = call(arguments)
        taken = time.monotonic() - start
        resumed = answer.code != 2 and "--resume" in arguments
        changed = not resumed and before != [contents(folder) for folder in kept]
        left = answer.code == 2 and any(here.iterdir())
    signs = {
        answer.place: bool(answer.place),
        f"exit code {answer.code}": answer.code not in (0, 1, 2, 130),
        "a traceback": "Traceback" in answer.err,
        "refused without a word": answer.code == 2 and not (answer.err + answer.out).strip(),
        "a refusal that is too long": answer.code == 2 and length(answer.err) > LONGEST,
        "refused, and left files": left,
        "input changed": changed,
        "too slow": taken > SECONDS,
    }
    faults = tuple(sign for sign, there in signs.items() if there)
    return Result(kind, number, tuple(arguments), answer.code, faults)


def table(results: Sequence[Result]) -> str:
    """Exit codes by kind, and each distinct fault with its first case."""
    lines = [f"{'kind':<10}{'cases':>6}     0     1     2   130  faults"]
    for kind in KINDS:
        here = [result for result in results if result.kind == kind]
        codes = Counter(result.code for result in here)
        counts = "".join(f"{codes[code]:>6}" for code in (0, 1, 2, 130))
        lines.append(f"{kind:<10}{len(here):>6}{counts}{sum(bool(r.faults) for r in here):>8}")
    for faults, count in Counter(r.faults for r in results if r.faults).most_common():
        lines.append(f"{count:>4} times, first {next(r for r in results if r.faults == faults)}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        os.environ["GLOWFLOW_CACHE"] = f"{name}/cache"
        world, results = make_world(Path(name)), []
        for number in range(given.cases):
            results.append(case(KINDS[number % len(KINDS)], number, given.seed, world))
            if results[-1].faults:
                print(results[-1], flush=True)
        odd = {}
        for place in ENVIRONMENTS:
            here = Path(name) / "environments" / place.replace(" ", "-")
            here.mkdir(parents=True)
            odd[place] = faults_of(place, world, here)
    print(table(results))
    print(f"{len(odd)} environments, {sum(map(bool, odd.values()))} with faults")
    for place, faults in odd.items():
        if faults:
            print(f"{place}: {faults}")
    return int(any(result.faults for result in results) or any(odd.values()))


if __name__ == "__main__":
    sys.exit(main())
