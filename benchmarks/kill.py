"""Kill training at random moments, go on, and compare with a run that was never stopped.

python -m benchmarks.kill [--times 20] [--steps 400] [--seed 0]
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from glowflow import Architecture, DataConfig
from glowflow.data.open import open_splits
from glowflow.training.checkpoint import FOLDER, list_checkpoints
from glowflow.training.config import TrainConfig
from glowflow.training.loop import train
from glowflow.training.metrics import read_metrics

SERVER = multiprocessing.get_context("forkserver")
"""Of processes that have loaded PyTorch already, and done nothing else."""
SERVER.set_forkserver_preload(["glowflow.training.loop", "torch._dynamo"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what became of each kill; 1 if a loss differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args(arguments)
    moments = random.Random(given.seed)
    table = Table(title="kill -9 and --resume, against a run never stopped", title_justify="left")
    for column in ("", "killed after", "resumed from step", "left over", "lines", "differing"):
        table.add_column(column, justify="right")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        train_small(whole, given.steps, resume=False)
        expected, length = figures(whole), seconds_of_training(whole)
        for number in range(1, given.times + 1):
            run = Path(folder) / str(number)
            after = moments.uniform(0.0, length)
            kill_during(run, given.steps, after)
            from_step = int(list_checkpoints(run)[-1].stem)
            left_over = len(list(run.rglob(".*.part*")))
            start(run, given.steps, resume=True).join()
            found = figures(run)
            differing = sum(found.get(step) != line for step, line in expected.items())
            wrong += differing + len(found.keys() - expected.keys())
            wrong += len(list(run.rglob(".*.part*")))
            table.add_row(
                str(number),
                f"{after:.2f} s",
                str(from_step),
                str(left_over),
                str(len(found)),
                str(differing),
            )
    Console().print(table)
    print(f"{given.times} kills, {wrong} differences.")
    return 1 if wrong else 0


def start(run: Path, steps: int, *, resume: bool = False) -> multiprocessing.process.BaseProcess:
    """A process that trains into `run`."""
    child = SERVER.Process(target=train_small, args=(run, steps, resume))
    child.start()
    return child


def kill_during(run: Path, steps: int, after: float) -> None:
    """Start training, and kill it so many seconds after its first checkpoint."""
    child = start(run, steps)
    while not list((run / FOLDER).glob("[0-9]*.pt")):
        time.sleep(0.01)
        if not child.is_alive():
            raise SystemExit(f"Training into {run} failed before its first checkpoint.")
    time.sleep(after)
    child.kill()
    child.join()


def figures(run: Path) -> dict[int, tuple[float, float, float]]:
    """Bits/dim, gradient norm and rate by step."""
    return {
        line["step"]: (line["bits_per_dim"], line["grad_norm"], line["lr"])
        for line in read_metrics(run)
        if "bits_per_dim" in line
    }


def seconds_of_training(run: Path) -> float:
    """From the run's last line."""
    return float(read_metrics(run)[-1]["seconds"])


def train_small(run: Path, steps: int, resume: bool) -> None:
    """A small model of the 8x8 digits, with a checkpoint every few steps."""
    config = TrainConfig(
        data=DataConfig(data="digits"),
        model=Architecture(levels=2, steps=2, hidden_channels=8, bits=4),
        flip=True,
        shift=1,
        images=16 * steps,
        validate_every=0.05,
        validation_images=16,
        log_every=3,
    )
    splits = open_splits(config.data, progress=False)
    train(config, splits, run, device="cpu", resume=resume, progress=False)


if __name__ == "__main__":
    sys.exit(main())
