"""A posterior that is known: Gaussian fields, blurred, masked and noisy, given what was observed.

`python -m benchmarks.science.posterior` draws 60,000 fields with their observations, trains
p(x | y) on them, and holds it against the exact posterior; `--model RUN` takes one that is trained.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glowflow import load_model
from glowflow.calibration import c2st, check_posterior, power_spectrum, spectrum_ratio
from glowflow.calibration.plots import draw_coverage, draw_ranks, draw_spectra
from glowflow.progress import with_bar
from glowflow.studies.page import Plot, Section

from .gaussian import Observation, draw
from .report import fields_plot, leave, run_on, table, trained

FIELDS = 60_000
OPTIONS = (
    "--target", "x", "--condition", "y", "--missing", "mask", "--padding", "periodic",
    "--levels", "3", "--steps", "8", "--hidden-channels", "64",
)  # fmt: skip
COUNT, DRAWS = 300, 99
"""Observations, and draws of each posterior."""
REFERENCE = 1000
"""Draws of the posteriors that are held against the exact ones by a classifier."""


def data(problem: Observation, count: int, seed: int) -> Iterator[dict[str, NDArray[np.float64]]]:
    """Fields and what is observed of them, part by part."""
    noise = np.random.default_rng(seed)
    for start in range(0, count, 5000):
        x = draw(problem.powers, min(5000, count - start), noise)
        yield {"x": x, "y": problem.observe(x, noise)}


def drawn(model: Any, y: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float32]:
    """Draws of p(x | y), (N, count, H, W)."""
    torch.manual_seed(seed)
    parts = []
    with torch.inference_mode():
        for one in with_bar(torch.from_numpy(y).float()[:, None], "draws", visible=True):
            parts.append(model.given({"y": one}).sample((count,))[:, 0])
    return torch.stack(parts).numpy()


def main() -> None:
    """Train, compare, write docs/results/gaussian-posterior."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a run that is trained")
    parser.add_argument("--minutes", default="60", help="of training")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    problem = Observation()
    with tempfile.TemporaryDirectory() as folder:
        run = given.model or run_on(
            data(problem, FIELDS, seed=0),
            Path(folder),
            "fields",
            *OPTIONS,
            "--minutes",
            given.minutes,
        )
        compare(problem, run, given.out)


