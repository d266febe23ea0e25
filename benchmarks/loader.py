"""Images a second of the loader, beside those of training, in one run.

python -m benchmarks.loader [--data faces] [--size 32] [--seconds 5] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from glowflow import DataConfig
from glowflow.data.open import open_splits
from glowflow.data.types import Splits
from glowflow.files import write_text
from glowflow.models.registry import make_model
from glowflow.studies.summary import compact_json
from glowflow.training.batches import Place, TrainingBatches
from glowflow.training.config import TrainConfig
from glowflow.training.initialisation import model_config_for
from glowflow.training.objective import Objective
from glowflow.training.optimisation import make_optimizer

from .device import describe
from .measure import ROOT

TARGET = 20.0
"""Times that the loader has to be faster than training."""


def main() -> None:
    """Measure both in alternation, print the ratio of each, and write a JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--data", default="faces")
    parser.add_argument("--faces", type=int, default=10_000, help="how many to draw")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=TrainConfig().batch_size)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    given = parser.parse_args()
    size = (given.size, given.size)
    config = TrainConfig(
        data=DataConfig(data=given.data, size=size, faces=given.faces),
        model=replace(TrainConfig().model, first_map="none"),
        batch_size=given.batch,
        flip=True,
        shift=3,
    )
    facts = measure(config, open_splits(config.data), given.seconds, given.rounds)
    print(compact_json(facts))
    write_text(given.out / "loader.json", compact_json(facts) + "\n")


def measure(config: TrainConfig, splits: Splits, seconds: float, rounds: int) -> dict[str, Any]:
    """Images/s of either, the median of the rounds, and their ratio, that of the rounds' ratios."""
    torch.manual_seed(config.seed)
    device = torch.device("cpu")
    model = make_model(model_config_for(config, splits)).train()
    inputs = endless_inputs(config, splits, model)
    model.initialize(torch.from_numpy(splits.train.images[:256].copy()))
    objective, optimizer = Objective(model), make_optimizer(model, config.optimizer, config.lr)

    def train_on(x: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss, _ = objective(x)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()

    train_on(next(inputs))
    pairs = [
        (rate(inputs, lambda _: None, seconds), rate(inputs, train_on, seconds))
        for _ in range(rounds)
    ]
    ratio = statistics.median(loading / training for loading, training in pairs)
    return {
        "device": str(describe(device)),
        "data": splits.source,
        "model": f"{config.model.family}, {sum(p.numel() for p in model.parameters()):,} weights",
        "batch": config.batch_size,
        "loader, images/s": round(statistics.median(pair[0] for pair in pairs), 1),
        "training, images/s": round(statistics.median(pair[1] for pair in pairs), 1),
        "loader / training": round(ratio, 1),
        "target": TARGET,
        "met": ratio >= TARGET,
    }


def endless_inputs(config: TrainConfig, splits: Splits, model: Any) -> Iterator[torch.Tensor]:
    """What training reads: batches in random order, shifted, dequantised and flipped."""
    inputs = TrainingBatches(
        splits.train, config.batch_size, config.seed, config.shift, config.flip
    )
    for x, _ in inputs.after(0, Place(), model):
        yield x


def rate(
    inputs: Iterator[torch.Tensor], use: Callable[[torch.Tensor], None], seconds: float
) -> float:
    """Images a second that go through `use`."""
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not count:
        x = next(inputs)
        use(x)
        count += len(x)
    return count / elapsed


if __name__ == "__main__":
    main()
