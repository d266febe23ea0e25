"""What was measured, the ratios that have targets, and the files: JSON, Markdown, a plot."""

import io
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from glowflow.files import replacing, write_text
from glowflow.studies.summary import compact_json

from .contenders import BARE_FORMATS, NORMFLOWS, Setting, ours
from .device import Device

STANDARD = Setting()
"""The setting that the targets are for."""
FLOAT32 = ours("float32-stored")
REVERSIBLE = ours("float32-reversible")
BF16 = ours("bf16-stored")
BF16_REVERSIBLE = ours("bf16-reversible")
COMPILED = ours("float32-compile")
BF16_COMPILED = ours("bf16-compile")
MISSING = "—"


@dataclass(frozen=True)
class Timing:
    """Seconds of one measure of one contender at one depth, round by round."""

    contender: str
    steps: int
    measure: str
    seconds: tuple[float, ...]
    warm_up: float
    """Seconds of the round before, in which libraries initialise and graphs are compiled."""

    @property
    def median(self) -> float:
        """Of the rounds, without the warm-up."""
        return statistics.median(self.seconds)

    def spread(self) -> dict[str, Any]:
        """Median and spread of the rounds."""
        return {
            "contender": self.contender,
            "steps": self.steps,
            "measure": self.measure,
            "rounds": len(self.seconds),
            "median": self.median,
            "lowest": min(self.seconds),
            "highest": max(self.seconds),
            "warm_up": self.warm_up,
        }


@dataclass(frozen=True)
class Memory:
    """Peak of a training step beyond parameters, gradients and optimiser state."""

    contender: str
    steps: int
    peak_bytes: int | None
    """None where the system does not say."""


@dataclass(frozen=True)
class Target:
    """What a ratio has to be."""

    value: float
    at_least: bool = True
    """Otherwise at most."""

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:.2f}"

    def met(self, ratio: float) -> bool:
        """Whether this ratio is on the right side."""
        return ratio >= self.value if self.at_least else ratio <= self.value


