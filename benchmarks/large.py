"""Memory and time of a training step of the published 256x256 model, in either memory mode.

python -m benchmarks.large [--preset celebahq256] [--batch 1] [--steps 3]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from sklearn.datasets import load_sample_image
from torch import Tensor

from glowflow import Glow, GlowConfig
from glowflow.files import write_text
from glowflow.studies.summary import compact_json
from glowflow.training.config import TrainConfig
from glowflow.training.objective import Objective
from glowflow.training.optimisation import Schedule, make_optimizer
from glowflow.training.presets import PRESETS

from .device import describe
from .measure import ROOT, peak_resident


def main() -> None:
    """Measure each mode in a process of its own, print, and write a JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="celebahq256")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--memory", choices=("stored", "reversible"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        print(json.dumps(measure(given.preset, given.batch, given.steps, given.memory)))
        return
    facts: dict[str, Any] = {
        "device": str(describe(torch.device("cpu"))),
        "preset": given.preset,
        "batch": given.batch,
    }
    for memory in ("stored", "reversible"):
        command = [sys.executable, "-m", "benchmarks.large", *sys.argv[1:], "--memory", memory]
        child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        facts[memory] = json.loads(child.stdout.splitlines()[-1])
        print(memory, json.dumps(facts[memory]), flush=True)
    write_text(given.out / f"large-{given.preset}.json", compact_json(facts) + "\n")


def measure(preset: str, batch: int, steps: int, memory: Any) -> dict[str, Any]:
    """Peak resident set of the process, seconds of each step, and the loss at each step."""
    torch.manual_seed(0)
    published = PRESETS[preset]
    model = Glow(GlowConfig.of(published.model, (3, *published.size))).use(memory=memory)
    model.initialize(crops(max(batch, 4), published.size))
    images = crops(batch, published.size)
    config = TrainConfig(lr=1e-3, warmup_images=2_000, decay="constant")
    optimizer = make_optimizer(model, config.optimizer, config.lr)
    seconds, losses = [], []
    for step in range(steps):
        start = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = Schedule.of(config).learning_rate((step + 1) * batch, 0.0)
        optimizer.zero_grad()
        loss, bits = Objective(model)(model.to_float(images))
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 50.0)
        optimizer.step()
        seconds.append(round(time.perf_counter() - start, 2))
        losses.append(round(float(bits), 4))
    peak = peak_resident()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "peak resident GiB": None if peak is None else round(peak / 2**30, 2),
        "seconds a step": seconds,
        "bits per dimension": losses,
    }


def crops(count: int, size: tuple[int, int]) -> UInt8[Tensor, "count 3 height width"]:
    """Squares of a real photograph, the same at each call."""
    photo = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    places = torch.Generator().manual_seed(0)
    cut = []
    for _ in range(count):
        top, left = (
            int(torch.randint(0, whole - part + 1, (), generator=places))
            for whole, part in zip(photo.shape[1:], size, strict=True)
        )
        cut.append(photo[:, top : top + size[0], left : left + size[1]])
    return torch.stack(cut)


if __name__ == "__main__":
    main()
