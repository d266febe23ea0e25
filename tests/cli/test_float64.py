"""Float data with more digits than float32 has, from the file to the sample."""

import numpy as np
import pytest
import torch

from glowflow import load_model
from glowflow.cli import main

SMALL = [
    "--levels", "1", "--steps", "1", "--hidden-channels", "4", "--images", "64",
    "--first-map", "standardize", "--held-out", "0.3", "--device", "cpu",
]  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """Fields of a thousand and a millionth, of which float32 holds a thousand."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4, 4))
    np.savez(tmp_path / "data.npz", x=1e3 + 1e-6 * x, y=1e3 + 1e-6 * x[:, ::2, ::2])
    return tmp_path


def test_float64_from_the_file_to_the_sample(data, capsys):
    run, out = data / "run", data / "draws"
    command = [
        "train",
        data / "data.npz",
        "--target",
        "x",
        "--condition",
        "y",
        "--dtype",
        "float64",
    ]
    assert main(list(map(str, [*command, *SMALL, "--out", run]))) == 0
    model = load_model(run)
    assert model.dtype == torch.float64 and model.trained_on.dtype == "float64"
    known = np.load(data / "data.npz")
    x, y = (torch.from_numpy(known[name][:5, None]) for name in "xy")
    assert torch.allclose(model.decode(model.encode(x, {"y": y}), {"y": y}), x, rtol=1e-14, atol=0)
    assert (model.log_prob(x, {"y": y}) / 16 > 11).all()  # log 1e6 is 13.8
    assert main(["train", "--resume", str(run), "--images", "80", "--device", "cpu"]) == 0
    assert load_model(run).dtype == torch.float64
    given = ["--given", str(data / "data.npz"), "--count", "30", "--out", str(out)]
    assert main(["sample", "--model", str(run), *given]) == 0
    drawn = np.load(out / "samples.npy")
    assert drawn.dtype == np.float64 and 1e-7 < drawn.std() < 1e-5


def test_float32_cannot_tell_such_data_apart(data):
    np.save(data / "x.npy", np.load(data / "data.npz")["x"])
    for dtype in ("float32", "float64"):
        arguments = [data / "x.npy", *SMALL, "--dtype", dtype, "--out", data / dtype]
        assert main(["train", *map(str, arguments)]) == 0
    x = torch.from_numpy(np.load(data / "x.npy"))[:, None]
    assert load_model(data / "float64").log_prob(x).mean() / 16 > 11
    assert load_model(data / "float32").dtype == torch.float32


def test_deterministic_runs_end_in_the_same_bits(data):
    for name in ("one", "two"):
        arguments = [data / "data.npz", "--target", "x", *SMALL, "--deterministic"]
        assert main(["train", *map(str, arguments), "--out", str(data / name)]) == 0
    one, two = ((data / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    assert not torch.are_deterministic_algorithms_enabled()
