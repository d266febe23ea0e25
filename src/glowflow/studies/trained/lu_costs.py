"""What an invertible 1x1 convolution costs, in LU form and plain, at many numbers of channels."""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...bijections import Invertible1x1Conv, PlainInvertible1x1Conv
from ...bijections.linear import mix
from ...errors import CheckpointError
from ...files import write_text
from ...models.config import PermutationName
from ...progress import with_bar
from ..provenance import hardware

KINDS: dict[PermutationName, type[Invertible1x1Conv] | type[PlainInvertible1x1Conv]] = {
    "lu": Invertible1x1Conv,
    "plain": PlainInvertible1x1Conv,
}
COSTS_FILE = "costs.json"
TURN = 2e-3
"""Seconds of a turn, at least: what is faster is called several times."""

Costs = Mapping[str, Mapping[str, Sequence[float]]]
"""Seconds of each cost, of each kind, at each width."""


@dataclass(frozen=True)
class Timings:
    """What was timed on what."""

    hardware: str
    widths: tuple[int, ...]
    seconds: Costs


def timings(
    folder: Path,
    widths: Sequence[int],
    *,
    images: int,
    size: int,
    rounds: int,
    device: str,
    seed: int = 0,
    progress: bool = True,
) -> Timings:
    """Time both kinds at every width, or read what `folder` has of it.

    Args:
        folder: gets costs.json.
        widths: numbers of channels.
        images: of the convolution that is timed.
        size: height and width of the images, in pixels.
        rounds: turns of each kind, one after the other; the median counts.
        device: `cpu`, `cuda`, …
        seed: of the weights and the images.
        progress: show a bar.

    Raises:
        CheckpointError: costs.json is damaged.
        InputError: the folder cannot be written.
    """
    path = folder / COSTS_FILE
    if path.is_file():
        return _read(path)
    widths = tuple(sorted(widths))
    costs: dict[str, dict[str, list[float]]] = {}
    for width in with_bar(widths, "timing", visible=progress):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            calls = {kind: calls_of(kind, width, images, size, device) for kind in KINDS}
        for name in calls["lu"]:
            taken = interleaved({k: calls[k][name] for k in KINDS}, rounds, device)
            for kind, seconds in taken.items():
                costs.setdefault(name, {}).setdefault(kind, []).append(seconds)
    timed = Timings(hardware(device), widths, costs)
    write_text(path, json.dumps(asdict(timed)) + "\n")
    return timed


def _read(path: Path) -> Timings:
    try:
        timed = Timings(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"Cannot read {path}: it is damaged; delete it, and the costs are timed again."
        ) from error
    return replace(timed, widths=tuple(timed.widths))


def calls_of(
    kind: PermutationName, width: int, images: int, size: int, device: str
) -> dict[str, Callable[[], object]]:
    """What is timed, by name, of one convolution of `width` channels."""
    made: Any = KINDS[kind]
    mixing = made(width).to(device)
    x = torch.randn(images, width, size, size, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    weights = [x, *mixing.parameters()]

    def forward() -> tuple[Tensor, Tensor]:
        return mix(x, made.matrices([mixing])[0]), made.log_abs_dets([mixing])[0]

    def training() -> object:
        y, log_det = forward()
        return torch.autograd.grad(y.square().mean() - log_det, weights)

    def inverse() -> Tensor:
        return mix(x, made.inverse_matrices([mixing])[0].to(x.dtype))

    without = torch.no_grad()
    return {
        "log-det": without(lambda: made.log_abs_dets([mixing])),
        "matrix": without(lambda: made.matrices([mixing])),
        "forward": without(forward),
        "training": training,
        "inverse": without(inverse),
    }


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: str
) -> dict[str, float]:
    """Seconds of one call of each: the median of `rounds` turns, in which each has its own."""

    def seconds(call: Callable[[], object], times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            call()
        if torch.device(device).type != "cpu":
            torch.accelerator.synchronize()
        return (time.perf_counter() - start) / times

    for call in calls.values():
        seconds(call, 1)
    times = {k: max(1, math.ceil(TURN / seconds(call, 1))) for k, call in calls.items()}
    taken: dict[str, list[float]] = {kind: [] for kind in calls}
    for turn in range(rounds):
        for kind in sorted(calls, reverse=turn % 2 == 1):
            taken[kind].append(seconds(calls[kind], times[kind]))
    return {kind: statistics.median(values) for kind, values in taken.items()}


@dataclass(frozen=True)
class Crossover:
    """Which of two is faster, and from how many channels on."""

    faster: str
    """At the largest width."""
    channels: float | None
    """Where the curves meet for the last time; None if it is faster at every width."""

    def __str__(self) -> str:
        if self.channels is None:
            return f"{self.faster} is faster at every width"
        return f"{self.faster} is faster from {self.channels:.0f} channels on"


def crossover(widths: Sequence[int], lu: Sequence[float], plain: Sequence[float]) -> Crossover:
    """Where log(lu/plain) is 0, linear in the logarithm of the width between two widths."""
    ratios = [math.log(a / b) for a, b in zip(lu, plain, strict=True)]
    faster = "LU" if ratios[-1] < 0 else "plain"
    for i in reversed(range(len(ratios) - 1)):
        if (ratios[i] < 0) != (ratios[-1] < 0):
            share = ratios[i] / (ratios[i] - ratios[i + 1])
            return Crossover(faster, widths[i] * (widths[i + 1] / widths[i]) ** share)
    return Crossover(faster, None)
