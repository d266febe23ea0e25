"""What `glow plan` estimates against what is measured: memory and seconds of a training step.

python -m benchmarks.plan [--hidden 128 512] [--steps 4 8] [--batch 16] [--rounds 3]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from glowflow import Glow, GlowConfig
from glowflow.files import require_writable, write_text
from glowflow.models.config import Memory
from glowflow.planning.fake_model import MODES
from glowflow.planning.memory import step_memory
from glowflow.planning.speed import measured_speed, step_seconds
from glowflow.studies.summary import compact_json
from glowflow.training.config import TrainConfig
from glowflow.training.objective import Objective
from glowflow.training.optimisation import make_average, make_optimizer

from .__main__ import WIDTH, positive, progress, rich_table
from .contenders import Setting, ours, random_images
from .device import describe
from .measure import ROOT, peak_memory_in_a_process
from .results import MISSING, Table, slug

CPU = torch.device("cpu")
LEVELS = {32: 3, 64: 4}
"""By image size, as the published runs have them."""
STEPS = {32: (4, 8, 16), 64: (4,)}
"""K, by image size."""


@dataclass(frozen=True)
class Comparison:
    """One shape in one memory mode; ratios are measured / estimated."""

    setting: Setting
    steps: int
    memory: Memory
    estimated_bytes: int
    resident_bytes: int | None
    """Rise of the resident set of a process of its own, libraries' scratch memory included."""
    allocated_bytes: int = 0
    """What PyTorch has allocated at once at most."""
    estimated_seconds: list[float] = field(default_factory=list)
    """Of each round, by a calibration just before the measurement; seconds of one thread's work, so
    that other programs do not count."""
    measured_seconds: list[float] = field(default_factory=list)

    @property
    def allocated_ratio(self) -> float:
        """Of what PyTorch allocates."""
        return self.allocated_bytes / self.estimated_bytes

    @property
    def resident_ratio(self) -> float | None:
        """Of the resident set; None where the system does not say."""
        return None if self.resident_bytes is None else self.resident_bytes / self.estimated_bytes

    @property
    def time_ratio(self) -> float | None:
        """Median of the rounds' ratios; None without rounds."""
        pairs = zip(self.measured_seconds, self.estimated_seconds, strict=True)
        ratios = [measured / estimated for measured, estimated in pairs]
        return statistics.median(ratios) if ratios else None


