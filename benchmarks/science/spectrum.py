"""Gaussian fields of 64x64, learned without conditions: does the spectrum come back?

`python -m benchmarks.science.spectrum` trains on 20,000 fields and compares the power of samples
with the spectrum that the fields were made by; `--model RUN` takes a run that is trained.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glowflow import load_model
from glowflow.calibration import Ratio, Spectrum, power_spectrum, spectrum_ratio
from glowflow.calibration.plots import draw_spectra
from glowflow.studies.page import Plot, Section

from .gaussian import draw, spectrum
from .report import fields_plot, leave, run_on, table, trained

SIZE, FIELDS = 64, 20_000
OPTIONS = (
    "--target", "x", "--padding", "periodic", "--levels", "4", "--steps", "6",
    "--hidden-channels", "48", "--lr", "2e-3",
)  # fmt: skip


def fields(count: int, seed: int) -> Iterator[dict[str, NDArray[np.float64]]]:
    """Fields, part by part."""
    noise, powers = np.random.default_rng(seed), spectrum((SIZE, SIZE))
    for start in range(0, count, 2000):
        yield {"x": draw(powers, min(2000, count - start), noise)}


def known(powers: NDArray[np.float64]) -> Spectrum:
    """P(k) in shells, without an error: the spectrum of a field that has exactly these powers."""
    field = np.fft.ifftn(np.sqrt(powers * powers.size)).real
    return power_spectrum(np.stack([field, field])[:, None])


def ratio_to(powers: NDArray[np.float64], samples: Spectrum) -> Ratio:
    """Power of samples ÷ P(k), which has no error."""
    return spectrum_ratio(samples, known(powers))


def main() -> None:
    """Train, sample, write docs/results/gaussian-spectrum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a run that is trained")
    parser.add_argument("--minutes", default="60", help="of training")
    parser.add_argument("--count", type=int, default=1000, help="samples")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    powers = spectrum((SIZE, SIZE))
    with tempfile.TemporaryDirectory() as folder:
        run = given.model or run_on(
            fields(FIELDS, seed=0), Path(folder), "fields", *OPTIONS, "--minutes", given.minutes
        )
        model = load_model(run)
        (new,) = fields(1000, seed=1)
        x = torch.from_numpy(new["x"]).float()[:, None]
        with torch.no_grad():
            nats = -torch.cat([model.log_prob(some) for some in x.split(50)]).mean() / SIZE**2
        samples = model.sample(given.count, seed=3).numpy()
        seen = trained(run)
    found = power_spectrum(samples)
    ratio = ratio_to(powers, found)
    excess = np.abs(ratio.ratio - 1)
    worst = int(excess.argmax())
    exact = 0.5 * float(np.log(2 * np.pi * np.e * powers).mean())
    leave(
        "gaussian-spectrum",
        "A spectrum that is known",
        [
            "Gaussian fields of 64x64 with P(k) ∝ (1 + k²/9)^−3/2, learned without conditions; its "
            "first map, which training chooses for periodic fields, is `spectral`: "
            f"`python -m benchmarks.science.spectrum` ({' '.join(OPTIONS)}, {seen}), then "
            f"{given.count:,} samples at temperature 1 beside the spectrum itself.",
        ],
        [
            Section(
                table=table(
                    [
                        (
                            f"power of samples ÷ P(k), {len(ratio.ratio)} shells, farthest from 1",
                            f"{ratio.ratio[worst]:.4f} ± {ratio.standard_error[worst]:.4f} at "
                            f"k = {ratio.wavenumber[worst]:g}",
                            "1 ± 0.02",
                        ),
                        (
                            "the same, mean distance from 1 over shells",
                            f"{excess.mean():.4f} (errors alone: "
                            f"{0.8 * ratio.standard_error.mean():.4f})",
                            "",
                        ),
                        ("−log p of new fields, nats/dim", f"{float(nats):.4f}", f"{exact:.4f}"),
                    ]
                )
            ),
            Section(
                pictures=[
                    Plot(
                        "spectrum.png",
                        "spectra and their ratio",
                        (6, 5),
                        lambda figure: draw_spectra(figure, (found, known(powers)), ratio),
                    ),
                    fields_plot(
                        "fields.png",
                        "fields and samples",
                        [
                            [("field", each) for each in new["x"][:4]],
                            [("sample", each[0]) for each in samples[:4]],
                        ],
                    ),
                ]
            ),
        ],
        {
            "wavenumber": ratio.wavenumber.tolist(),
            "ratio": ratio.ratio.tolist(),
            "standard_error": ratio.standard_error.tolist(),
            "nats_per_dim": float(nats),
            "exact_nats_per_dim": exact,
        },
        given.out,
    )


if __name__ == "__main__":
    main()
