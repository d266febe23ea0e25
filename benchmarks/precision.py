"""The loss curve with bf16 coupling networks against the float32 one, and the round trip in bf16.

python -m benchmarks.precision [--data faces] [--size 32] [--steps 500] [--hidden 64] [--depth 8]
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from glowflow import Architecture, DataConfig, Glow
from glowflow.atomic import write_text
from glowflow.config import TrainConfig
from glowflow.data import open_splits
from glowflow.health import round_trip
from glowflow.metrics import read_metrics
from glowflow.training import train

from .device import describe
from .measure import ROOT


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
        for precision in ("float32", "bf16"):
            run = Path(folder) / precision
            train(replace(config, precision=precision), splits, run)
            lines = [m["bits_per_dim"] for m in read_metrics(run) if "bits_per_dim" in m]
            curves[precision] = torch.tensor(lines, dtype=torch.float64)
            facts[f"last 50 steps, {precision}, bits/dim"] = float(curves[precision][-50:].mean())
            model = Glow.from_pretrained(run).use(precision=precision)
            seen, decoded = (model.to_images(part) for part in round_trip(model, images))
            facts[f"bytes changed in {precision}, of {seen.numel()}"] = int((seen != decoded).sum())
        difference = curves["bf16"] - curves["float32"]
        smooth = difference.unfold(0, min(50, len(difference)), 1).mean(1)
        facts["largest difference of 50-step means, bits/dim"] = float(smooth.abs().max())
        facts["difference of the last 50 steps, bits/dim"] = float(smooth[-1])
    print(json.dumps(facts, indent=2))
    write_text(given.out / "bf16-against-float32.json", json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
