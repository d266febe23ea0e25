"""Compare this project with its bare convolutions and with normflows' Glow: `--help`.

`python -m benchmarks speedrun` compares recipes: held-out bits/dim against training seconds.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from glowflow import GlowflowError
from glowflow.files import require_writable

from . import speedrun
from .contenders import MODES, Setting, build, contender_names
from .device import describe
from .measure import (
    MEASURES,
    ROOT,
    MeasurementError,
    answer_memory,
    keep_freed_memory,
    peak_memory_in_a_process,
    time_rounds,
)
from .results import Memory, Report, Table

DEFAULTS = {
    "steps": (4, 8, 16, 32),
    "hidden": 512,
    "batch": 16,
    "repeats": 5,
    "threads": torch.get_num_threads(),
}
QUICK = {
    "steps": (1, 2),
    "hidden": 8,
    "batch": 2,
    "repeats": 2,
    "modes": ("float32-stored", "float32-reversible"),
    "threads": 1,
}
QUICK_SIZE = 16
WIDTH = 120
"""Columns that the tables need."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the files; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments[:1]) == ["speedrun"]:
        return speedrun.main(arguments[1:])
    given = parse(arguments)
    torch.set_num_threads(given.threads)
    if given.memory_of:
        print(answer_memory(given.memory_of))
        return 0
    try:
        require_writable(given.out)
        keep_freed_memory()
        report = run(given)
        console = Console()
        console.width = max(console.width, WIDTH)
        for table in report.tables():
            console.print(rich_table(table))
        written = report.write(given.out)
    except GlowflowError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted: nothing was written.", file=sys.stderr)
        return 130
    for line in report.summary():
        print(line)
    print(f"Written: {', '.join(map(str, written))}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with the defaults of a quick or of a whole run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--steps", type=positive, nargs="+", metavar="K", help="steps a level")
    parser.add_argument("--hidden", type=positive, help="hidden channels (512)")
    parser.add_argument("--batch", type=positive, help="images of a step (16)")
    parser.add_argument("--repeats", type=positive, help="rounds after the warm-up (5)")
    parser.add_argument(
        "--modes",
        nargs="+",
        choices=MODES,
        help="of this project (all; bf16 only where the device has such instructions)",
    )
    parser.add_argument("--threads", type=positive, help="of the processor (PyTorch's choice)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="folder")
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cuda" if torch.cuda.is_available() else "cpu",
    )
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that it works")
    parser.add_argument("--memory-of", default="", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    for name, value in (QUICK if given.quick else DEFAULTS).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def run(given: argparse.Namespace) -> Report:
    """Time all contenders at each depth, then the memory of each in a process of its own."""
    device = torch.device(given.device)
    facts = describe(device)
    without_bf16 = given.modes is None and facts.bf16_instructions is False
    if given.modes is None:
        given.modes = [m for m in MODES if not (m.startswith("bf16") and without_bf16)]
    setting = Setting(hidden=given.hidden, batch=given.batch)
    if given.quick:
        setting = Setting(size=QUICK_SIZE, hidden=given.hidden, batch=given.batch)
    steps = tuple(sorted(set(given.steps)))
    names, skipped = contender_names(list(dict.fromkeys(given.modes)))
    if without_bf16:
        skipped.append(f"bf16: {facts.name} has no bf16 instructions")
    report = Report(facts, setting, steps, skipped=skipped)
    bare = [name for name in names if name.startswith("bare")]
    turns = (given.repeats + 1) * (2 * len(bare) + len(MEASURES) * (len(names) - len(bare)))
    with progress(len(skipped) + len(steps) * (turns + len(names))) as note:
        for line in skipped:
            note(f"Not measured: {line}")
        for k in steps:
            contenders = {name: build(name, setting, k, device) for name in names}
            timings, failed = time_rounds(contenders, setting, k, given.repeats, device, note)
            report.timings.extend(timings)
            report.skipped.extend(failed)
            del contenders
            gc.collect()
            for name in report.fastest(names, k):
                try:
                    peak = peak_memory_in_a_process(name, setting, k, device)
                except MeasurementError as error:
                    report.skipped.append(str(error))
                    note(str(error))
                    continue
                report.memory.append(Memory(name, k, peak))
                amount = "unknown" if peak is None else f"{peak / 2**20:.1f} MiB"
                note(f"K={k} peak memory, {name}: {amount}")
    return report


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar that names the last measurement; a line a measurement where there is no terminal."""
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def note(line: str) -> None:
            bar.update(task, advance=1, description=line)
            if not console.is_terminal:
                print(line, file=sys.stderr, flush=True)

        yield note


def rich_table(table: Table) -> RichTable:
    """The table for a terminal."""
    drawn = RichTable(title=table.title, title_justify="left")
    for number, name in enumerate(table.header):
        drawn.add_column(name, justify="right" if number else "left", no_wrap=number == 0)
    for row in table.rows:
        drawn.add_row(*row)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
