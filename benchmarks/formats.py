"""How near converted models are to their originals: a table of formats, by one command.

Each form of the official files, and each layout of the ports with random weights, is converted and
held against an independent forward pass: log p(x) in nats a dimension, and the decoded latents.

python -m benchmarks.formats [--out docs/results/formats.md]
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tests.interop.conftest import GOLDEN, unpack_official
from tests.interop.official import Official
from tests.interop.test_openai import FORMS
from tests.interop.test_ports import CASES, converted

from glowflow import Glow
from glowflow.files import write_text
from glowflow.studies.page import Table

from .measure import ROOT

DTYPES = (torch.float32, torch.float64)


class Errors(NamedTuple):
    """Largest differences from the original."""

    log_p: float
    """In nats a dimension."""
    decoded: float
    """Of a value, relative where it is above 1."""


def main() -> None:
    """Convert, compare, print the table and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "formats.md")
    out = parser.parse_args().out
    lines = [
        [name, *(f"{value:.1e}" for errors in both for value in errors)]
        for name, both in (*of_official_files(), *of_ports())
    ]
    heads = ["file", "log p, float32", "decoded, float32", "log p, float64", "decoded, float64"]
    text = Table(heads, lines).markdown()
    print(text)
    write_text(
        out,
        "# Converted models and their originals\n\n"
        f"{len(lines)} files converted and held against forward passes that share no code with the "
        "package: differences of log p in nats a dimension, and of decoded values, relative where "
        "these are above 1.\n\n"
        "The official files have the weights of the golden file, whose own numbers the official "
        "code computed in float32; those of the ports are random. A folded graph stores "
        "exponentials in float32, from which their logarithms come back to 1e-7.\n\n"
        f"{text}\n\n`python -m benchmarks.formats` makes this page.\n",
    )


def of_official_files() -> Iterator[tuple[str, list[Errors]]]:
    """Every form of the official TensorFlow files."""
    with np.load(GOLDEN / "openai_affine_invconv.npz") as file:
        golden = dict(file)
    plain = Official({n.removeprefix("var:"): a for n, a in golden.items() if n[:4] == "var:"})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack_official(folder)
        for form, path_name in FORMS.items():
            both = []
            for dtype in DTYPES:
                model = Glow.from_foreign(
                    folder / path_name, image_size=(16, 16), bits=8, dtype=dtype
                ).eval()
                exact = dtype == torch.float64
                x = golden["x"].astype(np.float64 if exact else np.float32)
                expected = plain.log_prob(x.astype(np.float64)) if exact else golden["log_prob"]
                latents = [golden[f"eps_in{level}"].astype(x.dtype) for level in range(3)]
                decoded = plain.decode([e.astype(np.float64) for e in latents])
                with torch.no_grad():
                    log_p = model.log_prob(_images(x)).double().numpy()
                    back = model.decode(tuple(map(_images, latents))).double().numpy()
                both.append(
                    Errors(
                        float(np.abs(log_p - expected).max()) / x[0].size,
                        _relative(back, decoded.transpose(0, 3, 1, 2)),
                    )
                )
            yield f"official: {form}", both


def of_ports() -> Iterator[tuple[str, list[Errors]]]:
    """Every layout of the ports."""
    for name in CASES:
        both = []
        for dtype in DTYPES:
            model, x, labels, (log_p, latents, _), _ = converted(name, dtype)
            with torch.no_grad():
                difference = (model.log_prob(x, labels) - log_p).abs().max()
                back = model.decode(tuple(latents), labels)
            both.append(Errors(float(difference) / x[0].numel(), _relative(back, x)))
        yield name, both


def _images(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def _relative(found: Any, expected: Any) -> float:
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    return float((np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max())


if __name__ == "__main__":
    main()