def main() -> None:
    """Compare every shape, print the ratios, and write a JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--sizes", type=int, choices=LEVELS, nargs="+", default=list(LEVELS))
    parser.add_argument("--hidden", type=positive, nargs="+", default=[128, 512])
    parser.add_argument("--steps", type=positive, nargs="+", metavar="K")
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="of timing; 0 for memory alone")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    require_writable(given.out)
    facts = describe(CPU)
    shapes = [
        (Setting(size=size, levels=LEVELS[size], hidden=hidden, batch=given.batch), steps)
        for size in given.sizes
        for hidden in given.hidden
        for steps in given.steps or STEPS[size]
    ]
    comparisons: list[Comparison] = []
    with progress(2 * len(shapes)) as note:
        for setting, steps in shapes:
            comparisons += compare(setting, steps, given.rounds, note)
    console = Console()
    console.width = max(console.width, WIDTH)
    console.print(str(facts), markup=False)
    console.print(rich_table(table(comparisons)))
    page = {"device": asdict(facts), "comparisons": [to_dict(each) for each in comparisons]}
    target = given.out / f"plan-{slug(facts.name)}.json"
    write_text(target, compact_json(page) + "\n")
    print(f"Written: {target}")


def compare(
    setting: Setting, steps: int, rounds: int, note: Callable[[str], None]
) -> list[Comparison]:
    """Memory in a process of its own and here; rounds of calibration and step, mode after mode."""
    config = GlowConfig(
        image_shape=(3, setting.size, setting.size),
        levels=setting.levels,
        steps=steps,
        hidden_channels=setting.hidden,
    )
    train = TrainConfig(batch_size=setting.batch)
    model, x = model_and_batch(config, setting)
    step = training_step(model, x, train)
    comparisons = []
    for memory in MODES:
        estimated = step_memory(config, setting.batch, memory, processor=True).peak
        name = ours(f"float32-{memory}")
        resident = peak_memory_in_a_process(name, setting, steps, CPU)
        step(memory)
        allocated = peak_allocated(lambda: torch.autograd.backward(-model.log_prob(x).mean()))
        comparisons.append(Comparison(setting, steps, memory, estimated, resident, allocated))
    for _ in range(rounds):
        for each in comparisons:
            speed = measured_speed(
                config, train, setting.batch, "cpu", "float32", clock=time.process_time
            )
            estimate = step_seconds(config, setting.batch, each.memory, speed)
            each.estimated_seconds.append(estimate)
            each.measured_seconds.append(step(each.memory))
    for each in comparisons:
        note(
            f"{setting.size}x{setting.size} H={setting.hidden} K={steps} {each.memory}: "
            f"allocated {_ratio(each.allocated_ratio)}, resident {_ratio(each.resident_ratio)}, "
            f"time {_ratio(each.time_ratio)}"
        )
    return comparisons


def model_and_batch(config: GlowConfig, setting: Setting) -> tuple[Glow, Tensor]:
    """An initialised model and a batch for it."""
    model = Glow(config)
    images = random_images(replace(setting, batch=max(setting.batch, 16)))
    model.initialize(images)
    return model, model.to_float(images[: setting.batch])


def peak_allocated(call: Callable[[], None]) -> int:
    """The largest number of bytes that PyTorch has allocated at once while `call` runs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    events = profiled.profiler.kineto_results.events()
    of_memory = [event for event in events if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(of_memory, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def training_step(model: Glow, x: Tensor, train: TrainConfig) -> Callable[[Memory], float]:
    """A call that trains on the batch, as `glowflow.training` does, and gives its seconds."""
    objective = Objective(model)
    optimizer = make_optimizer(model, train.optimizer, train.lr)
    average = make_average(model, train.ema)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # all the work, and the weights stay as they are

    def step(memory: Memory) -> float:
        model.use(memory=memory)
        start = time.process_time()
        loss, _ = objective(x)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip)
        optimizer.step()
        average.update_parameters(model)
        return time.process_time() - start

    return step


def table(comparisons: list[Comparison]) -> Table:
    """A row a shape and mode."""
    header = [
        "shape",
        "memory",
        "estimated, MiB",
        "allocated",
        "ratio",
        "resident",
        "ratio",
        "estimated, s",
        "measured",
        "ratio",
    ]
    rows = []
    for each in comparisons:
        rows.append(
            [
                f"{each.setting.size}px H={each.setting.hidden} K={each.steps}",
                each.memory,
                *map(_mebibytes, (each.estimated_bytes, each.allocated_bytes)),
                _ratio(each.allocated_ratio),
                _mebibytes(each.resident_bytes),
                _ratio(each.resident_ratio),
                *(
                    f"{statistics.median(seconds):.3g}" if seconds else MISSING
                    for seconds in (each.estimated_seconds, each.measured_seconds)
                ),
                _ratio(each.time_ratio),
            ]
        )
    return Table("Measured / estimated", header, rows)


def to_dict(each: Comparison) -> dict[str, Any]:
    """What was measured, medians over rounds, and the ratios."""
    seconds = {
        "estimated_seconds": each.estimated_seconds,
        "measured_seconds": each.measured_seconds,
    }
    return {
        **asdict(each),
        **{name: statistics.median(values) if values else None for name, values in seconds.items()},
        "rounds": len(each.measured_seconds),
        "allocated_ratio": each.allocated_ratio,
        "resident_ratio": each.resident_ratio,
        "time_ratio": each.time_ratio,
    }


def _mebibytes(count: int | None) -> str:
    return MISSING if count is None else f"{count / 2**20:,.1f}"


def _ratio(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
