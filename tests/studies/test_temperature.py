"""The study of temperatures."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from glowflow import Glow, GlowConfig, InputError
from glowflow.cli import main
from glowflow.data.types import ImageData, Splits
from glowflow.studies.measured.samples import measure_samples
from glowflow.studies.measured.temperature import Temperature, findings
from tests.conftest import perturb
from tests.studies.worlds import SHAPE, Pixels

SIZE = {"levels": 2, "steps": 1, "hidden_channels": 4}
SPREAD = 24.0
"""Standard deviation of the data's values, in bytes."""


class Noise(Pixels):
    """ε = x / (SPREAD / 256): at T = 1 its samples are the data's own distribution."""

    def decode(self, latents, labels=None):
        return super().decode(latents) * (SPREAD / 256)

    def log_prob(self, x, labels=None):
        return torch.distributions.Normal(0.0, SPREAD / 256).log_prob(x).sum((1, 2, 3))


class Breaking(Noise):
    """Nothing but NaN from images that leave [−½, ½)."""

    def decode(self, latents, labels=None):
        x = super().decode(latents)
        outside = (x.abs() > 0.5).flatten(1).any(1)
        return torch.where(outside[:, None, None, None], torch.nan, x)


def noise_images(count, seed):
    values = np.random.default_rng(seed).normal(128, SPREAD, (count, *SHAPE))
    return ImageData(np.clip(values, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def splits():
    parts = (noise_images(120, seed) for seed in range(3))
    return Splits(*parts, "noise", "0" * 64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return perturb(Glow(GlowConfig(image_shape=SHAPE, **SIZE)), 0.05).eval()


def measured(model, splits, **given):
    given = dataclasses.asdict(Temperature(**given))
    return measure_samples(model, splits, progress=False, **given)


def test_the_temperature_of_the_data_is_found(splits):
    study = measured(Noise().eval(), splits, temperatures=(0.0, 0.5, 0.8, 1.0, 1.2, 2.0), count=100)
    assert study.best == 1.0
    assert min(study.gaps) < 0.03
    assert study.gaps == tuple(sorted(study.gaps[:4], reverse=True)) + study.gaps[4:]
    assert study.gaps[4] < study.gaps[5]
    variances = [look.variance for look in study.looks]
    assert variances[0] == 0
    assert variances[1] == pytest.approx(0.25, rel=0.1)
    assert variances[3] == pytest.approx(1, rel=0.1)
    assert study.training.variance == pytest.approx(1, rel=0.1)
    right, own = study.looks[3], study.training
    assert right.to_test.mean == pytest.approx(own.to_test.mean, rel=0.02)
    assert right.from_test.mean == pytest.approx(own.from_test.mean, rel=0.02)
    assert right.bits.mean == pytest.approx(study.test_bits.mean, abs=0.05)
    bits = [look.bits.mean for look in study.looks]
    assert bits == sorted(bits)


def test_at_zero_all_samples_are_one(splits):
    study = measured(Noise().eval(), splits, temperatures=(0.0,), count=20)
    (look,) = study.looks
    middle = np.full((1, *SHAPE), 128.0)
    distances = np.sqrt(((splits.test.images - middle) ** 2).mean((1, 2, 3)))
    chosen = np.linspace(0, 119, 20).round().astype(int)
    assert look.from_test.mean == pytest.approx(distances[chosen].mean(), rel=1e-3)
    assert look.to_test.mean == pytest.approx(distances[chosen].min(), rel=1e-3)
    assert look.to_test.standard_error == pytest.approx(0, abs=1e-6)


def test_its_samples_are_those_of_glow_sample(model, splits):
    study = measured(model, splits, temperatures=(0.5, 1.0), count=6, seed=3, batch_size=4)
    for temperature, images in zip(study.temperatures, study.sheet, strict=True):
        drawn = model.sample(6, temperature=temperature, seed=3).numpy()
        assert np.abs(images.astype(int) - drawn).max() <= 1
        assert (images == drawn).mean() > 0.99


def test_broken_and_saturated_samples_are_counted(splits):
    study = measured(Breaking().eval(), splits, temperatures=(0.1, 3.0), count=50)
    calm, wild = study.looks
    assert calm.broken == calm.saturated == 0
    # NaN becomes 0: each broken sample is wholly black.
    assert wild.broken > 0.9
    assert wild.saturated >= wild.broken
    assert study.training.broken == 0
    clipped = measured(Noise().eval(), splits, temperatures=(3.0,), count=50).looks[0]
    assert clipped.broken == 0
    # P(|N(0, 1)| > 128 / 72)
    assert clipped.saturated == pytest.approx(0.0755, abs=0.01)


def test_without_any_finite_log_p_there_is_no_figure(splits):
    model = Noise().eval()
    model.log_prob = lambda x, labels=None: torch.full((len(x),), torch.nan)
    study = measured(model, splits, temperatures=(1.0,), count=10)
    assert study.looks[0].bits is None
    assert study.looks[0].broken == 1
    said = findings(study)
    assert json.loads(json.dumps(said.facts, allow_nan=False))["test_bits_per_dim"] is None
    assert said.files("temperature")["temperature.png"].startswith(b"\x89PNG")


def test_bits_below_eight_have_a_highest_value(splits):
    config = GlowConfig(image_shape=SHAPE, bits=3, **SIZE)
    images = np.full((10, *SHAPE), 255, dtype=np.uint8)
    images[::2, :, :4] = 0
    bright = Splits(splits.train, splits.valid, ImageData(images), "bright", "0" * 64)
    study = measured(Glow(config).eval(), dataclasses.replace(bright, train=bright.test),
                     temperatures=(0.1,), count=10)  # fmt: skip
    assert study.training.saturated == 1
    assert study.originals.max() == 224


def test_a_class_conditional_model_draws_its_classes(splits):
    config = GlowConfig(image_shape=SHAPE, classes=2, **SIZE)
    model = perturb(Glow(config), 0.1).eval()
    with pytest.raises(InputError, match="give labelled data"):
        Temperature().check(model, splits)
    labels = np.arange(120) % 2
    data = ImageData(splits.train.images, labels, class_names=("a", "b"))
    study = measured(model, Splits(data, data, data, "", ""), temperatures=(0.7,), count=6)
    drawn = model.sample(6, temperature=0.7, seed=0).numpy()
    assert np.abs(study.sheet[0].astype(int) - drawn).max() <= 1


def test_its_files_have_the_figures(model, splits):
    study = measured(model, splits, temperatures=(0.0, 0.7), count=12)
    said = findings(study)
    files = said.files("temperature")
    assert set(files) == {"temperature.md", "temperature.png", "samples.png", "index.html"}
    facts = json.loads(json.dumps(said.facts, allow_nan=False))
    assert [line["temperature"] for line in facts["temperatures"]] == [0.0, 0.7]
    assert facts["best_temperature"] == study.best
    text = files["temperature.md"].decode()
    for look in (*study.looks, study.training):
        assert str(look.to_test) in text and str(look.bits) in text
    assert f"T = {study.best:g} ←" in text


BAD = {
    "count": (1, "count is 1"),
    "draws": (0, "draws is 0"),
    "batch_size": (0, "batch_size is 0"),
    "temperatures": ((0.5, -0.5), "give numbers from 0 up"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings(model, splits, name):
    value, message = BAD[name]
    with pytest.raises(InputError, match=message):
        dataclasses.replace(Temperature(), **{name: value}).check(model, splits)


def test_data_that_do_not_fit(model, splits):
    study = Temperature()
    with pytest.raises(InputError, match="for float data"):
        study.check(Glow(GlowConfig(image_shape=SHAPE, bits=None, **SIZE)), splits)
    with pytest.raises(InputError, match="give other data"):
        study.check(Glow(GlowConfig(image_shape=(1, 16, 16), **SIZE)), splits)
    same = ImageData(np.repeat(splits.test.images[:1], 5, axis=0))
    with pytest.raises(InputError, match="All test images are the same"):
        study.check(model, dataclasses.replace(splits, test=same))
    one = ImageData(splits.test.images[:1])
    with pytest.raises(InputError, match="1 training image"):
        study.check(model, dataclasses.replace(splits, train=one))


@pytest.fixture
def glow(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))
    config = GlowConfig(image_shape=(1, 8, 8), **SIZE)
    perturb(Glow(config), 0.02).eval().save_pretrained(tmp_path / "model")

    def call(*arguments):
        given = ["--model", str(tmp_path / "model"), "--data", "digits"]
        code = main(["study", "temperature", *given, "--out", str(tmp_path / "out"), *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def test_the_command(glow, tmp_path):
    code, out, err = glow("--temperatures", "0:1:0.25", "--count", "8", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["settings"]["temperatures"] == [0, 0.25, 0.5, 0.75, 1]
    assert len(facts["temperatures"]) == 5
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "summary.json", "temperature.md", "temperature.png", "samples.png", "index.html"
    }  # fmt: skip
    width, height = Image.open(tmp_path / "out" / "samples.png").size
    assert width > 8 * 64 and height > 6 * 64


def test_bad_temperatures_leave_nothing(glow, tmp_path):
    for text, message in (("warm", "START:STOP:STEP"), ("-1", "give numbers from 0 up")):
        code, out, err = glow("--temperatures", text)
        assert code == 2 and out == "" and message in err
        assert not (tmp_path / "out").exists()


def test_test_images_that_are_all_the_same_are_refused(model, splits):
    same = ImageData(np.repeat(splits.test.images[:1], 5, axis=0))
    with pytest.raises(InputError, match="all the same: give a larger --count"):
        measured(model, dataclasses.replace(splits, test=same), count=4)
