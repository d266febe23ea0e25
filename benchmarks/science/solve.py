"""The observations of `posterior`, solved by a prior alone: `glow solve` beside the exact answer.

`python -m benchmarks.science.solve` trains an unconditional Glow on the same fields, solves for
what was blurred, masked and noisy, and compares; `--model RUN` takes a prior that is trained.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glowflow.studies.page import Section

from .gaussian import Observation
from .posterior import FIELDS, data
from .report import fields_plot, leave, run_on, table, trained

OPTIONS = (
    "--target", "x", "--first-map", "standardize", "--padding", "periodic",
    "--levels", "3", "--steps", "8", "--hidden-channels", "48",
)  # fmt: skip
SOLVE = (
    "--operator", "benchmarks.science.gaussian:blurred_and_masked",
    "--chains", "4", "--warmup", "150", "--draws", "400",
)  # fmt: skip


def main() -> None:
    """Train, solve, write docs/results/gaussian-solve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a prior that is trained")
    parser.add_argument("--minutes", default="30", help="of training")
    parser.add_argument("--observations", type=int, default=2)
    parser.add_argument("--solved", type=Path, nargs="*", help="results of `glow solve` on them")
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
        (new,) = data(problem, 1000, seed=1)
        x, y = (new[name][: given.observations] for name in ("x", "y"))
        folders = given.solved or [solved(run, y, problem.sigma, Path(folder))]
        found = np.concatenate([np.load(each / "samples.npy")[:, :, 0] for each in folders])
        training = trained(run)
        x, y = x[: len(found)], y[: len(found)]
    mean, std = problem.mean(y), problem.std
    away = found.mean(1) - mean
    off = np.sqrt((away**2).mean((1, 2)))
    width = found.std(1, ddof=1) / std - 1
    spread = np.sqrt((width**2).mean((1, 2)))
    command_line = f"glow solve {' '.join(SOLVE)} --noise {problem.sigma:g}"
    leave(
        "gaussian-solve",
        "A posterior from a prior",
        [
            "The fields and observations of [the posterior that is known]"
            "(../gaussian-posterior/gaussian-posterior.md), and a Glow that was never told of an "
            f"observation: `python -m benchmarks.science.solve` trains p(x) ({' '.join(OPTIONS)}, "
            f"{training}), then `{command_line}`, whose chains "
            "all converged.",
        ],
        [
            Section(
                table=table(
                    [
                        (
                            f"observation {index + 1}: posterior mean, distance from the exact one",
                            f"{off[index]:.4f}",
                            "≤ 0.03 (fields have 1)",
                        )
                        for index in range(len(y))
                    ]
                    + [
                        (
                            f"observation {index + 1}: standard deviations ÷ exact ones − 1, "
                            "mean and root mean square",
                            f"{width[index].mean():+.4f}, {spread[index]:.4f}",
                            "≤ 0.05",
                        )
                        for index in range(len(y))
                    ]
                )
            ),
            Section(
                pictures=[
                    fields_plot(
                        "fields.png",
                        "truth, observation, means and deviations",
                        [
                            [("truth", x[i]), ("observed", y[i]), ("exact mean", mean[i]),
                             ("solved mean", found[i].mean(0))]
                            for i in range(min(2, len(y)))
                        ]
                        + [[("exact deviation", std)] + [
                            (f"solved, {i + 1}", found[i].std(0)) for i in range(min(3, len(y)))
                        ]],
                    )
                ]
            ),
        ],
        {
            "mean_distance": off.tolist(),
            "deviation_ratio_minus_one_mean": width.mean((1, 2)).tolist(),
            "deviation_ratio_minus_one_rms": spread.tolist(),
            "draws": found.shape[1],
        },
        given.out,
    )  # fmt: skip


def solved(run: Path, y: NDArray[np.float64], sigma: float, folder: Path) -> Path:
    """The folder of what `glow solve` finds, which fails if the chains do not converge."""
    observed, out = folder / "y.npy", folder / "solved"
    np.save(observed, np.nan_to_num(y)[:, None].astype(np.float32))
    command = [sys.executable, "-m", "glowflow", "solve", "--model", str(run),
               "--observed", str(observed), "--noise", str(sigma), *SOLVE,
               "--out", str(out)]  # fmt: skip
    subprocess.run(command, check=True)
    return out


if __name__ == "__main__":
    main()
