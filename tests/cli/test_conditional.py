"""From a file of fields to a posterior: train, evaluate, sample, check, resume."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glowflow import Architecture, ConditionalGlow, DataConfig, InputError, load_model
from glowflow.cli import check, main
from glowflow.cli.arrays import read_array
from glowflow.data.open import open_splits
from glowflow.training.checkpoint import load_checkpoint
from glowflow.training.config import read_run_config
from glowflow.training.initialisation import model_config_for
from tests.training.runs import CONFIG, losses, run

COUNT = 90


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """x is a coarse field, and noise."""
    h5py = pytest.importorskip("h5py")
    folder = tmp_path_factory.mktemp("fields")
    rng = np.random.default_rng(0)
    y, theta = rng.normal(size=(COUNT, 4, 4)), rng.normal(size=(COUNT, 2))
    x = y.repeat(2, 1).repeat(2, 2)[:, None] + 0.3 * rng.normal(size=(COUNT, 1, 8, 8))
    with h5py.File(folder / "data.h5", "w") as file:
        file["x"], file["y"], file["theta"] = x, y, theta
    np.savez(folder / "three.npz", y=y[:3], theta=theta[:3])
    np.savez(folder / "one.npz", y=y[0], theta=theta[0])
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run; the page docs/conditional.md has the command."""
    source = DataConfig(data=str(data / "data.h5"), target="x", condition="y,theta", held_out=0.3)
    model = Architecture(levels=1, steps=1, hidden_channels=4, padding="periodic", first_map="auto")
    splits = open_splits(source, cache=tmp_path_factory.mktemp("cache"), progress=False)
    run(replace(CONFIG, data=source, model=model, images=64), splits, data / "run")
    return str(data / "run")


