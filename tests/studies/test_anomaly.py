"""The study of anomaly scores."""

import dataclasses
import gzip
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from glowflow import Glow, GlowConfig, InputError
from glowflow.cli import main
from glowflow.data.config import DataConfig
from glowflow.data.open import open_splits
from glowflow.evaluation.estimate import Estimate
from glowflow.studies.measured.anomaly import Anomaly, failures, findings
from glowflow.studies.measured.detection import auroc, auroc_estimate, measure_detection
from glowflow.studies.measured.other_images import MADE
from glowflow.training.as_yaml import to_yaml
from glowflow.training.config import TrainConfig
from tests.conftest import perturb

DATA = DataConfig(data="digits", limit=60, held_out=0.3)
STUDY = Anomaly(images=12, calibration_images=18)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cached(cache, monkeypatch):
    monkeypatch.setenv("GLOWFLOW_CACHE", str(cache))


@pytest.fixture(scope="module")
def splits(cache):
    return open_splits(DATA, cache=cache, progress=False)


@pytest.fixture(scope="module")
def model(splits):
    torch.manual_seed(0)
    config = GlowConfig(image_shape=(1, 16, 16), levels=2, steps=2, hidden_channels=8)
    model = Glow(config)
    model.initialize(torch.tensor(splits.train.images))
    return perturb(model, 0.02).eval()


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """28x28 images in the files' format; the labels are Fashion-MNIST's first."""
    folder = tmp_path_factory.mktemp("fashion")
    random = np.random.default_rng(0)
    labels = bytes([9, 0, 0, 3, 0, 2, 7, 2, 5, 5])
    for part in ("train", "t10k"):
        images = random.integers(0, 256, (10, 28, 28), dtype=np.uint8)
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in images.shape)
        name = folder / f"{part}-images-idx3-ubyte.gz"
        name.write_bytes(gzip.compress(header + images.tobytes()))
        name = folder / f"{part}-labels-idx1-ubyte.gz"
        name.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 10]) + labels))
    return folder


@pytest.fixture(scope="module")
def study(model, splits, fashion, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOWFLOW_CACHE", str(cache))
        return measure_detection(
            model, splits, limit=12, calibration_images=18, fashion=str(fashion), progress=False
        )


def test_every_kind_is_scored_by_every_score(study):
    assert [other.name for other in study.others] == ["faces", "Fashion-MNIST", *MADE]
    assert study.left_out == {"digits": "They are the model's own data."}
    for other in study.others:
        assert list(other.auroc) == ["−log p", "typicality", "complexity", "level 1", "level 2"]
        assert other.images == 12
        for estimate in other.auroc.values():
            assert 0 <= estimate.mean <= 1
    noise = next(other for other in study.others if other.name == "noise")
    assert noise.auroc["−log p"].mean == noise.auroc["typicality"].mean == 1
    assert noise.bits_per_dim > study.bits_per_dim
    for part in ("valid", "train"):
        for uniformity in study.uniformity[part].values():
            assert 1 / 24 <= uniformity.ks <= 1


def test_auroc_is_the_chance_of_a_larger_score():
    own, theirs = np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 2.5, 9.0])
    pairs = [(t > o) + 0.5 * (t == o) for o in own for t in theirs]
    assert auroc(own, theirs) == pytest.approx(np.mean(pairs))
    random = np.random.default_rng(0)
    own, theirs = random.integers(0, 9, 50) / 1.0, random.integers(2, 9, 70) / 1.0
    strange = np.repeat([False, True], [50, 70])
    expected = roc_auc_score(strange, np.concatenate([own, theirs]))
    assert auroc(own, theirs) == pytest.approx(expected)
    same = auroc_estimate(random.normal(size=400), random.normal(size=400), seed=0)
    assert same.mean == pytest.approx(0.5, abs=3 * same.standard_error)
    assert same.standard_error == pytest.approx((801 / 12 / 400**2) ** 0.5, rel=0.3)


def test_a_score_that_fails_is_shown_failing(study):
    (first, *rest) = study.others
    auroc = {**first.auroc, "−log p": Estimate(0.123, 0.01)}
    failing = dataclasses.replace(study, others=(dataclasses.replace(first, auroc=auroc), *rest))
    assert first.name in failures(failing)["−log p"]
    said = findings(failing)
    page = said.files("anomaly")["anomaly.md"].decode()
    assert "0.123 ± 0.010 ✗" in page
    assert "- −log p fails on faces" in page
    assert "−log p is worse than a guess on faces" in said.sentence
    assert json.loads(json.dumps(said.facts))["fails"]["−log p"][0] == "faces"


def test_what_is_made_of_test_images():
    images = np.random.default_rng(1).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    made = {name: make(images, np.random.default_rng(0)) for name, (_, make) in MADE.items()}
    for other in made.values():
        assert (other.shape, other.dtype) == (images.shape, np.uint8)
    assert np.array_equal(made["upside down"][:, :, ::-1], images)
    mixed = [{tuple(p) for p in i.reshape(3, -1).T.tolist()} for i in made["pixels shuffled"]]
    assert mixed == [{tuple(p) for p in i.reshape(3, -1).T.tolist()} for i in images]
    assert not np.array_equal(made["pixels shuffled"], images)
    assert np.array_equal(made["half contrast"], 64 + images // 2)
    assert (made["constants"] == made["constants"][:, :, :1, :1]).all()
    assert len(np.unique(made["constants"][:, 0, 0, 0])) > 1


def test_what_does_not_fit_is_refused(model, splits):
    for name in ("images", "calibration_images", "draws", "batch_size"):
        with pytest.raises(InputError, match=f"{name} is 0"):
            dataclasses.replace(STUDY, **{name: 0}).check(model, splits)
    other = Glow(GlowConfig(image_shape=(1, 8, 8), levels=1, steps=1, hidden_channels=2))
    with pytest.raises(InputError, match="give other data"):
        STUDY.check(other, splits)
    floats = Glow(
        GlowConfig(image_shape=(1, 16, 16), levels=1, steps=1, hidden_channels=2, bits=None)
    )
    with pytest.raises(InputError, match="float data"):
        STUDY.check(floats, splits)


def test_the_command(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained(tmp_path / "run")
    (tmp_path / "run" / "train.yaml").write_text(to_yaml(TrainConfig(data=DATA)))
    code = main(["study", "anomaly", "--model", "run", "--images", "12", "--calibration-images",
                 "18", "--fashion", "nowhere", "--out", "found", "--json"])  # fmt: skip
    captured = capsys.readouterr()
    assert code == 0, captured.err
    facts = json.loads(captured.out)
    assert "no folder or file nowhere" in facts["left_out"]["Fashion-MNIST"]
    page = (tmp_path / "found" / "anomaly.md").read_text()
    assert page.startswith("# Anomaly scores\n\nMean AUROC over 6 kinds")
    saved = json.loads((tmp_path / "found" / "summary.json").read_text())
    assert facts == {"out": "found", **saved}
