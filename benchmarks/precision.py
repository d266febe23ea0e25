"""The loss curve with bf16 coupling networks against the float32 one, and the round trip in bf16.

A third run, float32 with memory `reversible`, is the same arithmetic in another order: how far it
departs from the first is what rounding alone does to a curve.

python -m benchmarks.precision [--data faces] [--size 32] [--steps 500] [--hidden 64] [--depth 8]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glowflow import Architecture, DataConfig, Glow
from glowflow.data.open import open_splits
from glowflow.files import write_text
from glowflow.models.config import Memory
from glowflow.studies.summary import compact_json
from glowflow.training.config import PrecisionChoice, TrainConfig
from glowflow.training.health import round_trip
from glowflow.training.loop import train
from glowflow.training.metrics import read_metrics

from .device import describe
from .measure import ROOT

RUNS: dict[str, tuple[PrecisionChoice, Memory]] = {
    "float32": ("float32", "stored"),
    "bf16": ("bf16", "stored"),
    "float32 reversible": ("float32", "reversible"),
}


def main() -> None:
    """Train both from the same seed, compare, print, and write a JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--data", default="faces")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--depth", type=int, default=8, help="K")
    parser.add_argument("--images", type=int, default=100, help="of the round trip")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    given = parser.parse_args()
    config = TrainConfig(
        data=DataConfig(data=given.data, size=(given.size, given.size)),
        model=Architecture(
            steps=given.depth, hidden_channels=given.hidden, coupling_scale="bounded"
        ),
        images=given.steps * 16,
        log_every=1,
        validate_every=1e9,
    )
    splits = open_splits(config.data)
    images = torch.from_numpy(splits.test.images[: given.images].copy())
    facts: dict[str, Any] = {
        "device": str(describe(torch.device("cpu"))),
        "steps": given.steps,
        "hidden channels": given.hidden,
        "K": given.depth,
        "data": splits.source,
    }
    with tempfile.TemporaryDirectory() as folder:
        curves = {}
        for name, (precision, memory) in RUNS.items():
            run = Path(folder) / name
            train(replace(config, precision=precision, memory=memory), splits, run)
            lines = [m["bits_per_dim"] for m in read_metrics(run) if "bits_per_dim" in m]
            curves[name] = torch.tensor(lines, dtype=torch.float64)
            model = Glow.from_pretrained(run).use(precision=precision)
            seen, decoded = (model.to_images(part) for part in round_trip(model, images))
            facts[name] = {
                "last 50 steps, bits/dim": float(curves[name][-50:].mean()),
                f"bytes changed, of {seen.numel()}": int((seen != decoded).sum()),
                "beside float32, means of 50 steps, bits/dim": beside(
                    curves[name], curves["float32"]
                ),
            }
    print(compact_json(facts))
    write_text(given.out / "bf16-against-float32.json", compact_json(facts) + "\n")


def beside(curve: Tensor, reference: Tensor) -> dict[str, float]:
    """How far 50-step means of two curves are apart: at most, and from each quarter on."""
    difference = curve - reference
    smooth = difference.unfold(0, min(50, len(difference)), 1).mean(1).abs()
    quarters = {
        f"largest from step {start} on": float(smooth[start:].max())
        for start in (len(smooth) * n // 4 for n in range(4))
    }
    return {**quarters, "last 50": float(smooth[-1])}


if __name__ == "__main__":
    main()
