"""The study of principal components."""

import dataclasses
import json

import numpy as np
import pytest

from glowflow import InputError
from glowflow.cli import main
from glowflow.data.types import ImageData
from glowflow.latents.levels import latent_pca
from glowflow.studies.measured.components import Components, mean_variance, share_of_noise
from tests.studies.worlds import NAMES, Pixels, world

STUDY = Components(components=5, images=150)


@pytest.fixture(scope="module")
def splits():
    return world(200, 150)


@pytest.fixture(scope="module")
def found(splits):
    return latent_pca(Pixels().eval(), splits, components=5, limit=150, progress=False)


def test_its_figures_are_those_of_the_pca(splits, found):
    study = STUDY.run(Pixels().eval(), splits, progress=False)
    facts = json.loads(json.dumps(study.facts))
    for level, line in zip(found.levels, facts["levels"], strict=True):
        assert line["explained_variance"] == pytest.approx(level.shares.tolist())
    assert [line["attribute"] for line in facts["readouts"]] == list(NAMES)
    assert [line["all_levels"] for line in facts["readouts"]] == [
        readout.accuracy[-1] for readout in found.readouts
    ]
    assert facts["checksum"] == splits.checksum
    files = study.files("pca")
    text = files["pca.md"].decode()
    for readout in found.readouts:
        cells = " | ".join(f"{v:.1%}" for v in (readout.majority, *readout.accuracy))
        assert f"| {readout.name} | {cells} |" in text
    assert files["pca.png"].startswith(b"\x89PNG")
    assert "4 attributes" in study.sentence


def test_images_without_attributes_are_explained_all_the_same(splits):
    parts = {name: ImageData(getattr(splits, name).images) for name in ("train", "valid", "test")}
    study = STUDY.run(Pixels().eval(), dataclasses.replace(splits, **parts), progress=False)
    assert "no attributes to read off" in study.sentence
    assert "Explained variance" in study.files("pca")["pca.md"].decode()


@pytest.mark.parametrize("images", [16, 64, 400])
def test_noise_has_the_axes_that_noise_has(splits, images):
    random = np.random.default_rng(0)
    noise = ImageData(random.integers(0, 256, (images, 1, 8, 8), dtype=np.uint8))
    blank = dataclasses.replace(splits, train=noise, valid=noise, test=noise)
    found = latent_pca(Pixels().eval(), blank, components=5, progress=False)
    for level in found.levels:
        expected = share_of_noise(level, images)
        assert float(level.shares[0]) == pytest.approx(expected, rel=0.25)
        assert mean_variance(level) == pytest.approx(1 / 12, rel=0.1)


@pytest.mark.parametrize("name", ["components", "images", "minimum", "batch_size"])
def test_bad_settings(splits, name):
    with pytest.raises(InputError, match=f"{name} is 0: give at least 1"):
        dataclasses.replace(STUDY, **{name: 0}).check(Pixels(), splits)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))
    Pixels().save_pretrained(tmp_path / "model")
    call = ["study", "pca", "--model", str(tmp_path / "model"), "--data", "digits", "--images",
            "40", "--minimum", "2", "--out", str(tmp_path / "out"), "--json"]  # fmt: skip
    assert main(call) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["settings"]["images"] == 40
    assert len(facts["readouts"]) == 10
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "summary.json", "pca.md", "pca.png", "index.html"
    }  # fmt: skip
