"""Fields a second: log p(x | y) and draws for one observation, beside FrEIA and normflows.

`python -m benchmarks.science.throughput` builds a conditional Glow, FrEIA's nearest (its
`AllInOneBlock`s with convolutions that see feature maps), and unconditional ones here and in
normflows, all of as many levels, steps and hidden channels; what is not installed is left out.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glowflow import Condition, ConditionalGlow, ConditionalGlowConfig, Glow, GlowConfig
from glowflow.studies.page import Section, Table

from .report import leave

SIZE, LEVELS, STEPS, HIDDEN, FEATURES = 32, 3, 8, 64, 32
BATCH, ROUNDS = 64, 7
SHAPE = {
    "image_shape": (1, SIZE, SIZE), "levels": LEVELS, "steps": STEPS, "hidden_channels": HIDDEN,
    "bits": None, "coupling_scale": "bounded",
}  # fmt: skip
Task = Callable[[], Any]


def ours() -> dict[str, Task]:
    """A conditional Glow and an unconditional one."""
    torch.manual_seed(0)
    y, x = torch.randn(1, 1, SIZE, SIZE), torch.randn(BATCH, 1, SIZE, SIZE)
    config = ConditionalGlowConfig(
        **SHAPE,
        condition_channels=FEATURES,
        conditions=(Condition(name="y", kind="field", shape=(1, SIZE, SIZE)),),
    )
    given = ConditionalGlow(config)
    given.initialize(x, labels={"y": torch.randn(BATCH, 1, SIZE, SIZE)})
    alone = Glow(GlowConfig(**SHAPE))
    alone.initialize(x)
    many = torch.randn(BATCH, 1, SIZE, SIZE)
    return {
        "log p(x) given y, glowflow": lambda: given.eval().log_prob(x, {"y": many}),
        "draws given one y, glowflow": lambda: given.eval().given({"y": y}).sample((BATCH,)),
        "log p(x), glowflow": lambda: alone.eval().log_prob(x),
        "draws, glowflow": lambda: alone.eval().sample(BATCH),
    }


def freia() -> dict[str, Task]:
    """A graph of FrEIA with the same levels, steps and widths; its maps come from convolutions."""
    import FrEIA.framework as Ff
    import FrEIA.modules as Fm

    def network(channels_in: int, channels_out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels_in, HIDDEN, 3, padding=1), nn.ReLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 1), nn.ReLU(),
            nn.Conv2d(HIDDEN, channels_out, 3, padding=1),
        )  # fmt: skip

    torch.manual_seed(0)
    nodes: list[Any] = [Ff.InputNode(1, SIZE, SIZE)]
    conditions, outputs, last = [], [], None
    for level in range(LEVELS):
        side = SIZE // 2 ** (level + 1)
        conditions.append(Ff.ConditionNode(FEATURES, side, side))
        nodes.append(Ff.Node(last or nodes[-1], Fm.IRevNetDownsampling, {}))
        for _ in range(STEPS):
            arguments = {"subnet_constructor": network, "permute_soft": False}
            nodes.append(Ff.Node(nodes[-1], Fm.AllInOneBlock, arguments, conditions=conditions[-1]))
        if level < LEVELS - 1:
            nodes.append(Ff.Node(nodes[-1], Fm.Split, {}))
            outputs.append(Ff.OutputNode(nodes[-1].out1))
            last = nodes[-1].out0
    outputs.append(Ff.OutputNode(nodes[-1]))
    model = Ff.GraphINN(nodes + conditions + outputs).eval()
    encoder = nn.ModuleList(
        nn.Conv2d(1 if level == 0 else FEATURES, FEATURES, 3, stride=2, padding=1)
        for level in range(LEVELS)
    )

    def maps(y: Tensor) -> list[Tensor]:
        found = []
        for layer in encoder:
            y = layer(y).relu()
            found.append(y)
        return found

    x, many = torch.randn(2, BATCH, 1, SIZE, SIZE)
    one = torch.randn(1, 1, SIZE, SIZE)
    shapes = [tuple(each) for each in model.global_out_shapes]

    def log_prob() -> Tensor:
        z, log_det = model(x, c=maps(many))
        return log_det - 0.5 * sum((each**2).flatten(1).sum(1) for each in z)

    def sample() -> Tensor:
        c = [each.expand(BATCH, -1, -1, -1) for each in maps(one)]
        return model([torch.randn(BATCH, *shape) for shape in shapes], c=c, rev=True)[0]

    return {"log p(x) given y, FrEIA": log_prob, "draws given one y, FrEIA": sample}


def normflows() -> dict[str, Task]:
    """normflows' Glow, which takes no fields as conditions."""
    import normflows as nf

    torch.manual_seed(0)
    channels, side = 1, SIZE
    bases, merges, flows = [], [], []
    for level in range(LEVELS):
        channels, side = 4 * channels, side // 2
        steps = [
            nf.flows.GlowBlock(channels, HIDDEN, split_mode="channel", scale=True)
            for _ in range(STEPS)
        ]
        flows.insert(0, [*steps, nf.flows.Squeeze()])
        if level < LEVELS - 1:
            merges.insert(0, nf.flows.Merge())
            channels //= 2
        bases.insert(0, nf.distributions.DiagGaussian((channels, side, side)))
    model = nf.MultiscaleFlow(bases, flows, merges).eval()
    x = torch.randn(BATCH, 1, SIZE, SIZE)
    model.log_prob(x, None)
    return {
        "log p(x), normflows": lambda: model.log_prob(x, None),
        "draws, normflows": lambda: model.sample(BATCH),
    }


@torch.no_grad()
def main() -> None:
    """Time, interleaved, and write docs/results/throughput-fields."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    tasks = dict(ours())
    left_out = []
    for build in (freia, normflows):
        try:
            tasks.update(build())
        except ImportError:
            left_out.append(build.__name__)
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(given.rounds):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    rows, facts = [], {}
    for name, times in sorted(seconds.items(), key=lambda each: each[0].rpartition(", ")[0]):
        what, _, who = name.rpartition(", ")
        own = seconds[f"{what}, glowflow"]
        ratios = sorted(theirs / mine for theirs, mine in zip(times, own, strict=True))
        rate = BATCH / statistics.median(times)
        facts[name] = {"fields_a_second": rate, "ratios": ratios}
        by_ours = "" if who == "glowflow" else (
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )  # fmt: skip
        rows.append([what, who, f"{rate:,.0f}", by_ours])
    note = f" Not installed, and left out: {', '.join(left_out)}." if left_out else ""
    leave(
        "throughput-fields",
        "Fields a second",
        [
            f"Fields of {SIZE}x{SIZE}, {LEVELS} levels of {STEPS} steps, {HIDDEN} hidden channels, "
            f"batches of {BATCH}, float32; `python -m benchmarks.science.throughput`, medians of "
            f"{given.rounds} interleaved rounds. Their time ÷ ours, smallest and largest of a "
            "round in brackets. FrEIA's steps permute by a fixed matrix and have no prior that "
            f"sees what stays; normflows takes no fields as conditions.{note}"
        ],
        [Section(table=Table(["", "", "fields/s", "time ÷ ours"], rows))],
        facts,
        given.out,
    )


if __name__ == "__main__":
    main()
