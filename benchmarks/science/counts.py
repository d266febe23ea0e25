"""Not Gaussian: the density behind counts of a few a pixel, beside a Gaussian process.

`python -m benchmarks.science.counts` draws log-normal densities λ = m exp(g − ½) and counts
y ~ Poisson(λ), trains p(g | y), checks it over 1,000 simulations, and compares it with
the best linear posterior, scikit-learn's Gaussian process, and Laplace's approximation, which
knows the true model.
"""

import argparse
import itertools
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glowflow import load_model
from glowflow.calibration import check_posterior
from glowflow.calibration.plots import draw_coverage, draw_ranks
from glowflow.progress import with_bar
from glowflow.studies.page import Plot, Section, Table

from .gaussian import draw, filtered, spectrum
from .report import fields_plot, leave, run_on, trained

Values = NDArray[np.float64]
FIELDS, COUNT, DRAWS = 60_000, 1000, 99
AMPLITUDES, LENGTHS, VARIANCES = (0.8, 1.0, 1.25), (0.9, 1.3, 2.0, 3.0), (1.0, 2.0, 4.0)
"""Of the Gaussian processes that are tried."""
OPTIONS = (
    "--target", "g", "--condition", "y", "--padding", "periodic",
    "--levels", "2", "--steps", "8", "--hidden-channels", "64",
)  # fmt: skip


@dataclass(frozen=True)
class Counts:
    """y ~ Poisson(λ), λ = m exp(g − ½) with g a Gaussian field of variance 1, so that ⟨λ⟩ = m."""

    size: int = 16
    mean: float = 1.0
    """m, counts a pixel."""

    @cached_property
    def powers(self) -> Values:
        """The spectrum of g."""
        return spectrum((self.size, self.size), corner=2.0)

    @cached_property
    def precision(self) -> Values:
        """C⁻¹ of g."""
        eye = np.eye(self.size**2).reshape(-1, self.size, self.size)
        inverse = filtered(eye, 1 / self.powers).reshape(len(eye), -1)
        return (inverse + inverse.T) / 2

    def simulate(self, count: int, seed: int) -> Iterator[dict[str, Values]]:
        """Log-densities and counts, part by part."""
        noise = np.random.default_rng(seed)
        for start in range(0, count, 5000):
            g = draw(self.powers, min(5000, count - start), noise)
            y = noise.poisson(self.density(g)).astype(np.float64)
            yield {"g": g, "y": y}

    def density(self, g: Values) -> Values:
        """λ."""
        return self.mean * np.exp(g - 0.5)

    def laplace(self, y: Values) -> tuple[Values, Values]:
        """Mode of p(g | y) by Newton's method, and the inverse of the curvature there."""
        g, counts = np.zeros(self.size**2), y.ravel()
        for _ in range(100):
            rate = self.density(g)
            slope = self.precision @ g + rate - counts
            step = np.linalg.solve(self.precision + np.diag(rate), slope)
            g = g - step * min(1.0, 2.0 / np.abs(step).max())
            if np.abs(step).max() < 1e-9:
                break
        return g, np.linalg.inv(self.precision + np.diag(self.density(g)))


@dataclass(frozen=True)
class Kriging:
    """A Gaussian process on log(y + ½), less its mean excess over g, with the variance v/(y + ½),
    by scikit-learn.

    The kernel is Matérn's with ν = ½, that of P(k) but for the torus, whose distances are those of
    chords.
    """

    problem: Counts
    amplitude: float
    length: float
    """In pixels."""
    variance: float
    """v."""
    excess: float

    @classmethod
    def fitted(cls, problem: Counts, g: Values, y: Values) -> "Kriging":
        """Of all in a grid the one under which these truths are the most probable."""
        excess = float((np.log(y + 0.5) - g).mean())
        grid = itertools.product(AMPLITUDES, LENGTHS, VARIANCES)
        every = [cls(problem, *each, excess) for each in grid]

        def log_prob(process: Kriging) -> float:
            pairs = zip(g, y, strict=True)
            return sum(normal_log_prob(f.ravel(), *process.predict(one)) for f, one in pairs)

        return max(every, key=log_prob)

    def predict(self, y: Values) -> tuple[Values, Values]:
        """Mean and covariance of g given y."""
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern

        seen = np.log(y.ravel() + 0.5) - self.excess
        process = GaussianProcessRegressor(
            ConstantKernel(self.amplitude**2) * Matern(self.length, nu=0.5),
            alpha=self.variance / (y.ravel() + 0.5),
            optimizer=None,
        )
        mean, covariance = process.fit(self._places, seen).predict(self._places, return_cov=True)
        return mean, covariance

    @cached_property
    def _places(self) -> Values:
        """Pixels on a torus, so that the other side is near."""
        angle = 2 * math.pi * np.arange(self.problem.size) / self.problem.size
        circle = np.column_stack([np.cos(angle), np.sin(angle)]) * self.problem.size / (2 * math.pi)
        down, across = np.meshgrid(range(len(angle)), range(len(angle)), indexing="ij")
        return np.column_stack([circle[down.ravel()], circle[across.ravel()]])


