"""What an invertible 1x1 convolution costs, in LU form and plain, at many numbers of channels."""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ...bijections import Invertible1x1Conv, PlainInvertible1x1Conv
from ...bijections.linear import mix
from ...checks import require_at_least
from ...errors import CheckpointError, InputError
from ...files import write_text
from ...models.config import PermutationKind
from .trials import hardware

KINDS: dict[PermutationKind, type[Invertible1x1Conv] | type[PlainInvertible1x1Conv]] = {
    "lu": Invertible1x1Conv,
    "plain": PlainInvertible1x1Conv,
}
COSTS = {
    "log-det": "log|det W|",
    "matrix": "W from the parameters",
    "forward": "W, log|det W|, W x",
    "training": "forward, and gradients of x and of the parameters",
    "inverse": "W⁻¹, W⁻¹ y",
}
"""What is timed."""
COSTS_FILE = "costs.json"
TURN = 2e-3
"""Seconds of a turn, at least: what is faster is called several times."""

Costs = Mapping[str, Mapping[str, Sequence[float]]]
"""Seconds of each cost, of each kind, at each width."""


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """What is timed, and how often."""

    widths: tuple[int, ...] = (12, 24, 48, 96, 192, 384, 768, 1536)
    """Numbers of channels at which one convolution is timed."""
    timed_images: int = 16
    """Images of the convolution that is timed."""
    timed_size: int = 16
    """Their height and width, in pixels."""
    rounds: int = 7
    """Turns of each kind, one after the other; the median counts."""


@dataclass(frozen=True)
class Timings:
    """What was timed on what."""

    hardware: str
    widths: tuple[int, ...]
    seconds: Costs


def check_costs(settings: CostSettings) -> None:
    """Refuse what cannot be timed.

    Raises:
        InputError: a number is too small, or twice there.
    """
    require_at_least(settings, 1, "timed_images", "timed_size", "rounds")
    widths = settings.widths
    if not widths or min(widths) < 2 or len(set(widths)) < len(widths):
        raise InputError(f"widths is {widths}: give different numbers of channels, 2 at least.")


def timings(
    settings: CostSettings, folder: Path, *, device: str, seed: int, progress: bool = True
) -> Timings:
    """Time both kinds at every width, or read what `folder` has of it.

    Args:
        settings: what is timed.
        folder: gets costs.json.
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
    costs: dict[str, dict[str, list[float]]] = {n: {k: [] for k in KINDS} for n in COSTS}
    widths = sorted(settings.widths)
    for width in track(widths, "timing", disable=not progress, console=Console(stderr=True)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            calls = {kind: calls_of(kind, width, settings, device) for kind in KINDS}
        for name in COSTS:
            taken = interleaved({k: calls[k][name] for k in KINDS}, settings.rounds, device)
            for kind, seconds in taken.items():
                costs[name][kind].append(seconds)
    found = Timings(hardware(device), tuple(widths), costs)
    write_text(path, json.dumps(asdict(found)) + "\n")
    return found


def _read(path: Path) -> Timings:
    try:
        found = Timings(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"Cannot read {path}: it is damaged; delete it, and the costs are timed again."
        ) from error
    return found


def calls_of(
    kind: PermutationKind, width: int, settings: CostSettings, device: str
) -> dict[str, Callable[[], object]]:
    """What is timed, by the names of COSTS, of one convolution of `width` channels."""
    made: Any = KINDS[kind]
    mixing = made(width).to(device)
    size = (settings.timed_images, width, settings.timed_size, settings.timed_size)
    x = torch.randn(size, device=device).contiguous(memory_format=torch.channels_last)
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
        if device != "cpu":
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


def crossover(widths: Sequence[int], lu: Sequence[float], plain: Sequence[float]) -> Crossover:
    """Where log(lu/plain) is 0, linear in the logarithm of the width between two widths."""
    ratios = [math.log(a / b) for a, b in zip(lu, plain, strict=True)]
    faster = "LU" if ratios[-1] < 0 else "plain"
    for i in reversed(range(len(ratios) - 1)):
        if (ratios[i] < 0) != (ratios[-1] < 0):
            share = ratios[i] / (ratios[i] - ratios[i + 1])
            return Crossover(faster, widths[i] * (widths[i + 1] / widths[i]) ** share)
    return Crossover(faster, None)