def answer(capsys, *arguments):
    """What a command prints for a script."""
    code = main([*map(str, arguments), "--device", "cpu", "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def refusal(capsys, *arguments):
    """The sentence that a command is refused with."""
    assert main(list(map(str, arguments))) == 2
    return capsys.readouterr().err


def test_a_run_knows_what_it_was_given(trained):
    model = load_model(trained)
    assert isinstance(model, ConditionalGlow)
    assert [c.name for c in model.config.conditions] == ["y", "theta"]
    assert model.config.first_map == "standardize" and model.config.padding == "periodic"
    assert model.trained_on.target == "x"
    config = read_run_config(Path(trained))
    assert config.data.condition == "y,theta"


def test_figures_are_nats(trained, capsys):
    facts = answer(capsys, "evaluate", "--model", trained)["evaluation"]
    assert facts["nats_per_sample"] == pytest.approx(facts["mean"] * 64 * np.log(2))
    assert main(["evaluate", "--model", trained, "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert "nats per sample" in shown.out and "bits" not in shown.out
    assert "nats/dim" in shown.err and "bits/dim" not in shown.err


def test_new_data_are_read_by_the_same_names(trained, data, capsys):
    facts = answer(capsys, "evaluate", "--model", trained, "--data", data / "data.h5")
    assert facts["split"] == "test"  # the run's own file
    other = data / "other.npz"
    rng = np.random.default_rng(1)
    some = {"x": rng.normal(size=(5, 1, 8, 8)), "y": rng.normal(size=(5, 4, 4))}
    np.savez(other, **some, theta=rng.normal(size=(5, 2)))
    assert answer(capsys, "evaluate", "--model", trained, "--data", other)["split"] == "all"
    np.savez(data / "named.npz", z=some["x"], y=some["y"], theta=rng.normal(size=(5, 2)))
    command = ("evaluate", "--model", trained, "--data", data / "named.npz")
    assert "no array 'x' for --target" in refusal(capsys, *command)
    assert answer(capsys, *command, "--target", "z")["evaluation"]["images"] == 5
    np.savez(other, **some, theta=rng.normal(size=(5, 3)))
    said = refusal(capsys, "evaluate", "--model", trained, "--data", other)
    assert "is given y (1, 4, 4), theta (2,), and the data have y (1, 4, 4), theta (3,)" in said


def test_fields_that_are_given_nothing(data, capsys, tmp_path):
    source, out = DataConfig(data=str(data / "data.h5"), target="x"), tmp_path / "run"
    model = Architecture(levels=1, steps=1, hidden_channels=4, first_map="auto", rank=8)
    splits = open_splits(source, cache=tmp_path / "cache", progress=False)
    trained = run(replace(CONFIG, data=source, model=model, images=16), splits, out)
    assert trained.model.config.first_map == "whitening"
    np.savez(tmp_path / "other.npz", x=np.random.default_rng(2).normal(size=(4, 1, 8, 8)), z=[1])
    found = answer(capsys, "evaluate", "--model", out, "--data", tmp_path / "other.npz")
    assert found["evaluation"]["images"] == 4


def test_samples_of_one_and_of_several(trained, data, capsys, tmp_path):
    sample = ("sample", "--model", trained, "--count", 70, "--given")
    assert answer(capsys, *sample, data / "one.npz", "--out", tmp_path / "one")["observations"] == 1
    one = np.load(tmp_path / "one" / "samples.npy")
    assert one.shape == (70, 1, 8, 8) and one.dtype == np.float32
    assert (tmp_path / "one" / "grid.png").is_file()
    answer(capsys, *sample, data / "three.npz", "--out", tmp_path / "three")
    three = np.load(tmp_path / "three" / "samples.npy")
    assert three.shape == (3, 70, 1, 8, 8)
    assert np.allclose(three[0], one, atol=1e-5) and not np.allclose(three[1], one)


def test_samples_beside_the_data(trained):
    samples, fields, about = check._both(check.Options(model=trained, device="cpu"))
    assert samples.shape == fields.shape == (len(fields), 1, 8, 8) and "samples of" in about


def test_its_card_says_what_it_is_given(trained, capsys, tmp_path):
    folder = tmp_path / "card"
    answer(capsys, "push", trained, "me/posterior", "--dry-run", "--out", folder)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "given y (field, (1, 4, 4)), theta (vector, (2,))" in card
    assert 'model.given({"y": y, "theta": theta}).sample(16)' in card


def test_what_is_refused(trained, data, capsys, tmp_path):
    np.save(tmp_path / "y.npy", np.zeros((4, 4)))
    np.savez(tmp_path / "y.npz", y=np.zeros((4, 4)))
    np.savez(tmp_path / "nan.npz", y=np.full((1, 4, 4), np.nan), theta=np.zeros((1, 2)))
    for given, said in (
        ([], "is given y, theta: name a file with --given"),
        (["--given", tmp_path / "y.npy"], "with arrays of these names"),
        (["--given", tmp_path / "y.npz"], "no array 'theta' for --given"),
        (["--given", tmp_path / "nan.npz"], "y is NaN or infinite in sample 0 at (0, 0, 0)"),
        (["--given", data / "one.npz", "--temperature", "0:1:0.5"], "one temperature"),
    ):
        out = tmp_path / "none"
        assert said in refusal(capsys, "sample", "--model", trained, *given, "--out", out)
        assert not out.exists()
    said = refusal(capsys, "sample", "--model", "demo-faces", "--given", data / "one.npz")
    assert "no conditional model" in said
    for arguments in (
        ("interpolate", "a.png", "b.png", "--model", trained),
        ("pca", "faces", "--model", trained),
        ("score", "faces", "--model", trained),
        ("export", trained, "--format", "torch"),
    ):
        assert "models of x alone" in refusal(capsys, *arguments)


def test_an_array_of_hdf5_is_named_after_a_colon(data):
    file = str(data / "data.h5")
    assert read_array(f"{file}:theta", "--truths").shape == (COUNT, 2)
    for text in (file, f"{file}:none"):
        with pytest.raises(InputError, match=r"as .*data.h5:NAME: it has theta, x, y"):
            read_array(text, "--truths")


def test_runs_that_cannot_be(data, tmp_path):
    source = DataConfig(data=str(data / "data.h5"), target="x", condition="y")
    splits = open_splits(source, cache=tmp_path, progress=False)
    config = replace(CONFIG, data=source)
    with pytest.raises(InputError, match="leave --flip and --shift out"):
        model_config_for(replace(config, flip=True), splits)
    coarse = replace(splits, train=replace(splits.train, images=np.zeros((9, 1, 6, 6), "f4")))
    with pytest.raises(InputError, match="a grid of 4x4 and the data on one of 6x6"):
        model_config_for(replace(config, model=Architecture(levels=1)), coarse)


def test_a_resumed_run_is_the_uninterrupted_one(data, tmp_path):
    source = DataConfig(data=str(data / "data.h5"), target="x", condition="y,theta")
    splits = open_splits(source, cache=tmp_path / "cache", progress=False)
    config = replace(CONFIG, data=source, memory="reversible", decay="constant", images=64)
    run(config, splits, tmp_path / "whole")
    run(replace(config, images=32), splits, tmp_path / "cut")
    run(config, splits, tmp_path / "cut", resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    whole, cut = (load_checkpoint(tmp_path / name).model for name in ("whole", "cut"))
    assert all((whole[name] == weight).all() for name, weight in cut.items())


def test_a_run_with_conditions_is_planned_from_its_file(data, capsys):
    found = answer(
        capsys, "plan", "--data", data / "data.h5", "--target", "x", "--condition", "y,theta",
        "--levels", 1, "--steps", 2, "--hidden-channels", 4,
    )  # fmt: skip
    assert [c["name"] for c in found["model"]["conditions"]] == ["y", "theta"]
    config = model_config_for(
        replace(CONFIG, model=Architecture(levels=1, steps=2, hidden_channels=4)),
        open_splits(
            DataConfig(data=str(data / "data.h5"), target="x", condition="y,theta"), progress=False
        ),
    )
    weights = sum(
        p.numel() for p in ConditionalGlow(replace(config, first_map="standardize")).parameters()
    )
    assert found["parameters"] == weights
    assert found["modes"]["reversible"]["fits"] and found["modes"]["stored"]["seconds"] > 0


def test_a_plan_that_cannot_be(data, capsys):
    file = data / "data.h5"
    for arguments, said in (
        ([file], "several arrays (theta float64 (90, 2), x float64"),
        ([file, "--target", "x", "--condition", "y", "--family", "realnvp"], "is given nothing"),
        ([data / "none.npy"], "There is no folder or file"),
    ):
        assert said in refusal(capsys, "plan", *arguments, "--device", "h100")


def test_an_array_with_conditions_is_verified(data, capsys):
    command = ("data", "verify", data / "data.h5", "--target", "x", "--condition", "y,theta")
    assert answer(capsys, *command)["problems"] == []


def test_a_study_on_data_with_conditions(data, tmp_path, capsys):
    found = answer(
        capsys, "study", "lu", "--data", data / "data.h5", "--target", "x", "--condition",
        "y,theta", "--images", 64, "--hidden-channels", 4, "--levels", 1, "--steps", 1,
        "--seeds", 1, "--widths", 2, 4, "--rounds", 1, "--out", tmp_path / "study",
    )  # fmt: skip
    assert [each["latents"] < 1e-3 for each in found["agreement"]] == [True] * 4
