"""`glow score`, as a person calls it."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from glowflow import Glow, GlowConfig
from glowflow.cli import main
from glowflow.data.config import DataConfig
from glowflow.data.open import open_images, open_splits
from glowflow.evaluation.calibration import load_calibration
from glowflow.models.registry import load_model
from glowflow.training.as_yaml import to_yaml
from glowflow.training.config import TrainConfig
from tests.conftest import perturb


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    data = DataConfig(data="digits", limit=90, held_out=0.3)
    splits = open_splits(data, cache=folder / "cache", progress=False)
    torch.manual_seed(0)
    config = GlowConfig(image_shape=(1, 16, 16), levels=2, steps=2, hidden_channels=8)
    model = Glow(config)
    model.initialize(torch.tensor(splits.train.images))
    perturb(model, 0.02).eval().save_pretrained(folder / "run")
    (folder / "run" / "train.yaml").write_text(to_yaml(TrainConfig(data=data)))
    perturb(model, 0.02).save_pretrained(folder / "other")
    (folder / "photos").mkdir()
    for i, image in enumerate(splits.test.images[:5]):
        Image.fromarray(image[0]).save(folder / "photos" / f"{i}, a digit.png")
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "photos" / "noise.png")
    Image.fromarray(np.full((16, 16), 7, dtype=np.uint8)).save(folder / "photos" / "constant.png")
    return folder


@pytest.fixture(autouse=True)
def _there(work, monkeypatch):
    monkeypatch.chdir(work)
    monkeypatch.setenv("GLOWFLOW_CACHE", str(work / "cache"))
    monkeypatch.setenv("COLUMNS", "250")


def facts_of(capsys, *arguments):
    code = main(["score", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert captured.out.count("\n") == 1
    return json.loads(captured.out)


@pytest.fixture(scope="module")
def scored(work, tmp_path_factory):
    """Scores of photos/, and the calibration that came with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.setenv("GLOWFLOW_CACHE", str(work / "cache"))
        assert main(["score", "photos", "--model", "run", "--out", "scored", "--json"]) == 0
    return work / "scored"


def table_of(folder):
    with (folder / "scores.csv").open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_a_row_for_every_image_of_a_folder(scored):
    rows = table_of(scored)
    assert list(rows) == [*(f"{i}, a digit.png" for i in range(5)), "constant.png", "noise.png"]
    for row in rows.values():
        values = {name: float(value) for name, value in row.items() if name != "name"}
        assert np.isfinite(list(values.values())).all()
        levels = values["log_prob_level_1"] + values["log_prob_level_2"]
        assert levels == pytest.approx(values["log_prob"], abs=1e-6)
        bits = -values["log_prob"] / np.log(2) / 256 + 8
        assert bits == pytest.approx(values["bits_per_dim"], abs=1e-6)
        for name in ("p_log_prob", "p_typicality", "p_complexity"):
            assert 1 / 28 <= values[name] <= 1
    assert float(rows["noise.png"]["p_log_prob"]) == pytest.approx(1 / 28)
    facts = json.loads((scored / "score.json").read_text())
    assert facts["calibration_images"] == 27
    assert facts["calibrated_on"].startswith("scikit-learn's handwritten digits")
    assert "valid" in facts["calibrated_on"]
    assert (facts["by"], facts["strangest"][0]["name"]) == ("complexity", "constant.png")


def test_a_calibration_is_used_again(work, scored, capsys):
    file = scored / "calibration.safetensors"
    assert len(load_calibration(file, load_model(work / "run"))) == 27
    facts = facts_of(capsys, "photos", "--model", "run", "--calibration", file, "--out", "again")
    assert facts["calibration"] == str(file)
    assert (work / "again" / "scores.csv").read_bytes() == (scored / "scores.csv").read_bytes()
    assert not (work / "again" / "calibration.safetensors").exists()


def test_batches_are_judged_together(work, scored, capsys):
    facts = facts_of(capsys, "photos", "--model", "run", "--calibration",
                     scored / "calibration.safetensors", "--batch-typicality", 5, "--out",
                     "batches", "--by", "typicality")  # fmt: skip
    assert (facts["batches"]["size"], facts["batches"]["count"]) == (5, 2)
    rows = table_of(work / "batches")
    assert [row["batch"] for row in rows.values()] == ["0"] * 5 + ["1"] * 2
    scores = [float(row["typicality"]) for row in rows.values()]
    assert facts["strangest"][0]["typicality"] == max(scores)


def test_the_runs_own_test_images_by_default(capsys):
    code = main(["score", "--model", "run", "--out", "own", "--images", "6"])
    captured = capsys.readouterr()
    assert code == 0
    assert captured.out.count("\n") == 1
    assert "27 calibration images say no p-value below 0.036" in captured.out
    assert "own/scores.csv" in captured.out
    assert "strangest by" in captured.err


