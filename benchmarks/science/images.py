"""Faces that are noisy or half missing: posteriors of the shipped model beside scikit-image.

`python -m benchmarks.science.images` solves held-out faces by `glowflow.inverse`: noise of 25 of
255, beside total variation and non-local means, whose strengths are the best of several on other
faces; and every second pixel missing, beside biharmonic inpainting.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio
from skimage.restoration import (
    denoise_nl_means,
    denoise_tv_chambolle,
    inpaint_biharmonic,
)

from glowflow import Glow
from glowflow.data.config import DataConfig
from glowflow.data.open import open_splits
from glowflow.inverse import Mask, Operator, Problem, identity, solve
from glowflow.studies.page import Section, Sheet, Table

from .report import leave

Values = NDArray[np.float64]
NOISE, MASKED_NOISE, SHARE = 25.0, 4.0, 0.5
LEVELS = (0.5, 0.9)
STRENGTHS = (0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2)
CHAINS, WARMUP, DRAWS = 4, 120, 200


class Answer(NamedTuple):
    """What became of one face, (C, H, W) bytes as numbers."""

    truth: Values
    observed: Values
    others: dict[str, Values]
    mean: Values
    draws: Values
    converged: bool
    seconds: float

    def psnr(self) -> dict[str, float]:
        """Of each method, in dB."""
        all_ = {**self.others, "posterior mean": self.mean, "one draw": self.draws[0]}
        return {name: psnr(self.truth, each) for name, each in all_.items()}


def psnr(truth: Values, found: Values) -> float:
    """In dB, of values from 0 to 255."""
    return float(peak_signal_noise_ratio(truth, np.clip(found, 0, 255), data_range=255))


def by_pixels(method: Callable[..., Any], image: Values, **how: Any) -> Values:
    """A method of scikit-image, for values from 0 to 1 with channels last."""
    found = method(image.transpose(1, 2, 0) / 255, channel_axis=-1, **how)
    return np.asarray(found, dtype=np.float64).transpose(2, 0, 1) * 255


def total_variation(image: Values, strength: float) -> Values:
    """Chambolle's."""
    return by_pixels(denoise_tv_chambolle, image, weight=strength)


def non_local_means(image: Values, strength: float) -> Values:
    """With the noise that there is."""
    return by_pixels(
        denoise_nl_means, image, h=strength, sigma=NOISE / 255, patch_size=3, patch_distance=7,
        fast_mode=False,
    )  # fmt: skip


def best(method: Callable[[Values, float], Values], faces: Values) -> float:
    """The strength with the highest mean PSNR."""
    noise = np.random.default_rng(5)
    noisy = faces + NOISE * noise.normal(size=faces.shape)
    pairs = list(zip(faces, noisy, strict=True))
    return max(STRENGTHS, key=lambda s: np.mean([psnr(x, method(y, s)) for x, y in pairs]))


def solved(
    model: Glow, truth: Values, observed: Values, operator: Operator, noise: float,
    others: dict[str, Values], seed: int,
) -> Answer:  # fmt: skip
    """The posterior of one face."""
    y = torch.from_numpy((observed + 0.5) / 256 - 0.5).float()
    start = time.monotonic()
    found = solve(
        Problem(model, operator, operator(y[None])[0], noise / 256),
        chains=CHAINS, draws=DRAWS, warmup=WARMUP, seed=seed,
    )  # fmt: skip
    draws = (found.samples.flatten(0, 1).double().numpy() + 0.5) * 256 - 0.5
    print(found.why_not_converged or "converged", f"{time.monotonic() - start:.0f} s")
    return Answer(
        truth, observed, others, draws.mean(0), draws,
        not found.why_not_converged, time.monotonic() - start,
    )  # fmt: skip


