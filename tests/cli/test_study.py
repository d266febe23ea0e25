"""`glow study`, as a person calls it."""

import json

import pytest
import torch
from PIL import Image

from glowflow import Glow, GlowConfig
from glowflow.cli import main
from glowflow.data.config import DataConfig
from glowflow.models.companions import identity
from glowflow.training.as_yaml import to_yaml
from glowflow.training.config import TrainConfig
from tests.conftest import perturb


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A model that is the folder of a run, and one that is not."""
    folder = tmp_path_factory.mktemp("study")
    for name, bits in (("run", 8), ("float", None)):
        torch.manual_seed(0)
        config = GlowConfig(image_shape=(3, 16, 16), levels=2, steps=1, hidden_channels=4,
                            bits=bits)  # fmt: skip
        perturb(Glow(config), 0.02).eval().save_pretrained(folder / name)
    data = DataConfig(data="faces", faces=60, size=(16, 16))
    (folder / "run" / "train.yaml").write_text(to_yaml(TrainConfig(data=data)), encoding="utf-8")
    return folder


@pytest.fixture
def glow(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    monkeypatch.setenv("GLOWFLOW_CACHE", str(work / "cache"))

    def call(*arguments):
        code = main(["study", *map(str, arguments)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def test_attributes(glow, work):
    code, out, err = glow("attributes", "--model", "run", "--out", "edits", "--attributes",
                          "Smiling", "Long_Hair", "--images", 3, "--validation-images", 2,
                          "--minimum", 5, "--judge-images", 128, "--json")  # fmt: skip
    assert code == 0, err
    facts = json.loads(out)
    written = json.loads((work / "edits" / "summary.json").read_text(encoding="utf-8"))
    details = json.loads((work / "edits" / "details.json").read_text(encoding="utf-8"))
    assert facts == {"out": "edits", **written, **details}
    assert facts["model_identity"] == identity(Glow.from_pretrained(work / "run"))
    assert {row["attribute"] for row in facts["rows"]} == {"Smiling", "Long_Hair"}
    assert {row["test"]["images"] for row in facts["rows"]} == {3}
    assert len(facts["judge"]["held_out"]) == 15
    assert facts["settings"]["judge_images"] == facts["judge"]["images"] == 128
    assert set(facts["seconds"]) == {"judge", "directions", "editing"}
    assert {"device", "processor", "torch", "seed"} <= set(facts["environment"])
    assert {path.name for path in (work / "edits").iterdir()} == {
        "summary.json", "details.json", "attributes.md", "flips.png", "index.html",
        "strip-Smiling.png", "strip-Long_Hair.png",
    }  # fmt: skip
    width, height = Image.open(work / "edits" / "strip-Smiling.png").size
    assert width > 7 * 64 and height > 3 * 64


def test_interpolation_says_the_same_twice(glow, work):
    lines = []
    for name in ("paths", "again"):
        code, out, err = glow("interpolation", "--model", "run", "--pairs", 3, "--steps", 3,
                              "--draws", 1, "--out", name)  # fmt: skip
        assert code == 0, err
        assert out.count("\n") == 1 and out.endswith(f"Results: {name}\n")
        lines.append(out.removesuffix(f"{name}\n"))
    assert lines[0] == lines[1]
    assert {path.name for path in (work / "paths").iterdir()} == {
        "summary.json", "interpolation.md", "interpolation.png", "strip.png", "index.html"
    }  # fmt: skip


def test_each_study_has_its_own_options(capsys):
    for name, flag in (("attributes", "--judge-images"), ("interpolation", "--pairs")):
        with pytest.raises(SystemExit) as stopped:
            main(["study", name, "--help"])
        assert stopped.value.code == 0
        assert flag in capsys.readouterr().out


BAD = {
    "no model": (["attributes", "--model", "none"], "There is no model at none"),
    "float model": (["attributes", "--model", "float", "--data", "digits"], "for float data"),
    "no data known": (["interpolation", "--model", "float"], "give --data"),
    "no attributes": (
        ["attributes", "--model", "run", "--data", "digits", "--upscale"], "have no attributes",
    ),
    "no such attribute": (
        ["attributes", "--model", "run", "--attributes", "Wings"], "no attribute 'Wings'",
    ),
    "too rare": (["attributes", "--model", "run", "--minimum", "99"], "No attribute can be edited"),
    "no pairs": (["interpolation", "--model", "run", "--pairs", "0"], "pairs is 0"),
    "no room": (["interpolation", "--model", "run", "--out", "run"], "run exists"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(name, glow, work):
    arguments, message = BAD[name]
    before = sorted(p for p in work.rglob("*") if "cache" not in p.parts)
    code, out, err = glow(*arguments)
    lines = [line for line in err.splitlines() if line.startswith("glow study: ")]
    assert code == 2 and out == ""
    assert len(lines) == 1 and message in lines[0], err
    assert sorted(p for p in work.rglob("*") if "cache" not in p.parts) == before
