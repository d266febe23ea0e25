"""Data on one and three axes on the command line: train, resume, evaluate, sample, check."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glowflow import Architecture, load_model
from glowflow.cli import main, train
from glowflow.cli.options import parse
from glowflow.data.types import ImageData, Splits
from glowflow.reports.pictures import CELL, crossed, grid, pictured
from glowflow.training.checkpoint import load_checkpoint
from glowflow.training.initialisation import model_config_of
from tests.children import Child
from tests.cli.test_conditional import answer, refusal
from tests.training.runs import CONFIG, losses, run, stop_in

pytestmark = pytest.mark.usefixtures("unseen_plots")
COUNT = 260
PROCESS = "line"
"""The run that is made by a process of its own."""
SMALL = (
    "--images", 64, "--batch-size", 32, "--levels", 1, "--steps", 1, "--hidden-channels", 4,
    "--validation-images", 8, "--evaluation-images", 8,
)  # fmt: skip
RUNS = {
    "line": ["data.npz", "--target", "line", "--condition", "coarse,theta"],
    "lines": ["data.npz", "--target", "lines", "--grid", 1, "--padding", "periodic"],
    "block": ["block.npy", "--memory", "reversible"],
    "blocks": ["data.npz", "--target", "blocks", "--condition", "halved", "--padding", "periodic"],
}
SHAPES = {"line": (1, 16), "lines": (2, 8), "block": (1, 4, 4, 4), "blocks": (2, 4, 2, 4)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The data, beside which the runs are."""
    folder = tmp_path_factory.mktemp("grids")
    rng = np.random.default_rng(0)
    line = rng.normal(size=(COUNT, 16)).cumsum(1)
    blocks = rng.normal(size=(COUNT, 2, 4, 2, 4))
    np.savez(
        folder / "data.npz",
        line=line,
        coarse=line[:, None, ::4],
        theta=line.mean(1),
        lines=rng.normal(size=(COUNT, 2, 8)),
        blocks=blocks,
        halved=blocks[:, :1, ::2, :, ::2],
    )
    np.save(folder / "block.npy", rng.normal(size=(COUNT, 1, 4, 4, 4)))
    np.savez(folder / "observed.npz", coarse=line[:2, None, ::4], theta=line[:2].mean(1))
    return folder


def trained(folder, name):
    """The run of this name, which the first call makes."""
    out = folder / name
    if not out.exists():
        command = ["train", *RUNS[name], *SMALL, "--out", out, "--device", "cpu", "--json"]
        arguments = [str(folder / each) if each == RUNS[name][0] else str(each) for each in command]
        if name == PROCESS:
            code, said, error = Child(["-m", "glowflow", *arguments], cwd=folder).answer()
            assert code == 0, error
            assert json.loads(said)["images"] == 64
        else:
            with redirect_stdout(io.StringIO()):
                assert main(arguments) == 0
    return out


@pytest.mark.parametrize("name", RUNS)
def test_a_run(runs, name, capsys, monkeypatch, tmp_path):
    run = trained(runs, name)
    monkeypatch.chdir(runs)
    model = load_model(str(run))
    assert model.config.image_shape == SHAPES[name] and model.trained_on.size is None
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "8 test samples" in page and "Nearest training samples" in page
    assert sorted(run.glob("samples/*.png")) and (run / "report.html").is_file()
    facts = answer(capsys, "evaluate", "--model", run)["evaluation"]
    dims = np.prod(SHAPES[name])
    assert facts["nats_per_sample"] == pytest.approx(facts["mean"] * dims * np.log(2))
    beside = {each["name"]: each["mean"] for each in facts["baselines"]}
    assert any(figure is not None for each, figure in beside.items() if "Gaussian" in each), beside
    again = answer(capsys, "evaluate", "--model", run, "--data", RUNS[name][0], "--split", "all")
    assert again["evaluation"]["images"] == COUNT
    assert main(["check", "--model", str(run), "--count", "20", "--out", str(tmp_path / "c")]) < 2
    assert (tmp_path / "c" / "spectrum.png").is_file()


@pytest.mark.parametrize("name", ["lines", "block"])
def test_samples(runs, name, capsys, tmp_path, monkeypatch):
    run = trained(runs, name)
    answer(capsys, "sample", "--model", run, "--count", 5, "--out", tmp_path / "drawn")
    drawn = np.load(tmp_path / "drawn" / "samples.npy")
    assert drawn.shape == (5, *SHAPES[name]) and drawn.dtype == np.float32
    assert Image.open(tmp_path / "drawn" / "grid.png").width > 100
    several = ("sample", "--model", run, "--count", 3, "--temperature", "0.5:1:0.5")
    assert main([*map(str, several), "--out", str(tmp_path / "several")]) == 0
    assert capsys.readouterr().out.startswith("Drew 3 samples at 2 temperatures")
    assert (tmp_path / "several" / "grid.png").is_file()


def test_samples_of_what_is_given(runs, capsys, tmp_path):
    run = trained(runs, "line")
    given = ("--given", runs / "observed.npz", "--count", 5, "--out", tmp_path / "draws")
    assert answer(capsys, "sample", "--model", run, *given)["observations"] == 2
    assert np.load(tmp_path / "draws" / "samples.npy").shape == (2, 5, 1, 16)


