"""One dimension and three: autoregressive signals and Gaussian cubes, whose densities are known.

`python -m benchmarks.science.axes` trains on signals (N, 1, 256) of an AR(2) process and on cubes
(N, 1, 16, 16, 16); `--signals RUN` and `--cubes RUN` take runs that are trained.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from glowflow import Glow, GlowConfig, load_model
from glowflow.calibration import power_spectrum
from glowflow.calibration.plots import draw_spectra
from glowflow.studies.page import Plot, Section, Table

from ..plan import peak_allocated
from .gaussian import draw, spectrum
from .report import fields_plot, leave, run_on, table, trained
from .spectrum import known, ratio_to

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Values = NDArray[np.float64]
SIGNALS = ("--target", "x", "--grid", "1", "--levels", "4", "--steps", "6",
           "--hidden-channels", "48", "--first-map", "standardize")  # fmt: skip
CUBES = ("--target", "x", "--grid", "3", "--padding", "periodic", "--levels", "2", "--steps", "6",
         "--hidden-channels", "48", "--lr", "2e-3")  # fmt: skip
SIDE = 16
DEPTHS = (4, 16, 64)


@dataclass(frozen=True)
class Autoregressive:
    """x_t = a₁ x_{t−1} + a₂ x_{t−2} + n_t, n ~ N(0, 1), stationary from its first value on."""

    length: int = 256
    first: float = 1.6
    second: float = -0.8

    @cached_property
    def covariance(self) -> Values:
        """Of the first two values, (2, 2), by the Yule-Walker equations."""
        variance = (1 - self.second) / (
            (1 + self.second) * ((1 - self.second) ** 2 - self.first**2)
        )
        lagged = variance * self.first / (1 - self.second)
        return np.array([[variance, lagged], [lagged, variance]])

    def sample(self, count: int, noise: np.random.Generator) -> Values:
        """(count, 1, length)."""
        x = np.empty((count, self.length))
        x[:, :2] = noise.multivariate_normal(np.zeros(2), self.covariance, count)
        for t in range(2, self.length):
            x[:, t] = self.first * x[:, t - 1] + self.second * x[:, t - 2]
            x[:, t] += noise.normal(size=count)
        return x[:, None]

    def log_prob(self, x: Values) -> Values:
        """In nats, (N,)."""
        x = x[:, 0]
        start = np.einsum("ni,ij,nj->n", x[:, :2], np.linalg.inv(self.covariance), x[:, :2])
        start = start + np.linalg.slogdet(self.covariance)[1]
        away = x[:, 2:] - self.first * x[:, 1:-1] - self.second * x[:, :-2]
        total = start + (away**2).sum(1) + self.length * math.log(2 * math.pi)
        return np.asarray(-0.5 * total)

    def parts(self, count: int, seed: int) -> Iterator[dict[str, Values]]:
        """Signals, part by part."""
        noise = np.random.default_rng(seed)
        for start in range(0, count, 5000):
            yield {"x": self.sample(min(5000, count - start), noise)}


def cubes(count: int, seed: int) -> Iterator[dict[str, Values]]:
    """Gaussian fields of 16x16x16, part by part."""
    noise, powers = np.random.default_rng(seed), spectrum((SIDE,) * 3)
    for start in range(0, count, 1000):
        yield {"x": draw(powers, min(1000, count - start), noise)[:, None]}


def nats(run: Path, x: Values) -> float:
    """−log p of fields, per dimension."""
    model = load_model(run)
    with torch.no_grad():
        parts = torch.from_numpy(x).float().split(50)
        log_prob = torch.cat([model.log_prob(some) for some in parts]).double()
    return -float(log_prob.mean()) / x[0].size


def memory_by_depth() -> dict[str, dict[int, float]]:
    """MiB that a training step of four cubes takes above its weights and their gradients."""
    found: dict[str, dict[int, float]] = {"stored": {}, "reversible": {}}
    for memory, by_steps in found.items():
        for steps in DEPTHS:
            config = GlowConfig(image_shape=(1, SIDE, SIDE, SIDE), levels=2, steps=steps,
                                hidden_channels=48, bits=None, padding="periodic",
                                coupling_scale="bounded")  # fmt: skip
            model, x = Glow(config), torch.randn(4, 1, SIDE, SIDE, SIDE)
            model.initialize(x)
            model.use(memory=memory)

            def step(model: Glow = model, x: torch.Tensor = x) -> None:
                torch.autograd.backward(-model.log_prob(x).mean())

            step()  # the gradients are there from now on
            by_steps[steps] = peak_allocated(step) / 2**20
    return found


def main() -> None:
    """Train, compare, write docs/results/axes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=Path, help="a run on signals")
    parser.add_argument("--cubes", type=Path, help="a run on cubes")
    parser.add_argument("--minutes", default="30", help="of each training")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    process, powers = Autoregressive(), spectrum((SIDE,) * 3)
    with tempfile.TemporaryDirectory() as folder:
        where, minutes = Path(folder), ("--minutes", given.minutes)
        signals = given.signals or run_on(
            process.parts(60_000, seed=0), where, "signals", *SIGNALS, *minutes
        )
        solids = given.cubes or run_on(cubes(20_000, seed=0), where, "cubes", *CUBES, *minutes)
        (new,) = process.parts(2000, seed=1)
        right = -float(process.log_prob(new["x"]).mean()) / process.length
        found = nats(signals, new["x"])
        drawn = load_model(signals).sample(1000, seed=2).numpy()
        (fields,) = cubes(1000, seed=1)
        solid = nats(solids, fields["x"])
        samples = load_model(solids).sample(1000, seed=2).numpy()
        seen = trained(signals), trained(solids)
    memory = memory_by_depth()
    by_shell = power_spectrum(samples)
    ratio = ratio_to(powers, by_shell)
    worst = int(np.abs(ratio.ratio - 1).argmax())
    exact = 0.5 * float(np.log(2 * np.pi * np.e * powers).mean())

    def signals_plot(figure: "Figure") -> None:
        panels = figure.subplots(2, 1, sharex=True, sharey=True)
        for axes, name, some in zip(panels, ("data", "samples"), (new["x"], drawn), strict=True):
            for each in some[:3]:
                axes.plot(each[0], linewidth=0.9)
            axes.set_title(name, fontsize=9)

    leave(
        "axes",
        "One dimension and three",
        [
            "Signals x_t = 1.6 x_{t−1} − 0.8 x_{t−2} + n_t of 256 values, and periodic Gaussian "
            "cubes of 16x16x16 with P(k) ∝ (1 + k²/9)^−3/2; their densities are known.",
            f"`python -m benchmarks.science.axes`: `glow train signals.h5 {' '.join(SIGNALS)}`, "
            f"{seen[0]}; `glow train cubes.h5 {' '.join(CUBES)}`, {seen[1]}. New signals and cubes "
            "throughout.",
        ],
        [
            Section(
                table=table(
                    [
                        ("−log p of 2,000 new signals, nats/dim", f"{found:.4f}",
                         f"{right:.4f}, within 1 %: {right * 1.01:.4f}"),
                        ("−log p of 1,000 new cubes, nats/dim", f"{solid:.4f}", f"{exact:.4f}"),
                        (f"power of 1,000 cubes drawn ÷ P(k), {len(ratio.ratio)} shells, farthest "
                         "from 1",
                         f"{ratio.ratio[worst]:.4f} ± {ratio.standard_error[worst]:.4f} at "
                         f"k = {ratio.wavenumber[worst]:g}", "1 ± 0.03"),
                    ]
                )
            ),
            Section(
                pictures=[
                    Plot("signals.png", "signals and samples", (7, 4), signals_plot),
                    Plot("spectrum.png", "spectra of cubes and their ratio", (6, 5),
                         lambda figure: draw_spectra(
                             figure, (by_shell, known(powers)), ratio)),
                    fields_plot("cubes.png", "middle slices of cubes and samples", [
                        [("cube", each[0, SIDE // 2]) for each in fields["x"][:4]],
                        [("sample", each[0, SIDE // 2]) for each in samples[:4]],
                    ]),
                ]
            ),
            Section(
                title="Memory in depth",
                words="MiB that a training step of four cubes takes above the weights and their "
                "gradients, by K.",
                table=Table(
                    ["memory", *(f"K = {steps}" for steps in DEPTHS)],
                    [[mode, *(f"{by_steps[k]:.1f}" for k in DEPTHS)]
                     for mode, by_steps in memory.items()],
                ),
            ),
        ],
        {
            "memory_mib": memory,
            "signals_nats_per_dim": found,
            "signals_exact_nats_per_dim": right,
            "cubes_nats_per_dim": solid,
            "cubes_exact_nats_per_dim": exact,
            "wavenumber": ratio.wavenumber.tolist(),
            "ratio": ratio.ratio.tolist(),
            "standard_error": ratio.standard_error.tolist(),
        },
        given.out,
    )  # fmt: skip


if __name__ == "__main__":
    main()