def compare(problem: Observation, run: Path, out: Path | None) -> None:
    """Everything that is asked of the posterior."""
    dims = problem.size**2
    (new,) = data(problem, 1000, seed=1)
    x, y = new["x"], new["y"]
    model = load_model(run)
    with torch.no_grad():
        parts = zip(
            torch.from_numpy(x).float()[:, None].split(100),
            torch.from_numpy(y).float()[:, None].split(100),
            strict=True,
        )
        found = torch.cat([model.log_prob(*pair) for pair in parts]).double().numpy()
    gap = (problem.log_prob(x, y) - found) / dims
    loss = float(gap.mean()), float(gap.std(ddof=1) / math.sqrt(len(gap)))
    entropy = problem.entropy / dims

    exact = problem.sample(y[:COUNT], DRAWS, np.random.default_rng(2))
    draws = drawn(model, y[:COUNT], DRAWS, seed=3)
    many = drawn(model, y[:10], REFERENCE, seed=4)
    right = problem.sample(y[:10], REFERENCE, np.random.default_rng(5))
    checks = check_posterior(x[:COUNT], draws)
    told = [
        c2st(some, others, seed=i) for i, (some, others) in enumerate(zip(many, right, strict=True))
    ]
    accuracy = float(np.mean([test.accuracy for test in told]))
    error = math.sqrt(sum(test.standard_error**2 for test in told)) / len(told)

    spectra = tuple(power_spectrum(each.reshape(-1, 1, *x.shape[1:])) for each in (draws, exact))
    ratio = spectrum_ratio(*spectra)
    resolved = ratio.wavenumber <= problem.size // 4
    worst = float(np.abs(ratio.ratio - 1)[resolved].max())
    mean, std = problem.mean(y[:10]), problem.std
    off = float(np.sqrt(((many.mean(1) - mean) ** 2).mean()))
    noise_of_mean = float(np.sqrt((std**2).mean() / REFERENCE))
    width = many.std(1, ddof=1) / std - 1
    far = np.abs(checks.coverage.empirical - checks.coverage.nominal)

    sections = [
        Section(
            table=table(
                [
                    (
                        "nats/dim of new fields, less the exact posterior's",
                        f"{loss[0]:.4f} ± {loss[1]:.4f} of {entropy:.4f}",
                        f"≤ {0.01 * entropy:.4f} (1 %)",
                    ),
                    ("coverage of intervals at ten levels, farthest", f"{far.max():.4f}", "≤ 0.02"),
                    *((v.check, v.found, v.expected) for v in checks.verdicts),
                    (
                        "a classifier's accuracy, flow's draws or exact ones",
                        f"{accuracy:.3f} ± {error:.3f}",
                        "≤ 0.55",
                    ),
                    (
                        "power of draws ÷ exact draws, k ≤ 8, farthest from 1",
                        f"{worst:.4f}",
                        "≤ 0.02",
                    ),
                    (
                        f"posterior mean of {REFERENCE} draws, distance from the exact one",
                        f"{off:.4f} (of which {noise_of_mean:.4f} are few draws)",
                        "fields have 1",
                    ),
                    (
                        "standard deviations ÷ exact ones − 1: mean, root mean square",
                        f"{width.mean():+.4f}, {np.sqrt((width**2).mean()):.4f}",
                        "",
                    ),
                ]
            )
        ),
        Section(
            title="One observation",
            pictures=[
                fields_plot(
                    "fields.png",
                    "truth, observation, means, deviations and draws",
                    [
                        [
                            ("truth", x[0]),
                            ("observed", y[0]),
                            ("exact mean", mean[0]),
                            ("flow's mean", many[0].mean(0)),
                        ],
                        [("exact draw", right[0, i]) for i in range(2)]
                        + [("flow's draw", many[0, i]) for i in range(2)],
                        [
                            ("exact deviation", std),
                            ("flow's deviation", many[0].std(0)),
                            ("flow's, another y", many[1].std(0)),
                            ("and another", many[2].std(0)),
                        ],
                    ],
                )
            ],
        ),
        Section(
            title="Ranks and coverage",
            words="The share of ranks below each level, less the level, in its 95 % band.",
            pictures=[
                Plot(
                    "ranks.png",
                    "ranks in their bands",
                    (8, 4.8),
                    lambda figure: draw_ranks(
                        figure, {**checks.ranks.by_summary, "distances (TARP)": checks.tarp}, DRAWS
                    ),
                ),
                Plot(
                    "coverage.png",
                    "coverage by level",
                    (4, 3.6),
                    lambda figure: draw_coverage(figure, checks.coverage),
                ),
            ],
        ),
        Section(
            title="Power spectrum",
            words=f"{DRAWS} draws for each of {COUNT} observations; data are exact draws.",
            pictures=[
                Plot(
                    "spectrum.png",
                    "spectra and their ratio",
                    (6, 5),
                    lambda figure: draw_spectra(figure, spectra, ratio),
                )
            ],
        ),
    ]
    leave(
        "gaussian-posterior",
        "A posterior that is known",
        [
            "Gaussian fields of 32x32 with P(k) ∝ (1 + k²/9)^−3/2, blurred by a Gaussian of "
            f"{problem.blur:g} pixel, seen but for a hole and a column, with noise of "
            f"{problem.sigma:g} standard deviations: p(x | y) is normal, with Wiener's mean.",
            f"`python -m benchmarks.science.posterior`: a conditional Glow ({' '.join(OPTIONS)}) "
            f"saw {trained(run)}. New fields throughout.",
        ],
        sections,
        {
            "nats_per_dim_above_exact": loss,
            "entropy_nats_per_dim": entropy,
            "coverage": {
                "nominal": checks.coverage.nominal.tolist(),
                "empirical": checks.coverage.empirical.tolist(),
            },
            "verdicts": {v.check: [v.found, v.passed] for v in checks.verdicts},
            "two_sample_accuracy": [accuracy, error],
            "power_ratio": {
                "wavenumber": ratio.wavenumber.tolist(),
                "ratio": ratio.ratio.tolist(),
                "standard_error": ratio.standard_error.tolist(),
            },
            "mean_distance": off,
            "deviation_ratio_minus_one": [float(width.mean()), float(width.std())],
        },
        out,
    )


if __name__ == "__main__":
    main()
