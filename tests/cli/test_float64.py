"""Float data with more digits than float32 has, from the file to the sample."""

import numpy as np
import pytest
import torch
import yaml

from glowflow import Glow, GlowConfig, InputError, load_model
from glowflow.cli import main
from glowflow.cli.solve import Options, _observed
from glowflow.inverse import identity
from glowflow.training.hardware import choose_precision
from tests.cli.test_conditional import answer, refusal

pytestmark = pytest.mark.usefixtures("unseen_plots")
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
    named = ("--target", "x", "--condition", "y", "--dtype", "float64")
    command = ["train", data / "data.npz", *named]
    answer(capsys, *command, *SMALL, "--out", run)
    model = load_model(run)
    assert model.dtype == torch.float64 and model.trained_on.dtype == "float64"
    known = np.load(data / "data.npz")
    x, y = (torch.from_numpy(known[name][:5, None]) for name in "xy")
    assert torch.allclose(model.decode(model.encode(x, {"y": y}), {"y": y}), x, rtol=1e-14, atol=0)
    assert (model.log_prob(x, {"y": y}) / 16 > 11).all()  # log 1e6 is 13.8
    answer(capsys, "train", "--resume", run, "--images", 80, "--device", "cpu")
    assert load_model(run).dtype == torch.float64
    x, y = (torch.from_numpy(known[name][:30, None]) for name in "xy")
    np.savez(data / "new.npz", x=x.numpy(), y=y.numpy())
    command = ["evaluate", "--model", run, "--data", data / "new.npz", "--split", "all"]
    nats = -float(model.log_prob(x, {"y": y}).detach().mean())
    assert answer(capsys, *command)["evaluation"]["nats_per_sample"] == pytest.approx(nats)
    given = ("--given", data / "data.npz", "--count", 30, "--out", out)
    answer(capsys, "sample", "--model", run, *given)
    drawn = np.load(out / "samples.npy")
    assert drawn.dtype == np.float64 and 1e-7 < drawn.std() < 1e-5


def test_whoever_uses_a_float64_model_reads_float64(data, capsys):
    x = torch.from_numpy(np.load(data / "data.npz")["x"])[:, None]
    np.save(data / "x.npy", x[:, 0].numpy())
    run, again = data / "run", data / "again"
    answer(capsys, "train", data / "x.npy", *SMALL, "--dtype", "float64", "--out", run)
    np.save(data / "new.npy", x[:30].numpy())
    found = answer(capsys, "evaluate", "--model", run, "--data", data / "new.npy", "--split", "all")
    nats = -float(load_model(run).log_prob(x[:30]).detach().mean())
    assert found["evaluation"]["nats_per_sample"] == pytest.approx(nats) and nats / 16 < -11
    answer(capsys, "train", data / "x.npy", "--from", run, *SMALL[6:8], "--out", again)
    assert load_model(again).dtype == torch.float64
    np.save(data / "y.npy", x.numpy())
    observed = Options(model=str(run), observed=str(data / "y.npy"), noise=1e-7)
    assert np.array_equal(_observed(observed, load_model(run), identity), x.numpy())


def test_no_bf16_is_chosen_for_float64():
    model = Glow(GlowConfig(image_shape=(1, 4, 4), levels=1, steps=1, hidden_channels=2, bits=None))
    assert choose_precision(model.double(), "auto") == "float32"


def test_a_plan_in_float64_is_refused(capsys):
    size = ("--size", "16", "16", "--device", "h100")
    assert "Plans are of float32" in refusal(capsys, "plan", *size, "--dtype", "float64")


def test_deterministic_runs_end_in_the_same_bits(data):
    for name in ("one", "two"):
        arguments = [data / "data.npz", "--target", "x", *SMALL, "--deterministic"]
        assert main(["train", *map(str, arguments), "--out", str(data / name)]) == 0
    one, two = ((data / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    assert load_model(data / "one").dtype == torch.float32
    assert not torch.are_deterministic_algorithms_enabled()


def test_apples_gpus_have_no_float64(data, capsys, monkeypatch):
    monkeypatch.setattr("glowflow.cli.options.has_device", lambda name: True)
    named = ("--target", "x", "--dtype", "float64", "--out", data / "o")
    said = refusal(capsys, "train", data / "data.npz", *named, "--device", "mps")
    assert "do not compute in float64" in said and said.count("\n") == 1
    assert not (data / "o").exists()
    model = Glow(GlowConfig(image_shape=(1, 4, 4), levels=1, steps=1, hidden_channels=2, bits=None))
    model.double().save_pretrained(data / "model")
    with pytest.raises(InputError, match="do not compute in float64"):
        load_model(data / "model", device="mps")


def test_float_data_are_taken_from_a_model_too(data, capsys):
    found = data / "first"
    arguments = [data / "data.npz", "--target", "x", *SMALL, "--held-out", "0.2", "--out", found]
    assert main(["train", *map(str, arguments)]) == 0
    capsys.readouterr()
    assert main(["train", "--from", str(found), "--print-config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)["data"]
    assert config["data"] == str(data / "data.npz") and config["target"] == "x"
    assert config["held_out"] == 0.2
    assert main(["train", str(data / "other.npy"), "--from", str(found), "--print-config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)["data"]
    assert (config["data"], config["target"]) == (str(data / "other.npy"), None)
