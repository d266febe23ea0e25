"""`glow convert`, and what is done with a converted model afterwards, as a person calls it."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import torch
from PIL import Image

from glowflow import Glow
from glowflow.cli import main
from glowflow.data.sources.celeba import ATTRIBUTES
from glowflow.latents.codes import flatten
from tests.interop.official import variables
from tests.interop.tensorflow_files import write_checkpoint

DIMS = 3 * 16 * 16
SETTINGS = {"n_levels": 2, "depth": 1, "width": 4, "n_bits_x": 5, "image_size": 16}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A training folder of the official code, directions of its demo, and pictures."""
    folder = tmp_path_factory.mktemp("convert")
    made = variables(0, levels=2, steps=1, width=4, coupling="additive")
    averages = {f"{name}/ExponentialMovingAverage": 2 * value for name, value in made.items()}
    slots = {f"Variable_{k + 1}": value for k, value in enumerate(made.values())}
    (folder / "logs").mkdir()
    write_checkpoint(
        folder / "logs" / "model_best_loss.ckpt",
        {**made, **averages, **slots, "Variable": np.float32(11)},
    )
    (folder / "logs" / "train.txt").write_text(json.dumps(SETTINGS) + "\n{}\n")
    (folder / "logs" / "checkpoint").write_text(
        'model_checkpoint_path: "/somewhere/else/model_best_loss.ckpt"\n'
    )
    rng = np.random.default_rng(0)
    np.save(folder / "z_manipulate.npy", rng.normal(size=(40, DIMS)).astype(np.float32))
    (folder / "photos").mkdir()
    for number in range(24):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def glow(work):
    def call(*arguments, code=0):
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(work)
            patch.setenv("GLOWFLOW_CACHE", str(work / "cache"))
            assert main([*map(str, arguments)]) == code, err.getvalue()
        return out.getvalue() if code == 0 else err.getvalue()

    return call


@pytest.fixture(scope="module")
def said(glow):
    given = ["--directions", "z_manipulate.npy", "--out", "model", "--json"]
    return json.loads(glow("convert", "logs", *given))


@pytest.fixture(scope="module")
def model(said, work):
    return Glow.from_pretrained(work / "model")


def test_a_folder_becomes_a_model(said, work, model):
    assert said["format"] == "openai" and said["config"]["coupling"] == "additive"
    assert said["parameters"] == sum(w.numel() for w in model.parameters())
    assert said["left_out"] == [
        "1 step counter (Variable = 11)",
        "30 optimiser slots",
        "30 averages of weights",
    ]
    assert said["directions"] == list(ATTRIBUTES)
    assert json.loads((work / "model" / "convert.json").read_text()) == said
    assert model.initialized and not model.training
    assert (model.trained_on.size, model.trained_on.bits) == ((16, 16), 5)


def test_a_line_for_people(glow, work):
    line = glow("convert", "logs", "--out", "again")
    assert line.count("\n") == 1
    for part in ("2 levels of 1 steps", "images of 3x16x16 and 5 bits", "left out: 1 step counter"):
        assert part in line


def test_directions_move_as_in_the_demo(said, work, model):
    """z + α·row, a row being the levels one after another, each channels last."""
    from glowflow.latents.directions import load_directions
    from glowflow.latents.edits import edit

    directions = load_directions(work / "model" / "directions.safetensors", model).latents
    rows = np.load(work / "z_manipulate.npy")
    x = torch.rand(1, 3, 16, 16) - 0.5
    latents = model.encode(x)

    def channels_last(codes):
        return np.concatenate([eps[0].numpy().transpose(1, 2, 0).ravel() for eps in codes])

    for name, factor in (("Smiling", 1.0), ("Narrow_Eyes", 1.2), ("Young", 1.0), ("No_Beard", 1)):
        moved = channels_last(edit(latents, [directions[name]], [0.5]))
        expected = channels_last(latents) + 0.5 * factor * rows[ATTRIBUTES.index(name)]
        assert np.abs(moved - expected).max() < 1e-5
    assert flatten(tuple(eps[None] for eps in directions["Smiling"])).shape == (1, DIMS)


def test_it_samples_edits_and_evaluates(said, glow, work):
    glow("sample", "--model", "model", "--count", 4, "--out", "drawn")
    assert len(list((work / "drawn").glob("0*.png"))) == 4
    glow("edit", "photos/00.png", "--model", "model", "--attribute", "Smiling", "--amount", 0.5,
         "--out", "smile")  # fmt: skip
    assert (work / "smile" / "edited.png").is_file()
    facts = json.loads(
        glow("evaluate", "--model", "model", "--data", "photos", "--out", "figures", "--json")
    )
    assert facts["evaluation"]["bits"] == 5 and facts["evaluation"]["bytes_changed"] == 0


def test_it_is_trained_on(said, glow, work):
    glow("train", "photos", "--from", "model", "--images", 8, "--batch-size", 8, "--out", "run",
         "--lr", 1e-3, "--warmup-images", 8, "--evaluation-images", 2,
         "--validation-images", 2)  # fmt: skip
    trained, start = (Glow.from_pretrained(work / name) for name in ("run", "model"))
    assert trained.config == start.config
    moved = [
        (a - b).abs().max() for a, b in zip(trained.parameters(), start.parameters(), strict=True)
    ]
    assert all(0 <= change < 0.1 for change in moved) and max(moved) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "There is no file missing"),
        (["photos"], "one checkpoint was looked for and there is none"),
        (["photos/00.png"], "none of the files that are read here"),
        (["z_manipulate.npy"], "is one array, and no model"),
        (["logs", "--bits", "8"], "5 bits and --bits is 8"),
        (["logs", "--from", "tensorflow"], "choose one of openai"),
        (["logs", "--directions", "photos/00.png"], "give the official z_manipulate.npy"),
        (["logs", "--directions", "missing.npy"], "give the official z_manipulate.npy"),
        (["logs", "--directions", "wrong.npy"], r"(40, 768)"),
        (["logs", "--directions", "nan.npy"], "no finite numbers"),
        (["logs", "--directions", "huge.npy"], "no finite numbers in float32"),
    ],
)
def test_a_refusal_leaves_nothing(glow, work, arguments, message):
    np.save(work / "wrong.npy", np.ones((39, DIMS), np.float32))
    np.save(work / "nan.npy", np.full((40, DIMS), np.nan, np.float32))
    np.save(work / "huge.npy", np.full((40, DIMS), 1e300))
    before = {path for path in work.rglob("*") if "cache" not in path.parts}
    answer = glow("convert", *arguments, "--out", "refused", code=2)
    assert message in answer and answer.count("\n") == 1
    assert {path for path in work.rglob("*") if "cache" not in path.parts} == before


def test_nothing_is_overwritten(said, glow):
    assert "is not empty" in glow("convert", "logs", "--out", "model", code=2)
