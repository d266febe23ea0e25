"""`glow check` as a process would call it."""

import json

import numpy as np
import pytest

from glowflow.cli import main

from ..calibration.test_calibration import linear_gaussian


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truths, samples, data = linear_gaussian(0, count=200, draws=99, shape=(1, 4, 4))
    for name, array in (("truths", truths), ("samples", samples), ("data", data)):
        np.save(f"{name}.npy", array.astype(np.float32))
    np.savez("both.npz", truths=truths, narrow=(samples - samples.mean(1, keepdims=True)) * 0.5)
    return tmp_path


def test_a_right_posterior(arrays, capsys):
    words = ["check", "--truths", "truths.npy", "--samples", "samples.npy", "--out", "o"]
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert all(verdict["passed"] for verdict in facts["verdicts"])
    written = {path.name for path in (arrays / "o").iterdir()}
    assert written == {
        "check.md", "check.json", "index.html", "ranks.png", "coverage.png", "places.png",
    }  # fmt: skip
    assert "<script" not in (arrays / "o" / "index.html").read_text()


def test_a_wrong_posterior_is_exit_code_1(arrays, capsys):
    words = ["check", "--truths", "both.npz:truths", "--samples", "both.npz:narrow", "--out", "o"]
    assert main(words) == 1
    assert "checks failed: ranks of each value" in capsys.readouterr().out
    assert "FAILED" in (arrays / "o" / "check.md").read_text()


def test_samples_beside_data(arrays, capsys):
    words = ["check", "--samples", "truths.npy", "--data", "data.npy", "--out", "o"]
    assert main(words) == 1  # the data have twice the variance
    assert "power spectrum" in capsys.readouterr().out
    assert (arrays / "o" / "spectrum.png").stat().st_size > 1000


def test_samples_of_a_model(arrays, capsys):
    import torch

    from glowflow import Glow, GlowConfig

    images = torch.randint(90, 160, (70, 3, 8, 8), dtype=torch.uint8)
    model = Glow(GlowConfig(image_shape=(3, 8, 8), levels=1, steps=1, hidden_channels=4))
    model.initialize(images)
    model.save_pretrained("model")
    np.save("images.npy", images.numpy())
    words = ["check", "--model", "model", "--data", "images.npy", "--count", "60", "--out", "o"]
    assert main([*words, "--json"]) in (0, 1)
    facts = json.loads(capsys.readouterr().out)
    assert facts["samples"] == facts["data"] == 60
    assert {v["check"] for v in facts["verdicts"]} == {
        "power spectrum", "one-point statistics", "two-sample test by a classifier",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Give --truths and --samples"),
        (["--truths", "truths.npy"], "--truths go with --samples"),
        (["--samples", "samples.npy"], "Give --data"),
        (["--samples", "none.npy", "--data", "data.npy"], "There is no file none.npy"),
        (["--truths", "both.npz:x", "--samples", "samples.npy"], "has no array 'x'"),
        (["--truths", "both.npz", "--samples", "samples.npy"], "several arrays"),
        (["--truths", "text", "--samples", "samples.npy"], "no array of numbers"),
        (["--truths", "truths.npy", "--samples", "truths.npy"], "S draws for each truth"),
        (["--model", "demo-faces", "--observed", "data.npy"], "--observed is for a posterior"),
        (["--model", "demo-faces", "--count", "3"], "give 20 at least"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(arrays, capsys, words, says):
    (arrays / "text").write_text("hello")
    assert main(["check", *words, "--out", "o"]) == 2
    assert says in capsys.readouterr().err
    assert not (arrays / "o").exists()


@pytest.mark.usefixtures("unseen_plots")
def test_of_more_images_than_are_compared_all_classes_count(tmp_path, capsys):
    random = np.random.default_rng(0)
    label = np.repeat([0, 1], 60)
    x = (60 + 120 * label[:, None, None, None] + random.integers(0, 9, (120, 8, 8, 1))).astype("u1")
    np.savez(tmp_path / "two.npz", x_train=x, y_train=label, x_test=x, y_test=label)
    tiny = ["--levels", "1", "--steps", "1", "--hidden-channels", "4", "--images", "8"]
    run = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "two.npz"), *tiny, "--out", run, "--device", "cpu"]) == 0
    capsys.readouterr()
    words = ["check", "--model", run, "--count", "40", "--out", str(tmp_path / "o"), "--json"]
    assert main([*words, "--device", "cpu"]) in (0, 1)
    data = json.loads(capsys.readouterr().out)["one_point"]["data"]
    assert data["statistics"]["mean"] == pytest.approx(124, abs=2)
