"""Gradients by inversion against gradients by stored activations, on a trained model.

python -m benchmarks.gradients [--model RUN] [--steps 32] [--hidden 64] [--minutes 3]
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glowflow import Architecture, DataConfig, Glow
from glowflow.data.open import open_splits
from glowflow.files import write_text
from glowflow.fused.steps import Steps
from glowflow.studies.summary import compact_json
from glowflow.training.config import TrainConfig
from glowflow.training.loop import train
from glowflow.training.objective import Objective

from .device import describe
from .measure import ROOT

MEMORIES = ("stored", "reversible")
WAYS: dict[str, tuple[torch.dtype, Any]] = {
    "float64": (torch.float64, "float32"),
    "float32": (torch.float32, "float32"),
    "bf16 networks": (torch.float32, "bf16"),
}
"""dtype of the weights, and what `Glow.use` calls the precision."""


def main() -> None:
    """Train if no run is given, compare, print, and write a JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradients", description=__doc__)
    parser.add_argument("--model", help="a run of `glow train`; by default one is trained")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--scale", choices=("bounded", "sigmoid"), default="bounded")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    given = parser.parse_args()
    data = DataConfig(data="faces", size=(32, 32))
    splits = open_splits(data)
    images = torch.from_numpy(splits.test.images[: given.batch].copy())
    facts: dict[str, Any] = {"device": str(describe(torch.device("cpu"))), "batch": given.batch}
    with tempfile.TemporaryDirectory() as folder:
        run = given.model
        if run is None:
            config = TrainConfig(
                data=data,
                model=Architecture(
                    steps=given.steps, hidden_channels=given.hidden, coupling_scale=given.scale
                ),
                images=10**9,
                minutes=given.minutes,
            )
            trained = train(config, splits, Path(folder) / "run")
            run = trained.run
            facts["trained on"] = f"{trained.images} faces in {given.minutes} minutes"
        model = Glow.from_pretrained(run)
        facts["config"] = {
            name: getattr(model.config, name)
            for name in ("levels", "steps", "hidden_channels", "coupling", "coupling_scale")
        }
        facts["bits per dimension"] = float(model.bits_per_dim(images).mean())
        exact: dict[str, Tensor] = {}
        for name, (dtype, precision) in WAYS.items():
            model = Glow.from_pretrained(run).to(dtype).train().use(precision=precision)
            x = model.to_float(images, noise="center")
            stored, reversible = (gradients(model, x, memory) for memory in MEMORIES)
            exact = exact or stored
            facts[name] = {
                "reversible against stored": difference(reversible, stored),
                "stored against float64": difference(stored, exact),
                "drift by level": [m.guard.drift for m in model.modules() if isinstance(m, Steps)],
            }
            print(name, json.dumps(facts[name]))
    write_text(given.out / f"reversible-gradients-{given.scale}.json", compact_json(facts) + "\n")


def difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Any]:
    """Euclidean norms of the differences, relative to those of the expected gradients."""
    pairs = {name: (found[name].double() - g.double(), g.double()) for name, g in expected.items()}
    each = {name: float(d.norm() / g.norm()) for name, (d, g) in pairs.items() if g.any()}
    worst = max(each, key=lambda name: each[name])
    return {
        "all weights together": float(
            torch.cat([d.flatten() for d, _ in pairs.values()]).norm()
            / torch.cat([g.flatten() for _, g in pairs.values()]).norm()
        ),
        "median weight": statistics.median(each.values()),
        "worst weight": each[worst],
        "its name": worst,
    }


def gradients(model: Glow, x: Tensor, memory: Any) -> dict[str, Tensor]:
    """The gradient of every weight."""
    model.use(memory=memory).zero_grad()
    torch.autograd.backward(Objective(model)(x)[0])
    return {n: w.grad.detach().clone() for n, w in model.named_parameters() if w.grad is not None}


if __name__ == "__main__":
    main()