@dataclass(frozen=True)
class Ratio:
    """One row of the table: a ratio at each depth, and the target it is held against."""

    name: str
    values: dict[int, float]
    """By K; a ratio of two depths stands at the larger one."""
    target: Target | None = None
    judged_at: int | None = None
    """The K that the target is for; None for every K."""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none or nothing to judge."""
        judged = [v for k, v in self.values.items() if self.judged_at in (None, k)]
        if self.target is None or not judged:
            return None
        return all(self.target.met(value) for value in judged)


@dataclass(frozen=True)
class Table:
    """Cells to be printed or written."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """A heading and a table."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return f"## {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Report:
    """Everything that one run measured."""

    device: Device
    setting: Setting
    steps: tuple[int, ...]
    """Each K that was measured, smallest first."""
    timings: list[Timing] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """A line for each contender that could not take part."""

    def timing(self, contender: str, steps: int, measure: str) -> Timing | None:
        """The rounds of a contender; of `bare float32` or `bare bf16`, those of the faster layout.

        None where it was not measured.
        """
        names = {contender, *(f"{contender} {layout}" for layout in BARE_FORMATS)}
        found = [
            timing
            for timing in self.timings
            if timing.contender in names and (timing.steps, timing.measure) == (steps, measure)
        ]
        return min(found, key=lambda timing: timing.median, default=None)

    def fastest(self, names: Sequence[str], steps: int) -> list[str]:
        """Those of `names` that were timed at this K, of each bare pair the faster in training."""
        found = []
        for name in names:
            family = " ".join(name.split(" ")[:2]) if name.startswith("bare") else name
            timing = self.timing(family, steps, "train")
            if timing is not None and timing.contender == name:
                found.append(name)
        return found

    def peak(self, contender: str, steps: int) -> int | None:
        """Peak memory in bytes; None where it was not measured."""
        names = {contender, *(f"{contender} {layout}" for layout in BARE_FORMATS)}
        found = [m for m in self.memory if m.contender in names and m.steps == steps]
        return found[0].peak_bytes if found else None

    def speed(
        self, over: str, under: str, measure: str, under_measure: str | None = None
    ) -> dict[int, float]:
        """images/s of `over` / images/s of `under`, by K: medians of the rounds' ratios."""
        values = {}
        for steps in self.steps:
            a = self.timing(over, steps, measure)
            b = self.timing(under, steps, under_measure or measure)
            if a is not None and b is not None:
                values[steps] = speed_ratio(a.seconds, b.seconds)
        return values

    def memory_ratio(self, over: str, under: str) -> dict[int, float]:
        """Peak memory of `over` / that of `under`, by K."""
        peaks = {k: (self.peak(over, k), self.peak(under, k)) for k in self.steps}
        return {k: a / b for k, (a, b) in peaks.items() if a is not None and b}

    def growth_of_time(self, contender: str) -> dict[int, float]:
        """Median time of a training step at the largest K / at the smallest."""
        a, b = (self.timing(contender, k, "train") for k in (self.steps[-1], self.steps[0]))
        if a is None or b is None or a is b:
            return {}
        return {self.steps[-1]: a.median / b.median}

    def growth_of_memory(self, contender: str) -> dict[int, float]:
        """Peak memory at the largest K / at the smallest."""
        low, high = self.steps[0], self.steps[-1]
        a, b = self.peak(contender, high), self.peak(contender, low)
        return {high: a / b} if low != high and a is not None and b else {}

    def ratios(self) -> list[Ratio]:
        """The ratios that have targets, then others of interest that could be measured."""
        low, high = self.steps[0], self.steps[-1]
        depths = f"K={high} / K={low}"
        standard = self.setting == STANDARD

        def target(value: float, *, at_least: bool = True, judged: bool = True) -> Target | None:
            return Target(value, at_least) if standard and judged else None

        with_targets = [
            Ratio(
                "training images/s, float32, stored / bare nets in float32",
                self.speed(FLOAT32, "bare float32", "train"),
                target(0.93),
                judged_at=8,
            ),
            Ratio(
                "training images/s, bf16 / normflows float32",
                self.speed(BF16, NORMFLOWS, "train"),
                target(2.0),
            ),
            Ratio(
                "training images/s, reversible / stored",
                self.speed(REVERSIBLE, FLOAT32, "train"),
                target(0.70),
            ),
            Ratio(
                f"peak memory: reversible {depths}",
                self.growth_of_memory(REVERSIBLE),
                target(1.10, at_least=False, judged=(low, high) == (4, 32)),
            ),
            Ratio(
                "peak memory: reversible / normflows",
                self.memory_ratio(REVERSIBLE, NORMFLOWS),
                target(0.15, at_least=False),
                judged_at=32,
            ),
            Ratio(
                "sampling images/s / bare nets forward only",
                self.speed(FLOAT32, "bare float32", "sample", "forward"),
                target(0.93),
            ),
            Ratio(
                f"time a step, {depths}",
                self.growth_of_time(FLOAT32),
                target(8.2, at_least=False, judged=(low, high) == (4, 32)),
            ),
        ]
        others = [
            Ratio(
                "training images/s, float32 / normflows", self.speed(FLOAT32, NORMFLOWS, "train")
            ),
            Ratio(
                "training with optimiser images/s, float32 / normflows",
                self.speed(FLOAT32, NORMFLOWS, "train+optimizer"),
            ),
            Ratio(
                "forward-only images/s, float32 / bare nets forward only",
                self.speed(FLOAT32, "bare float32", "forward"),
            ),
            Ratio(
                "sampling images/s, float32 / normflows", self.speed(FLOAT32, NORMFLOWS, "sample")
            ),
            Ratio(
                "training images/s, bf16, stored / bare nets in bf16",
                self.speed(BF16, "bare bf16", "train"),
            ),
            Ratio(
                "training images/s, bf16, reversible / stored",
                self.speed(BF16_REVERSIBLE, BF16, "train"),
            ),
            Ratio(
                "training images/s, float32, compiled / stored",
                self.speed(COMPILED, FLOAT32, "train"),
            ),
            Ratio(
                "training images/s, bf16, compiled / stored",
                self.speed(BF16_COMPILED, BF16, "train"),
            ),
            Ratio("peak memory: reversible / stored", self.memory_ratio(REVERSIBLE, FLOAT32)),
            Ratio(f"time a step, reversible, {depths}", self.growth_of_time(REVERSIBLE)),
        ]
        return with_targets + [ratio for ratio in others if ratio.values]

    def contenders(self) -> list[str]:
        """Everyone who was timed, in the order of the first depth."""
        return list(dict.fromkeys(timing.contender for timing in self.timings))

    def tables(self) -> list[Table]:
        """The ratios, then the figures of each depth."""
        header = ["ratio", "target", *(f"K={k}" for k in self.steps), "met"]
        rows = [
            [
                ratio.name,
                MISSING if ratio.target is None else _target_cell(ratio),
                *(_number(ratio.values.get(k)) for k in self.steps),
                {True: "yes", False: "no", None: MISSING}[ratio.met],
            ]
            for ratio in self.ratios()
        ]
        return [Table("Ratios", header, rows), *(self._figures(k) for k in self.steps)]

    def _figures(self, steps: int) -> Table:
        def images_per_second(name: str, measure: str) -> str:
            timing = self.timing(name, steps, measure)
            return MISSING if timing is None else _number(self.setting.batch / timing.median)

        def milliseconds(name: str, measure: str) -> str:
            timing = self.timing(name, steps, measure)
            return MISSING if timing is None else _number(1000 * timing.median)

        rows = []
        for name in self.contenders():
            peak = self.peak(name, steps)
            rows.append(
                [
                    name,
                    *(
                        images_per_second(name, measure)
                        for measure in ("train", "train+optimizer", "forward", "sample")
                    ),
                    milliseconds(name, "sample one"),
                    milliseconds(name, "encode one"),
                    MISSING if peak is None else _number(peak / 2**20),
                ]
            )
        header = [
            f"K={steps}",
            "training images/s",
            "with Adamax",
            "forward-only images/s",
            "sampling images/s",
            "one sampled, ms",
            "one encoded, ms",
            "peak memory, MiB",
        ]
        return Table(f"K = {steps}", header, rows)

    def summary(self) -> list[str]:
        """The device and the setting, in two lines, and who could not take part."""
        setting = self.setting
        rounds = len(self.timings[0].seconds) if self.timings else 0
        return [
            str(self.device),
            f"{setting.size}x{setting.size}x3, {setting.levels} levels, {setting.hidden} hidden "
            f"channels, batches of {setting.batch}; medians of interleaved rounds: {rounds}.",
            *(f"Not measured: {line}" for line in self.skipped),
        ]

    def markdown(self) -> str:
        """The page: device, setting, tables, and what the figures mean."""
        device, *others = self.summary()
        parts = [f"# Benchmark: {self.device.name}", device, *others]
        parts += [table.markdown() for table in self.tables()]
        parts += [f"![images/s and peak memory against K]({self._name}.png)", NOTES]
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Everything but each round's seconds, with the ratios."""
        return {
            "device": asdict(self.device),
            "setting": asdict(self.setting),
            "steps": list(self.steps),
            "skipped": self.skipped,
            "ratios": [
                {
                    "name": ratio.name,
                    "target": None if ratio.target is None else _target_cell(ratio),
                    "values": {str(k): value for k, value in ratio.values.items()},
                    "met": ratio.met,
                }
                for ratio in self.ratios()
            ],
            "timings": [timing.spread() for timing in self.timings],
            "memory": [asdict(memory) for memory in self.memory],
        }

    def write(self, folder: Path) -> list[Path]:
        """Write benchmark-DEVICE.json, .md and .png into `folder`, each whole or not at all.

        Each round's seconds are in rounds-DEVICE.json.

        Raises:
            InputError: the folder cannot be written.
        """
        data, page, picture = (folder / f"{self._name}.{end}" for end in ("json", "md", "png"))
        rounds = folder / f"rounds-{slug(self.device.name)}.json"
        write_text(rounds, compact_json([asdict(timing) for timing in self.timings]) + "\n")
        write_text(data, compact_json(self.to_dict()) + "\n")
        write_text(page, self.markdown())
        with replacing(picture) as path:
            path.write_bytes(plot(self))
        return [data, page, picture]

    @property
    def _name(self) -> str:
        return f"benchmark-{slug(self.device.name)}"