def main() -> None:
    """Solve, compare, write docs/results/inverse-faces."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model = Glow.from_pretrained("demo-faces").eval().requires_grad_(False)
    held_out = faces_held_out(given.faces + 12)
    truths, known = held_out[: given.faces], held_out[given.faces :]
    strengths = {m.__name__: best(m, known) for m in (total_variation, non_local_means)}
    noise = np.random.default_rng(6)
    answers: dict[str, list[Answer]] = {"noise": [], "missing": []}
    for number, x in enumerate(truths):
        y = x + NOISE * noise.normal(size=x.shape)
        others = {
            "total variation": total_variation(y, strengths["total_variation"]),
            "non-local means": non_local_means(y, strengths["non_local_means"]),
        }
        answers["noise"].append(solved(model, x, y, identity, NOISE, others, number))
        seen = noise.random(x.shape[1:]) > SHARE
        y = x + MASKED_NOISE * noise.normal(size=x.shape)
        filled = inpaint_biharmonic(
            np.where(seen, y, 0).transpose(1, 2, 0) / 255, ~seen, channel_axis=-1
        )
        others = {"biharmonic": filled.transpose(2, 0, 1) * 255}
        mask = Mask(torch.from_numpy(seen))
        shown = np.where(seen, y, 0)
        answers["missing"].append(solved(model, x, shown, mask, MASKED_NOISE, others, number))
    write(answers, strengths, given.out)


def faces_held_out(count: int) -> Values:
    """Test images of the drawn faces, none of which the model has seen."""
    splits = open_splits(DataConfig(data="faces", size=(32, 32)))
    return np.asarray(splits.test.images[np.arange(count)], dtype=np.float64)


def coverage(answer: Answer, level: float) -> float:
    """Share of the values within their central interval of this probability."""
    low, high = np.quantile(answer.draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return float(((answer.truth >= low) & (answer.truth <= high)).mean())


def write(answers: dict[str, list[Answer]], strengths: dict[str, float], out: Path | None) -> None:
    """Tables and pictures."""
    sections, facts = [], {}
    titles = {
        "noise": f"Noise of {NOISE:g}",
        "missing": f"{SHARE:.0%} of the pixels missing, noise of {MASKED_NOISE:g}",
    }
    for name, some in answers.items():
        by_face = [answer.psnr() for answer in some]
        methods = list(by_face[0])
        lines = [
            [
                method,
                *(f"{each[method]:.1f}" for each in by_face),
                f"{np.mean([each[method] for each in by_face]):.1f}",
            ]
            for method in methods
        ]
        covered = {
            level: float(np.mean([coverage(answer, level) for answer in some])) for level in LEVELS
        }
        said = ", ".join(f"{found:.2f} of {level:g}" for level, found in covered.items())
        facts[name] = {
            "psnr": {m: [each[m] for each in by_face] for m in methods},
            "coverage": {str(level): found for level, found in covered.items()},
            "converged": [answer.converged for answer in some],
            "seconds": [answer.seconds for answer in some],
        }
        heads = ["PSNR, dB", *(f"face {i + 1}" for i in range(len(some))), "mean"]
        sections.append(
            Section(
                title=titles[name],
                words=f"Central intervals of the draws hold the truth of {said} of the values; "
                f"{sum(answer.converged for answer in some)} of {len(some)} runs are called "
                f"converged, {np.mean([answer.seconds for answer in some]) / 60:.0f} minutes each.",
                table=Table(heads, lines),
                pictures=[
                    Sheet(
                        f"{name}.png",
                        "truths, observations, other methods, posterior means, draws, deviations",
                        [(label, as_bytes(np.stack(row))) for label, row in rows(some)],
                    )
                ],
            )
        )
    leave(
        "inverse-faces",
        "Faces from damaged ones",
        [
            "Drawn faces of 32x32 that the shipped model has not seen, solved by "
            f"`glowflow.inverse` with {CHAINS} chains of {DRAWS} draws after {WARMUP}: "
            "`python -m benchmarks.science.images`. Total variation (Chambolle), non-local means "
            "and biharmonic inpainting are scikit-image's; strengths "
            f"{strengths['total_variation']:g} and {strengths['non_local_means']:g} are the best "
            f"of {len(STRENGTHS)} on twelve other faces.",
        ],
        sections,
        facts,
        out,
    )  # fmt: skip


def rows(some: list[Answer]) -> list[tuple[str, list[Values]]]:
    """What is shown of each face."""
    others = [(name, [a.others[name] for a in some]) for name in some[0].others]
    return [
        ("truth", [a.truth for a in some]),
        ("observed", [a.observed for a in some]),
        *others,
        ("posterior mean", [a.mean for a in some]),
        ("a draw", [a.draws[0] for a in some]),
        ("another", [a.draws[-1] for a in some]),
        ("deviation, times 5", [5 * a.draws.std(0) for a in some]),
    ]


def as_bytes(values: Values) -> NDArray[np.uint8]:
    """Rounded, and kept within 0 and 255."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