@dataclass(frozen=True)
class Linear:
    """The best normal posterior whose mean is linear in y: g and y as if they were jointly normal.

    μ(y) = ⟨g⟩ + S_gy S_yy⁻¹ (y − ⟨y⟩), Σ = S_gg − S_gy S_yy⁻¹ S_yg, of so many simulations.
    """

    offset: Values
    gain: Values
    covariance: Values

    @classmethod
    def fitted(cls, g: Values, y: Values) -> "Linear":
        """Of simulations (N, H, W)."""
        g, y = g.reshape(len(g), -1), y.reshape(len(y), -1)
        joint = np.cov(np.column_stack([g, y]).T)
        dims = g.shape[1]
        gain = np.linalg.solve(joint[dims:, dims:], joint[dims:, :dims]).T
        covariance = joint[:dims, :dims] - gain @ joint[dims:, :dims]
        return cls(g.mean(0) - gain @ y.mean(0), gain, (covariance + covariance.T) / 2)

    def predict(self, y: Values) -> tuple[Values, Values]:
        """Mean and covariance of g given y."""
        return self.offset + self.gain @ y.ravel(), self.covariance


@dataclass(frozen=True)
class Score:
    """Of a posterior, over observations: mean and standard error."""

    nats: tuple[float, float]
    """−log p(g | y), per dimension."""
    crps: tuple[float, float]
    """Of λ, in counts."""


def normal_log_prob(g: Values, mean: Values, covariance: Values) -> float:
    """log N(g; mean, covariance) in nats."""
    factor = np.linalg.cholesky(covariance + 1e-10 * np.eye(len(mean)))
    away = np.linalg.solve(factor, g - mean)
    return float(-0.5 * (away**2).sum() - np.log(np.diag(factor)).sum()
                 - len(mean) / 2 * math.log(2 * math.pi))  # fmt: skip


def crps(truth: Values, draws: Values) -> Values:
    """⟨|X − x|⟩ − ½⟨|X − X′|⟩ of each value, the second over pairs of draws; draws first.

    Source: Gneiting & Raftery 2007, "Strictly proper scoring rules".
    """
    count = len(draws)
    ordered = np.sort(draws, axis=0)
    weights = (2 * np.arange(1, count + 1) - count - 1).reshape(-1, *[1] * truth.ndim)
    return np.asarray(np.abs(draws - truth).mean(0)
                      - (weights * ordered).sum(0) / (count * (count - 1)))  # fmt: skip