NOTES = """## What is measured

- bare: the 3x3, 1x1 and 3x3 convolutions of every coupling network, nothing else, each step
  differentiated at once; ratios take the faster of two memory formats.
- training: zero the gradients, −log p(x) of a batch, backward; `with Adamax` adds the optimiser.
- forward-only: log p(x) without gradients; sampling: as many images as a batch has.
- ratios of speeds are medians of the rounds' ratios; a round is one turn of every contender.
- peak memory: of two training steps in a fresh process, beyond parameters, gradients and the
  optimiser's state; PyTorch's allocations on a GPU, on a processor the resident set, with glibc
  set to give back what is freed (by default it keeps some of it, the more the deeper the model)."""


def speed_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """How many times faster `over` is: median over rounds of seconds of `under` / of `over`."""
    return statistics.median(b / a for a, b in zip(over, under, strict=True))


def slug(name: str) -> str:
    """A name of letters, digits and hyphens, for a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unknown"


def plot(report: Report) -> bytes:
    """PNG: training and sampling images/s, and peak memory, against K."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    training, sampling, memory = figure.subplots(1, 3)
    names = report.contenders()
    for number, name in enumerate(names):
        style: dict[str, Any] = {
            "color": f"C{number}",
            "marker": "o",
            "linestyle": "--" if name.startswith("bare") else "-",
            "label": name,
        }
        for axes, measure in ((training, "train"), (sampling, "sample")):
            timings = [(k, report.timing(name, k, measure)) for k in report.steps]
            points = [(k, report.setting.batch / t.median) for k, t in timings if t is not None]
            if points:
                axes.plot(*zip(*points, strict=True), **style)
        peaks = [(k, report.peak(name, k)) for k in report.steps]
        if sizes := [(k, peak / 2**20) for k, peak in peaks if peak]:
            memory.plot(*zip(*sizes, strict=True), **style)
    for axes, title in (
        (training, "training, images/s"),
        (sampling, "sampling, images/s"),
        (memory, "peak memory of a training step, MiB"),
    ):
        axes.set_title(title)
        axes.set_xlabel("K, steps a level")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(report.steps, [str(k) for k in report.steps])
        axes.grid(alpha=0.3, which="both")
    handles, labels = training.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(report.device.name)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _target_cell(ratio: Ratio) -> str:
    return f"{ratio.target} at K={ratio.judged_at}" if ratio.judged_at else str(ratio.target)


def _number(value: float | None) -> str:
    """Three significant digits, and all digits before the point."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
