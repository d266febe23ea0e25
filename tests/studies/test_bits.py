"""The study of bits per dimension: bounds on a probability that is known."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glowflow import Glow, GlowConfig, InputError
from glowflow.cli import main
from glowflow.data.types import ImageData, Splits
from glowflow.evaluation.evaluate import evaluate
from glowflow.models.likelihood import importance_weighted
from glowflow.studies.measured.bits import Bits, findings
from glowflow.studies.measured.bounds import measure_bounds, weightings
from tests.conftest import perturb

SHAPE = (1, 2, 2)
DEVIATION = 0.003
"""Of `Bell`; a byte's bin is 0.0039 wide."""
SIZE = {"levels": 1, "steps": 1, "hidden_channels": 2}


class Bell(Glow):
    """Independent values, each N(0, DEVIATION²): the bytes' probabilities are known."""

    def __init__(self):
        super().__init__(GlowConfig(image_shape=SHAPE, **SIZE))

    def log_prob(self, x, labels=None):
        return torch.distributions.Normal(0.0, DEVIATION).log_prob(x.double()).sum((1, 2, 3))


class Flat(Bell):
    """All of [−½, ½) alike: 8 bits a value whatever the noise."""

    def log_prob(self, x, labels=None):
        return torch.zeros(len(x))


def bytes_of_bell(images):
    """−log₂ P(x) / D, (N,)."""
    edges = torch.from_numpy(images.reshape(len(images), -1) / 256 - 0.5)
    bell = torch.distributions.Normal(0.0, DEVIATION)
    probability = bell.cdf(edges + 1 / 256) - bell.cdf(edges)
    return -probability.log2().mean(1).numpy()


def splits_of(images, **given):
    data = ImageData(images)
    return Splits(data, data, data, "bytes", "0" * 64, **given)


@pytest.fixture(scope="module")
def splits():
    return splits_of(np.random.default_rng(0).integers(126, 130, (40, *SHAPE), dtype=np.uint8))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return perturb(Glow(GlowConfig(image_shape=SHAPE, **SIZE)), 0.1).eval()


def measured(model, splits, images=100, draws=100, **given):
    return measure_bounds(model, splits, limit=images, draws=draws, progress=False, **given)


def test_the_bounds_close_in_on_the_probability_from_above(splits):
    exact = bytes_of_bell(splits.test.images).mean()
    studies = [measured(Bell().eval(), splits, draws=100, seed=seed) for seed in range(8)]
    for count in (1, 10, 100):
        means = [study.weighted[count].mean for study in studies]
        noise = np.std(means, ddof=1) / math.sqrt(len(means))
        above = np.mean(means) - exact
        assert above > -3 * noise
        assert {1: above > 0.1, 10: 0.01 < above < 0.1, 100: above < 0.02}[count], above
    uniform = np.array([study.uniform.mean for study in studies])
    single = np.array([study.weighted[1].mean for study in studies])
    assert np.mean(uniform) == pytest.approx(single.mean(), abs=4 * single.std() / math.sqrt(8))
    assert uniform.std() < single.std() / 5


@settings(deadline=None)
@given(st.lists(st.floats(-300, 300), min_size=2, max_size=3), st.floats(-1e5, 1e5))
def test_the_expected_bound_falls_with_each_draw(values, offset):
    """Over all ways to draw four times from equally probable values: exact expectations."""
    ways = list(itertools.product([offset + value for value in values], repeat=4))
    log_probs = torch.tensor(ways, dtype=torch.float64).T
    expected = importance_weighted(log_probs, (1, 2, 3, 4)).mean(1).tolist()
    truth = torch.tensor(values, dtype=torch.float64).logsumexp(0) - math.log(len(values)) + offset
    slack = 1e-9 * max(1.0, abs(offset))
    assert expected[0] == pytest.approx(offset + sum(values) / len(values), abs=slack)
    for fewer, more in itertools.pairwise([*expected, float(truth)]):
        assert more >= fewer - slack
    if max(values) - min(values) > 1:
        assert expected[3] > expected[0] + 0.01


def test_where_noise_does_not_matter_nothing_is_gained(splits):
    study = measured(Flat().eval(), splits, images=5, draws=10)
    assert study.uniform.mean == study.weighted[1].mean == 8
    assert study.weighted[10].mean == pytest.approx(8)
    assert study.effective.mean == pytest.approx(10)


