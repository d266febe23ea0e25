"""`glow solve` as a process would call it."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from glowflow import Glow, GlowConfig, InputError
from glowflow.cli import main
from glowflow.inverse import Blur, solve
from glowflow.models.training_data import TrainingData


@pytest.fixture
def work(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules[solve.__module__], "MAP_STEPS", 30)
    torch.manual_seed(0)
    model = Glow(GlowConfig(image_shape=(3, 8, 8), levels=1, steps=1, hidden_channels=4))
    model.initialize(torch.randint(90, 160, (32, 3, 8, 8), dtype=torch.uint8))
    model.save_pretrained("model")
    image = np.random.default_rng(0).integers(100, 150, size=(8, 8, 3), dtype=np.uint8)
    Image.fromarray(image).save("seen.png")
    mask = np.full((8, 8), 255, dtype=np.uint8)
    mask[2:5, 2:5] = 0
    Image.fromarray(mask).save("mask.png")
    return tmp_path


FEW = ["--draws", "40", "--warmup", "60", "--noise", "6", "--model", "model", "--out", "o"]


def test_a_hole_is_filled_and_the_rest_is_kept(work, capsys):
    words = ["solve", "--operator", "mask", "--mask", "mask.png", "--observed", "seen.png"]
    code = main([*words, *FEW, "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert code == 1 and facts["converged"] == 0  # so few draws are not called enough
    mean, std = np.load("o/mean.npy")[0], np.load("o/std.npy")[0]
    seen = np.asarray(Image.open("seen.png")).transpose(2, 0, 1)
    hole = np.asarray(Image.open("mask.png")) == 0
    assert np.abs(mean - seen)[:, ~hole].mean() < 6
    assert std[:, hole].mean() > 1.5 * std[:, ~hole].mean()
    assert np.load("o/samples.npy").shape == (1, 160, 3, 8, 8)
    written = {path.name for path in (work / "o").iterdir()}
    assert {"solve.md", "solve.json", "index.html", "solution.png", "chains.png"} <= written


def test_an_operator_of_ones_own_and_several_observations(work, capsys):
    (work / "my_operators.py").write_text("def rows(x):\n    return x.mean(dim=3, keepdim=True)\n")
    np.save("y.npy", np.full((2, 3, 8, 1), 125.0, dtype=np.float32))
    words = ["solve", "--operator", "my_operators:rows", "--observed", "y.npy"]
    assert main([*words, *FEW, "--draws", "20", "--warmup", "50", "--json"]) in (0, 1)
    facts = json.loads(capsys.readouterr().out)
    assert facts["observations"] == 2
    rows = np.load("o/mean.npy").mean(axis=3)
    assert np.abs(rows - 125).max() < 12


@pytest.mark.parametrize(
    ("mask", "seen"),
    [
        (np.full((8, 8), 100, np.uint8), 192),
        (-np.ones((8, 8)), 192),
        (np.arange(64).reshape(8, 8) < 10, 30),
    ],
)
def test_an_array_shows_what_is_not_0(work, mask, seen):
    from glowflow.cli.solve import Options, _operator

    np.save("mask.npy", mask)
    options = Options(
        model="model", observed="seen.png", operator="mask", mask="mask.npy", noise=1.0
    )
    model = Glow.from_pretrained("model")
    shown = _operator(options, model)(model.to_float(model.sample(1)) * 0 + 1)
    assert shown.sum() == seen


def test_gaps_that_are_masked_may_be_anything(work):
    y = np.full((3, 8, 8), 120.0)
    y[:, :4] = np.nan
    np.save("gaps.npy", y)
    np.save("mask.npy", np.isfinite(y))
    words = ["--observed", "gaps.npy", "--operator", "mask", "--mask", "mask.npy"]
    assert main(["solve", *FEW, *words, "--draws", "10", "--warmup", "50"]) in (0, 1)


def test_a_grey_model_takes_a_grey_picture(work):
    import torch

    model = Glow(GlowConfig(image_shape=(1, 8, 8), levels=1, steps=1, hidden_channels=4))
    model.initialize(torch.randint(90, 160, (32, 1, 8, 8), dtype=torch.uint8))
    model.save_pretrained("grey")
    words = ["--model", "grey", "--observed", "seen.png", "--draws", "10", "--warmup", "50"]
    assert main(["solve", *FEW, *words]) in (0, 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--observed", "none.png"], "There is no file none.png"),
        (["--observed", "seen.png", "--operator", "mask"], "go together"),
        (["--observed", "seen.png", "--mask", "mask.png"], "go together"),
        (["--observed", "seen.png", "--noise", "0"], "--noise is 0"),
        (["--observed", "seen.png", "--operator", "sharpen"], "choose noise, mask"),
        (["--observed", "seen.png", "--operator", "downsample"], "must be of one shape"),
        (["--observed", "seen.png", "--chains", "1"], "give 2 chains"),
        (["--observed", "complex.npy"], "has complex128: give numbers"),
        (["--observed", "none.npy"], "has no observation"),
        (["--observed", "large.npy"], "not finite in float32"),
        (["--observed", "seen.png", "--operator", "mask", "--mask", "zeros.npy"], "shows nothing"),
        (["--observed", "seen.png", "--operator", "mask", "--mask", "nan.npy"], "are no numbers"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(work, capsys, words, says):
    shape = (3, 8, 8)
    np.save("complex.npy", np.zeros(shape, complex))
    np.save("none.npy", np.zeros((0, *shape)))
    np.save("large.npy", np.full(shape, 1e300))
    np.save("zeros.npy", np.zeros((8, 8)))
    np.save("nan.npy", np.full((8, 8), np.nan))
    assert main(["solve", *FEW, *words]) == 2
    assert says in capsys.readouterr().err
    assert not (work / "o").exists()


@pytest.mark.parametrize(("shape", "dtype"), [((1, 8), "float64"), ((2, 4, 4, 4), "float32")])
def test_series_and_cubes_are_solved_in_the_models_dtype(work, shape, dtype):
    import torch

    model = Glow(GlowConfig(image_shape=shape, levels=1, steps=1, hidden_channels=4, bits=None))
    model = model.to(getattr(torch, dtype))
    x = torch.randn(32, *shape, dtype=model.dtype)
    model.initialize(x)
    model.save_pretrained("other")
    y = x[0].double().numpy().copy()
    mask = np.arange(y[0].size).reshape(y[0].shape) % 2 == 0
    np.save("mask.npy", mask)
    y[:, ~mask] = np.nan
    np.save("y.npy", y)
    words = ["--observed", "y.npy", "--operator", "mask", "--mask", "mask.npy", "--noise", "0.3"]
    few = ["--draws", "10", "--warmup", "50", "--chains", "2"]
    assert main(["solve", "--model", "other", *words, *few, "--out", "o"]) in (0, 1)
    samples = np.load("o/samples.npy")
    assert samples.shape == (1, 20, *shape) and samples.dtype == dtype
    assert (work / "o" / "solution.png").is_file()


@pytest.fixture
def problems(monkeypatch):
    """The problems that are to be solved, none of which is."""
    seen = []

    def stop(problem, **how):
        seen.append(problem)
        raise InputError("That is enough.")

    monkeypatch.setattr("glowflow.inverse.solve", stop)
    return seen


@pytest.mark.parametrize("operator", ["blur", "mask", "mine:rises", "mine:rows"])
def test_an_operator_sees_bytes(work, problems, operator):
    import torch

    image = np.asarray(Image.open("seen.png")).transpose(2, 0, 1).astype(np.float32)
    (work / "mine.py").write_text(
        "def rises(x):\n    return x[..., 1:] - x[..., :-1]\n\n\n"
        "def rows(x):\n    return x.sum(dim=(1, 3))\n"
    )
    hole = np.asarray(Image.open("mask.png")) == 0
    observed = {
        "blur": Blur(1.0, "zero")(torch.from_numpy(image)[None])[0].numpy(),
        "mask": image,
        "mine:rises": np.diff(image),
        "mine:rows": np.stack(2 * [image.sum(axis=(0, 2))]),
    }[operator]
    np.save("y.npy", observed)
    extra = {"blur": ["--padding", "zero"], "mask": ["--mask", "mask.png"]}.get(operator, [])
    words = ["solve", "--operator", operator, "--observed", "y.npy", *extra]
    assert main([*words, *FEW]) == 2
    x = torch.from_numpy((image[None] + 0.5) / 256 - 0.5)
    made = problems[0].operator(x)[0]
    assert made.shape == problems[0].observed.shape
    assert (made - problems[0].observed).abs().max() < 1e-2
    assert problems[0].noise == 6
    if operator == "mask":
        assert (problems[0].observed[:, hole] == 0).all()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ValueError('my own')", "fails on a batch of one field (ValueError, my own)"),
        ("return x.detach()", "has no gradient"),
        ("return 5", "has no gradient"),
    ],
)
def test_an_operator_that_cannot_be_used_is_a_sentence(work, problems, capsys, body, says):
    (work / "wrong.py").write_text(f"def wrong(x):\n    {body}\n")
    sys.modules.pop("wrong", None)
    assert main(["solve", "--operator", "wrong:wrong", "--observed", "seen.png", *FEW]) == 2
    assert says in capsys.readouterr().err
    assert problems == []


def test_one_number_may_be_observed_and_what_is_no_image_is_refused(work, problems, capsys):
    (work / "total.py").write_text("def total(x):\n    return x.mean((1, 2, 3))\n")
    np.save("y.npy", np.array([125.0, 130.0], dtype=np.float32))
    assert main(["solve", "--operator", "total:total", "--observed", "y.npy", *FEW]) == 2
    assert problems[0].observed.item() == 125
    np.save("deep.npy", np.full((3, 8, 8), 40_000, dtype=np.uint16))
    assert main(["solve", "--observed", "deep.npy", *FEW]) == 2
    assert "values from 40000 to 40000, and those of images are 0 to 255" in capsys.readouterr().err


def test_an_observation_of_more_bits_has_the_models_range(work, problems):
    model = Glow(GlowConfig(image_shape=(1, 8, 8), levels=1, steps=1, hidden_channels=4))
    model.trained_on = TrainingData(source_range=(0.0, 4095.0))
    model.save_pretrained("deep")
    values = np.linspace(0, 4095, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(values).save("deep.png")
    assert main(["solve", "--observed", "deep.png", *FEW, "--model", "deep"]) == 2
    assert problems[0].observed.max() == 255
