"""Time a training step against the bare coupling networks, interleaved, median of the repeats.

python benchmarks/train_step.py [--hidden 512] [--steps 8] [--batch 16] [--repeats 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from glowflow import Glow, GlowConfig
from glowflow.networks import CouplingNetwork
from glowflow.training import Objective


def main() -> None:
    """Print images/s of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("hidden", 512), ("steps", 8), ("batch", 16), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    model = Glow(
        GlowConfig(
            image_shape=(3, 32, 32), levels=3, steps=given.steps, hidden_channels=given.hidden
        )
    )
    images = torch.randint(0, 256, (given.batch, 3, 32, 32), dtype=torch.uint8)
    model.initialize(images)
    objective = Objective(model)
    networks = [module for module in model.modules() if isinstance(module, CouplingNetwork)]
    inputs = []
    for level, channels in enumerate((6, 12, 24)):
        side = 16 // 2**level
        inputs += [torch.randn(given.batch, channels, side, side)] * given.steps

    def whole() -> None:
        model.zero_grad()
        objective(model.to_float(images))[0].backward()

    def bare() -> None:
        model.zero_grad()
        for network, x in zip(networks, inputs, strict=True):
            network(x.requires_grad_()).sum().backward()

    seconds: dict[str, list[float]] = {"whole": [], "bare": []}
    for repeat in range(given.repeats + 1):
        for name, run in (("whole", whole), ("bare", bare)):
            taken = timed(run)
            if repeat:
                seconds[name].append(taken)
    per_second = {name: given.batch / statistics.median(all_) for name, all_ in seconds.items()}
    print(f"training step {per_second['whole']:.1f} images/s")
    print(f"its coupling networks alone {per_second['bare']:.1f} images/s")
    print(f"ratio {per_second['whole'] / per_second['bare']:.2f}")


def timed(run: Callable[[], None]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