def main() -> None:
    """Train, check, compare, write docs/results/counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a run that is trained")
    parser.add_argument("--minutes", default="30", help="of training")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    problem = Counts()
    with tempfile.TemporaryDirectory() as folder:
        run = given.model or run_on(
            problem.simulate(FIELDS, seed=0),
            Path(folder),
            "fields",
            *OPTIONS,
            "--minutes",
            given.minutes,
        )
        compare(problem, run, given.out)


def compare(problem: Counts, run: Path, out: Path | None) -> None:
    """SBC of the flow, and every posterior's scores."""
    (new,) = problem.simulate(COUNT, seed=1)
    g, y = new["g"], new["y"]
    model = load_model(run)
    torch.manual_seed(2)
    draws, log_prob = [], []
    with torch.inference_mode():
        pairs = torch.from_numpy(np.stack([g, y], axis=1)).float()
        for field, counts in with_bar(pairs, "the flow", visible=True, count=COUNT):
            posterior = model.given({"y": counts[None]})
            draws.append(posterior.sample((DRAWS,))[:, 0].numpy())
            log_prob.append(float(posterior.log_prob(field[None, None])))
    samples = np.stack(draws)
    checks = check_posterior(g, samples)

    noise = np.random.default_rng(3)
    (known,) = problem.simulate(20, seed=4)
    kriging = Kriging.fitted(problem, known["g"], known["y"])
    scores = {"Glow": scored(problem, g, samples, np.array(log_prob))}
    means = {}
    many = list(problem.simulate(FIELDS, seed=0))
    linear = Linear.fitted(*(np.concatenate([part[name] for part in many]) for name in "gy"))
    for name, posterior_of in (
        ("Linear and normal", linear.predict),
        ("Gaussian process (scikit-learn)", kriging.predict),
        ("Laplace, by the true model", problem.laplace),
    ):
        theirs, densities = [], []
        for field, counts in with_bar(zip(g, y, strict=True), name, visible=True, count=COUNT):
            mean, covariance = posterior_of(counts)
            means.setdefault(name, mean.reshape(field.shape))
            densities.append(normal_log_prob(field.ravel(), mean, covariance))
            theirs.append(noise.multivariate_normal(mean, covariance, DRAWS, method="eigh"))
        scores[name] = scored(
            problem, g, np.stack(theirs).reshape(samples.shape), np.array(densities)
        )
    heads = ["posterior", "−log p of g, nats/dim", "CRPS of λ, counts"]
    rows = [
        [name, f"{s.nats[0]:.4f} ± {s.nats[1]:.4f}", f"{s.crps[0]:.4f} ± {s.crps[1]:.4f}"]
        for name, s in scores.items()
    ]
    verdicts = [
        [v.check, v.found, v.expected, "passed" if v.passed else "FAILED"] for v in checks.verdicts
    ]
    leave(
        "counts",
        "The density behind counts",
        [
            f"λ = exp(g − ½), g a Gaussian field of {problem.size}x{problem.size} with "
            "P(k) ∝ (1 + k²/4)^−3/2 and variance 1, and y ~ Poisson(λ): one count a pixel on "
            "average, so that p(g | y) is not normal.",
            f"`python -m benchmarks.science.counts`: a conditional Glow ({' '.join(OPTIONS)}) saw "
            f"{trained(run)}. {COUNT:,} new simulations, {DRAWS} draws each; ± is a standard error "
            f"over simulations. The linear one is fitted to the same {FIELDS:,}; where there "
            "are many counts its λ, an exponential, is far off. The Gaussian process on log counts "
            f"is the best of {len(AMPLITUDES) * len(LENGTHS) * len(VARIANCES)} on 20 other fields "
            f"(amplitude {kriging.amplitude:g}, length {kriging.length:g} pixels, variance "
            f"{kriging.variance:g}/(y + ½)). Laplace's approximation is given the true prior and "
            "the true noise.",
        ],
        [
            Section(table=Table(heads, rows)),
            Section(title="Checks", table=Table(["check", "found", "expected", ""], verdicts)),
            Section(
                pictures=[
                    Plot("ranks.png", "ranks in their bands", (8, 4.8),
                         lambda figure: draw_ranks(figure, {
                             **checks.ranks.by_summary, "distances (TARP)": checks.tarp}, DRAWS)),
                    Plot("coverage.png", "coverage by level", (4, 3.6),
                         lambda figure: draw_coverage(figure, checks.coverage)),
                    fields_plot("fields.png", "log-density, counts, means and draws", [
                        [("truth g", g[0]), ("Glow's mean", samples[0].mean(0)),
                         *((name.replace(",", " ").split()[0], m) for name, m in means.items())],
                        [("Glow's draw", each) for each in samples[0, :5]],
                        [("counts", each) for each in y[:5]],
                    ]),
                ]
            ),
        ],
        {
            "scores": {n: {"nats": s.nats, "crps": s.crps} for n, s in scores.items()},
            "verdicts": {v.check: [v.found, v.passed] for v in checks.verdicts},
            "p_values_of_summaries": checks.ranks.summary_p_values(),
            "p_values_of_values": sorted(checks.ranks.p_values().ravel().tolist())[:10],
        },
        out,
    )  # fmt: skip


def scored(problem: Counts, g: Values, draws: Values, log_prob: Values) -> Score:
    """Of draws (N, S, H, W) and log-densities (N,)."""
    nats = -log_prob / g[0].size
    by_field = np.array([
        crps(problem.density(one), problem.density(some)).mean()
        for one, some in zip(g, draws, strict=True)
    ])  # fmt: skip
    root = math.sqrt(len(g))
    return Score(
        (float(nats.mean()), float(nats.std(ddof=1) / root)),
        (float(by_field.mean()), float(by_field.std(ddof=1) / root)),
    )


if __name__ == "__main__":
    main()
