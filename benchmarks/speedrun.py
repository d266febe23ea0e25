"""Held-out bits/dim against training seconds: `python -m benchmarks speedrun --help`."""

import argparse
import json
import math
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor, nn

from glowflow import Glow, GlowConfig, GlowflowError
from glowflow.data.config import DataConfig
from glowflow.data.open import open_splits
from glowflow.data.patches import Grids
from glowflow.data.types import ImageData, Splits
from glowflow.files import require_writable, write_text
from glowflow.models.likelihood import bits_per_dim, dequantize
from glowflow.training.batches import noise_for
from glowflow.training.config import TrainConfig
from glowflow.training.first_map import first_map_chosen
from glowflow.training.initialisation import initialize, model_config_for
from glowflow.training.optimisation import Schedule, make_average, make_optimizer
from glowflow.training.presets import starting_config

from .contenders import normflows_glow
from .device import describe
from .measure import ROOT

SLICE = 5.0
"""Seconds that a contender trains before it is the next one's turn."""
PEER = "normflows, the official recipe"
BEST = "our best"
PEERS_COLUMN = " as good as the peer at the end |"
OFFICIAL_WARMUP = 6_400
"""Images: 100 steps of 64, where the published 500,000 would outlast the race."""


@dataclass
class Runner:
    """A model in training; its seconds run only while it has its turn."""

    name: str
    model: Any
    """Answers `log_prob(x, labels)`: a `Glow`, or normflows' model."""
    config: TrainConfig
    seconds: float
    images: int = 0
    step: int = 0
    checks: list[tuple[float, int, float]] = field(default_factory=list)
    """(seconds, images, bits/dim of the averaged weights)"""

    def __post_init__(self) -> None:
        """Make what moves the weights."""
        self.optimizer = make_optimizer(self.model, self.config.optimizer, self.config.lr)
        self.average = make_average(self.model, self.config.ema) if self.config.ema else None
        self.schedule = Schedule.of(self.config)

    def train(self, data: ImageData, until: float, seed: int) -> None:
        """Take steps until so many seconds of its own."""
        grids = None if data.patches is None else Grids.of(data.patches)
        while self.seconds < until:
            started = time.perf_counter()
            order = np.random.default_rng((seed, self.step))
            size = self.config.batch_size
            chosen = np.sort(order.choice(len(data), size, replace=len(data) < size))
            images = torch.from_numpy(taken(data, grids, chosen, order))
            x = dequantize(images, generator=noise_for(seed, self.step, images.device))
            self.images += len(x)
            done = self.schedule.done(self.images, self.seconds)
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule.learning_rate(self.images, min(1.0, done))
            loss = bits_per_dim(self.model.log_prob(x, None), x[0].numel(), 8).mean()
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            self.step += 1
            self.seconds += time.perf_counter() - started

    @torch.no_grad()
    def check(self, images: Tensor) -> tuple[float, int, float]:
        """(seconds, images, bits/dim of these images)."""
        model = self.model if self.average is None else self.average.module
        x = dequantize(images, generator=torch.Generator().manual_seed(0))
        log_probs = [model.log_prob(some, None) for some in x.split(100)]
        bits = float(bits_per_dim(torch.cat(log_probs), x[0].numel(), 8).mean())
        return self.seconds, self.images, bits


def taken(
    data: ImageData, grids: Grids | None, chosen: NDArray[np.int64], random: np.random.Generator
) -> NDArray[Any]:
    """These images; of photographs cut into squares, squares at random places as in training."""
    if grids is None:
        return np.asarray(data.images[chosen])
    return grids.crops(data.images, chosen, random)