def test_it_is_the_figure_of_evaluate(model, splits):
    study = measured(model, splits, images=9, draws=3, batch_size=4)
    same = {"train": splits.train, "limit": 9, "progress": False}
    one = evaluate(model, splits.test, draws=1, **same)
    three = evaluate(model, splits.test, draws=3, **same)
    assert study.weighted[1].mean == pytest.approx(one.mean, abs=1e-6)
    assert study.uniform.mean == pytest.approx(three.mean, abs=1e-6)
    assert study.uniform.standard_error == pytest.approx(three.standard_error, abs=1e-6)
    assert (study.images, study.test_images) == (9, 40)
    assert tuple(study.weighted) == (1, 3)


def test_batches_do_not_change_the_figures(model, splits):
    whole, parts = (measured(model, splits, draws=10, batch_size=n) for n in (50, 7))
    for count, bound in whole.weighted.items():
        assert parts.weighted[count].mean == pytest.approx(bound.mean, abs=1e-6)
    assert parts.effective.mean == pytest.approx(whole.effective.mean, rel=1e-4)


def test_which_weightings_are_reported():
    assert weightings(1) == (1,)
    assert weightings(10) == (1, 10)
    assert weightings(250) == (1, 10, 100, 250)
    assert weightings(1000) == (1, 10, 100, 1000)


def test_its_files_have_the_figures(model, splits):
    study = measured(model, splits, draws=10)
    said = Bits(draws=10).run(model, splits, progress=False)
    assert {**said.facts, **findings(study).facts} == said.facts
    facts = json.loads(json.dumps(said.facts))
    assert facts["importance_weighted"]["10"]["mean"] == study.weighted[10].mean
    files = said.files("bits")
    text = files["bits.md"].decode()
    assert all(str(figure) in text for figure in (study.uniform, *study.weighted.values()))
    assert splits.checksum in text and "PNG" in text
    assert files["bits.png"].startswith(b"\x89PNG")


def test_published_figures_stand_beside_the_same_data_only(model, splits):
    known = dataclasses.replace(splits, dataset="cifar10")
    study = Bits(images=3, draws=2)
    named = study.run(model, known, progress=False)
    assert "Glow, published 3.35" in named.sentence
    assert "The published data set cifar10" in named.files("bits")["bits.md"].decode()
    assert "published" not in study.run(model, splits, progress=False).sentence


def test_a_class_conditional_model_is_given_the_labels(splits):
    config = GlowConfig(image_shape=SHAPE, classes=2, **SIZE)
    model = perturb(Glow(config), 0.5).eval()
    with pytest.raises(InputError, match="give labelled data"):
        Bits().check(model, splits)
    figures = []
    for label in (0, 1):
        labels = np.full(len(splits.test), label)
        data = ImageData(splits.test.images, labels, class_names=("a", "b"))
        labelled = Splits(data, data, data, "bytes", "0" * 64)
        figures.append(measured(model, labelled, draws=2).uniform.mean)
    assert abs(figures[0] - figures[1]) > 0.01


@pytest.mark.parametrize("name", ["images", "draws", "batch_size"])
def test_bad_settings(model, splits, name):
    with pytest.raises(InputError, match=f"{name} is 0: give at least 1"):
        dataclasses.replace(Bits(), **{name: 0}).check(model, splits)


def test_data_that_do_not_fit(splits):
    with pytest.raises(InputError, match="for float data"):
        Bits().check(Glow(GlowConfig(image_shape=SHAPE, bits=None, **SIZE)), splits)
    with pytest.raises(InputError, match="give other data"):
        Bits().check(Glow(GlowConfig(image_shape=(1, 4, 4), **SIZE)), splits)


def test_a_log_p_that_is_not_finite_is_said(splits):
    model = Flat().eval()
    model.log_prob = lambda x, labels=None: torch.full((len(x),), torch.nan)
    with pytest.raises(InputError, match="not finite"):
        measured(model, splits, draws=1)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))
    config = GlowConfig(image_shape=(1, 8, 8), levels=2, steps=1, hidden_channels=4)
    perturb(Glow(config), 0.02).eval().save_pretrained(tmp_path / "model")
    call = ["study", "bits", "--model", str(tmp_path / "model"), "--data", "digits", "--images",
            "4", "--draws", "10", "--out", str(tmp_path / "out"), "--json"]  # fmt: skip
    assert main(call) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["importance_weighted"]) == {"1", "10"}
    assert facts["settings"]["draws"] == 10
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"summary.json", "bits.md", "bits.png", "index.html"}