def test_the_run_s_own_array_of_several(work, capsys):
    digits = open_images(DataConfig(data="digits"), progress=False).data.images
    np.savez(work / "several.npz", wrong=255 - digits[:40], right=digits[:30])
    np.save(work / "right.npy", digits[:30])
    (work / "of-several").mkdir()
    for name in ("config.json", "model.safetensors"):
        (work / "of-several" / name).write_bytes((work / "run" / name).read_bytes())
    data = DataConfig(data=str(work / "several.npz"), array="right", held_out=0.2)
    (work / "of-several" / "train.yaml").write_text(to_yaml(TrainConfig(data=data)))
    facts = facts_of(capsys, work / "several.npz", "--model", "of-several", "--out", "by-array")
    alone = facts_of(capsys, "right.npy", "--model", "of-several", "--out", "by-file",
                     "--calibration", "by-array/calibration.safetensors")  # fmt: skip
    assert facts["images"] == alone["images"] == 30
    assert facts["bits_per_dim"] == pytest.approx(alone["bits_per_dim"], abs=1e-6)


def test_enough_calibration_images_count_the_strange(work, capsys):
    digits = open_images(DataConfig(data="digits"), progress=False).data
    np.save("others.npy", digits.images[::9])
    code = main(["score", "photos", "--model", "run", "--calibration-data", "others.npy", "--out",
                 "counted"])  # fmt: skip
    captured = capsys.readouterr()
    assert code == 0
    assert "1 of 7 images have p ≤ 0.01 by complexity" in captured.out
    assert "the strangest is constant.png" in captured.out


def test_frames_of_an_array_are_scored_in_their_order(work, scored, capsys):
    digits = open_images(DataConfig(data="digits"), progress=False).data.images[:23].copy()
    digits[20:] = 7
    np.save("series.npy", digits)
    facts = facts_of(capsys, "series.npy", "--model", "run", "--calibration",
                     scored / "calibration.safetensors", "--batch-typicality", 10, "--out",
                     "series")  # fmt: skip
    rows = table_of(work / "series")
    assert list(rows) == [str(number) for number in range(23)]
    assert [row["batch"] for row in rows.values()] == ["0"] * 10 + ["1"] * 10 + ["2"] * 3
    same = {row["complexity"] for row in list(rows.values())[20:]}
    assert {row["name"] for row in facts["strangest"][:3]} == {"20", "21", "22"}, same


def test_one_image_file_and_a_folder_of_two(work, scored, capsys):
    one = work / "photos" / "noise.png"
    again = ("--model", "run", "--calibration", scored / "calibration.safetensors")
    facts = facts_of(capsys, one, *again, "--out", "one")
    assert (facts["images"], facts["strangest"][0]["name"]) == (1, "noise.png")
    (work / "two").mkdir()
    for name in ("noise.png", "constant.png"):
        (work / "two" / name).write_bytes((work / "photos" / name).read_bytes())
    assert facts_of(capsys, "two", *again, "--out", "both")["images"] == 2


def refused(capsys, *arguments):
    code = main(["score", *map(str, arguments)])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("glow score:")]
    assert len(lines) == 1
    return lines[0]


BAD = {
    "another model's calibration": (
        ["photos", "--model", "other", "--calibration", "scored/calibration.safetensors"],
        "of another model",
    ),
    "a calibration of other draws": (
        ["photos", "--model", "run", "--calibration", "scored/calibration.safetensors", "--draws",
         "2"],
        "give --draws 1",
    ),
    "no calibration": (["photos", "--model", "other"], "give --calibration, or --calibration-data"),
    "no such calibration": (["photos", "--model", "run", "--calibration", "none"], "no file none"),
    "both": (
        ["photos", "--model", "run", "--calibration", "a", "--calibration-data", "digits"],
        "not both",
    ),
    "no such data": (["nowhere", "--model", "run"], "There is no folder or file nowhere"),
    "no model": (["photos", "--model", "nowhere"], "There is no model at nowhere"),
    "no draws": (["photos", "--model", "run", "--draws", "0"], "draws is 0"),
    "no batch": (["photos", "--model", "run", "--batch-typicality", "0"], "typicality is 0"),
    "output in use": (["photos", "--model", "run", "--out", "photos"], "photos exists"),
    "another shape": (["--model", "misfit"], "the model takes (1, 8, 8)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(work, scored, capsys, name):
    if not (work / "misfit").exists():
        config = GlowConfig(image_shape=(1, 8, 8), levels=1, steps=1, hidden_channels=2)
        Glow(config).save_pretrained(work / "misfit")
        yaml = (work / "run" / "train.yaml").read_text()
        (work / "misfit" / "train.yaml").write_text(yaml)
    arguments, message = BAD[name]
    before = sorted(p for p in work.rglob("*") if "cache" not in p.parts)
    assert message in refused(capsys, *arguments)
    assert sorted(p for p in work.rglob("*") if "cache" not in p.parts) == before