def recipes(
    data: DataConfig, minutes: float, steps: int, best: str | None = None
) -> dict[str, TrainConfig]:
    """What is compared: the configuration of each run; the best one as flags of `glow train`."""
    plain = TrainConfig(data=data, minutes=minutes, images=10**9)
    plain = replace(plain, model=replace(plain.model, steps=steps, first_map="none"))
    ours = replace(plain, model=replace(plain.model, first_map="auto"))
    if data.fit == "patches":
        of_squares = starting_config("", patches=True)
        ours = replace(of_squares, data=data, minutes=minutes, images=plain.images)
    official = replace(
        plain,
        model=replace(plain.model, coupling_scale="sigmoid"),
        batch_size=64,
        lr=1e-3,
        warmup_images=OFFICIAL_WARMUP,
        decay="constant",
        ema=0.0,
    )
    compared = {
        PEER: official,
        "the official recipe": official,
        "defaults without a first map": plain,
        "defaults": ours,
    }
    if best is not None:
        compared[BEST] = tyro.cli(
            TrainConfig,
            args=shlex.split(best),
            default=ours,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands),
        )
    return compared


def start(name: str, config: TrainConfig, splits: Splits, seed: int) -> Runner:
    """A contender before its first step; what its start takes counts."""
    torch.manual_seed(seed)
    started = time.perf_counter()
    config = first_map_chosen(config, splits.train)
    shape = model_config_for(config, splits)
    if name.startswith("normflows"):
        model: Any = normflows_glow(
            shape.image_shape, config.model.levels, config.model.steps, config.model.hidden_channels
        )
        first = torch.from_numpy(splits.train.images[:256].copy())
        with torch.no_grad():
            model.forward_kld(dequantize(first))  # the first pass initialises the actnorms
    else:
        assert isinstance(shape, GlowConfig)
        model = Glow(shape)
        initialize(model, splits.train, seed)
    return Runner(name, model, config, time.perf_counter() - started)


def race(splits: Splits, configs: dict[str, TrainConfig], given: argparse.Namespace) -> list[Any]:
    """Let all contenders train in turns, for each seed; one row a contender and seed."""
    rows = []
    held_out = test_images(splits.test, given.images)
    for seed in range(given.seeds):
        runners = [start(name, config, splits, seed) for name, config in configs.items()]
        starts = [runner.check(held_out) for runner in runners]
        for check in given.at:
            for until in np.append(np.arange(SLICE, check, SLICE), check):
                for runner in runners:
                    runner.train(splits.train, float(until), seed)
            for runner in runners:
                runner.checks.append(runner.check(held_out))
                print(f"seed {seed}, {runner.name}: {runner.checks[-1]}", file=sys.stderr)
        rows += [
            {
                "contender": r.name,
                "seed": seed,
                "first_map": r.config.model.first_map,
                "start": begun,
                "checks": r.checks,
            }
            for r, begun in zip(runners, starts, strict=True)
        ]
    return rows


def test_images(data: ImageData, count: int) -> Tensor:
    """The first images; of squares as many from everywhere, as neighbours are of one photograph."""
    if data.patches is None:
        return torch.from_numpy(data.images[:count].copy())
    everywhere = np.linspace(0, len(data) - 1, min(count, len(data))).astype(np.int64)
    return torch.from_numpy(data.images[everywhere])