def test_a_run_goes_on(runs, capsys, monkeypatch):
    run = trained(runs, "lines")
    monkeypatch.chdir(runs)
    assert answer(capsys, "train", "--resume", run, "--images", 96)["images"] == 96


@pytest.mark.parametrize("shape", [(1, 8), (1, 4, 4, 4)])
def test_a_stopped_run_goes_on_to_the_same_numbers(shape, tmp_path):
    rng = np.random.default_rng(0)
    train, valid, test = (ImageData(rng.normal(size=(n, *shape))) for n in (40, 8, 8))
    splits = Splits(train, valid, test, "noise", "0")
    model = Architecture(levels=1, steps=2, hidden_channels=4)
    config = replace(CONFIG, model=model, images=64, memory="reversible")
    run(config, splits, tmp_path / "whole")
    stop_in(3, tmp_path / "cut", splits, config)
    run(config, splits, tmp_path / "cut", resume=True)
    whole, cut = (load_checkpoint(tmp_path / name).model for name in ("whole", "cut"))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert all((whole[name] == weight).all() for name, weight in cut.items())


@pytest.mark.parametrize("name", ["lines", "block"])
def test_what_is_for_pictures_is_refused(runs, name, capsys, tmp_path):
    run = trained(runs, name)
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture)
    for command in (
        ["reconstruct", picture],
        ["directions"],
        ["edit", picture, "--all"],
        ["interpolate", picture, picture],
        ["pca"],
        ["score"],
        ["study", "temperature"],
    ):
        assert "this command is for models of images" in refusal(capsys, *command, "--model", run)
    asked = ["solve", "--observed", picture, "--noise", 0.1, "--model", run]
    assert "give an array to --observed" in refusal(capsys, *asked)
    for how in ("torch", "onnx", "web"):
        assert "is for models of images" in refusal(capsys, "export", run, "--format", how)


def test_a_study_that_trains_is_of_images(runs, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(runs)
    data = ("--data", "block.npy", "--out", tmp_path / "study")
    assert "This is for images" in refusal(capsys, "study", "permutations", *data)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("flag", [["--flip"], ["--shift", 1], ["--family", "realnvp"]])
def test_what_is_for_images_in_training_is_refused(runs, flag, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(runs)
    out = tmp_path / "none"
    said = refusal(capsys, "train", "block.npy", *flag, "--out", out)
    assert "mirrored or shifted" in said or "give channels, height and width" in said
    assert not out.exists()


def test_data_and_their_card(runs, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(runs)
    facts = answer(capsys, "data", "info", "block.npy", "--sheet", tmp_path / "sheet.png")
    assert facts["shape"] == [1, 4, 4, 4] and Path(facts["sheet"]).is_file()
    assert "260 samples on a grid of 4x4x4, 1 channel" in facts["source"]
    run, folder = trained(runs, "lines"), tmp_path / "card"
    answer(capsys, "push", run, "me/lines", "--dry-run", "--out", folder)
    assert "data on a grid of 8, floats" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("flags", [[], ["--family", "realnvp"]])
def test_bits_none_is_what_float_data_have_without_it(flags):
    command = ["--data", "series.npy", *flags]
    told = parse(train, "train", "", [*command, "--bits", "None"]).train
    found, usual = (
        model_config_of(config, "series", (1, 8, 8), "float32")
        for config in (told, parse(train, "train", "", command).train)
    )
    assert found == usual and found.bits is None


@pytest.mark.parametrize("name", ["line", "block"])
def test_a_run_is_planned_from_its_file(runs, name, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    assert main(["plan", *map(str, (*RUNS[name], *SMALL)), "--device", "h100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    model = load_model(str(trained(runs, name)))
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert tuple(found["model"]["image_shape"]) == SHAPES[name]


class TestPictures:
    def test_a_block_is_its_middle_slice(self):
        blocks = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.float32).reshape(2, 3, 4, 5, 6)
        assert np.array_equal(pictured(blocks), blocks[:, :, 2])

    def test_a_line_is_a_curve(self):
        line = np.array([[[0.0, 1.0, 0.5, 0.5]], [[3.0, 3.0, 3.0, 3.0]]])
        curve = pictured(line)
        assert curve.shape == (2, 1, CELL, CELL) and set(np.unique(curve)) == {0, 255}
        each = CELL // 4
        ink = curve[0, 0] == 0
        assert ink[CELL - 1, : each - 1].all() and ink[0, each : 2 * each].all()
        assert ink[:, each].all()  # from the least to the largest
        assert (ink.sum(0)[2 * each + 1 :] == 1).all()

    def test_what_is_not_finite_is_crossed(self):
        lines = np.random.default_rng(0).normal(size=(3, 2, 8))
        lines[1], lines[2, 0, 3] = np.nan, np.inf
        shown = crossed(lines, np.array([True, False, True]))
        assert shown.shape == (3, 1, CELL, CELL) and (shown[1] == 255).any()
        assert grid(shown).size == grid(lines).size