def table(rows: list[Any], given: argparse.Namespace, splits: Splits, unit: float) -> str:
    """The figures as Markdown."""
    names = list(dict.fromkeys(row["contender"] for row in rows))
    heads = " | ".join(f"{at:g} s" for at in given.at)
    has_peer = PEER in names
    lines = [
        f"# Speedrun: {splits.source}",
        "",
        f"Bits/dim of {min(given.images, len(splits.test)):,} test images after so many training "
        f"seconds, mean of {given.seeds} seeds ± standard error, one noise draw an image.",
        "",
        f"| | first map | start |{PEERS_COLUMN if has_peer else ''} {heads} | images |",
        "|---|---|" + "---:|" * (len(given.at) + 2 + has_peer),
    ]
    goals = {row["seed"]: row["checks"][-1][2] for row in rows if row["contender"] == PEER}
    for name in names:
        of_name = [row for row in rows if row["contender"] == name]
        cells = [reached(of_name, goals)] if goals else []
        for i in range(len(given.at)):
            bits = [row["checks"][i][2] for row in of_name]
            error = statistics.stdev(bits) / math.sqrt(len(bits)) if len(bits) > 1 else math.nan
            cells.append(f"{statistics.mean(bits):.3f} ± {error:.3f}")
        images = statistics.mean(row["checks"][-1][1] for row in of_name)
        map_name = of_name[0]["first_map"]
        seconds, at_start = (statistics.mean(row["start"][i] for row in of_name) for i in (0, 2))
        begins = f"{at_start:.3f} after {seconds:.0f} s"
        lines.append(f"| {name} | {map_name} | {begins} | {' | '.join(cells)} | {images:,.0f} |")
    device = describe(torch.device("cpu"))
    but = ""
    if given.fit == "patches":
        squares = starting_config("", patches=True).model
        but = f", {squares.steps} and {squares.hidden_channels} in the defaults of squares"
    foot = [
        "",
        f"{device.name}, {torch.get_num_threads()} thread; all contenders in one process, "
        f"{SLICE:g} s each in turns, so that what else the machine does falls on all. "
        "Seconds are those of training, the fit of a first map and the initialisation among them, "
        f"validation not. 3 levels of {given.steps} steps, 128 hidden channels{but}. The official "
        f"recipe: sigmoid scale, Adamax at 1e-3 after a warm-up over {OFFICIAL_WARMUP:,} images, "
        "batches of 64, no average. The defaults decay to the last second of the table, so that "
        "their earlier columns are of an unfinished schedule.",
    ]
    if BEST in names:
        foot += ["", f"{BEST.capitalize()}: the defaults with `{given.best}`."]
    if unit != 1.0:
        foot += [
            "",
            f"A dimension is a value of the padded frame; per source value times {unit:.4f}.",
        ]
    return "\n".join(lines + foot) + "\n"


def reached(rows: list[Any], goals: dict[int, float]) -> str:
    """Seconds of the first check at or below what the peer had at the end, seed by seed."""
    firsts = [
        next(
            (s for s, _, bits in (row["start"], *row["checks"]) if bits <= goals[row["seed"]]), None
        )
        for row in rows
    ]
    if None in firsts:
        return "–"
    return f"{statistics.mean(second for second in firsts if second is not None):.0f} s"


def main(arguments: Sequence[str]) -> int:
    """Race, print the table, write it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks speedrun", description=__doc__)
    parser.add_argument("--data", default="faces", help="as `glow train` takes it (faces)")
    parser.add_argument("--size", type=int, default=32, help="pixels (32)")
    parser.add_argument("--fit", default="crop", choices=("crop", "stretch", "pad", "patches"))
    parser.add_argument("--held-out", type=float, default=0.1, help="of a folder (0.1)")
    parser.add_argument("--best", help="options of `glow train`, quoted: one more contender")
    parser.add_argument(
        "--at", type=float, nargs="+", default=[15.0, 60.0, 180.0], help="seconds of the checks"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="K: steps of flow per level (8)")
    parser.add_argument("--images", type=int, default=500, help="test images (500)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="folder")
    given = parser.parse_args(arguments)
    given.at = sorted(given.at)
    torch.set_num_threads(given.threads)
    try:
        require_writable(given.out)
        size = (given.size, given.size)
        data = DataConfig(data=given.data, size=size, fit=given.fit, held_out=given.held_out)
        splits = open_splits(data)
        configs = recipes(data, given.at[-1] / 60, given.steps, given.best)
        if find_spec("normflows") is None:
            print("normflows is not installed, so it does not take part.", file=sys.stderr)
            del configs[PEER]
        rows = race(splits, configs, given)
        text = table(rows, given, splits, _per_source_value(splits))
        name = f"speedrun-{splits.dataset or Path(given.data).stem}"
        write_text(given.out / f"{name}.md", text)
        facts = {"settings": {k: str(v) for k, v in vars(given).items()}, "runs": rows}
        facts["recipes"] = {name: asdict(config) for name, config in configs.items()}
        write_text(given.out / f"{name}.json", json.dumps(facts, indent=1, default=str) + "\n")
    except GlowflowError as error:
        print(error, file=sys.stderr)
        return 2
    print(text)
    return 0


def _per_source_value(splits: Splits) -> float:
    """Values of the model's frame for each value of the source, on average."""
    inside = splits.test.values_inside
    if inside is None:
        return 1.0
    return math.prod(splits.test.image_shape) / float(np.mean(inside))
