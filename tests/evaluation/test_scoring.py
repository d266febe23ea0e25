"""Anomaly scores: each against its formula, and p-values that are what they say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from glowflow import Glow, GlowConfig, InputError, RealNVP, RealNVPConfig
from glowflow.data.types import ImageData
from glowflow.evaluation.calibration import (
    Calibration,
    calibrate,
    load_calibration,
    save_calibration,
)
from glowflow.evaluation.codecs import code_lengths, png, webp
from glowflow.evaluation.comparison import (
    batch_typicality,
    columns,
    compare,
    p_values,
    strangeness,
    typicality,
)
from glowflow.evaluation.evaluate import evaluate
from glowflow.evaluation.scoring import LEAST, Scores, score
from tests.conftest import perturb


def noise(count, shape=(3, 8, 8), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def make(kind="glow", **changes):
    torch.manual_seed(0)
    if kind == "realnvp":
        config = {"image_shape": (3, 8, 8), "scales": 3, "residual_blocks": 1, "hidden_channels": 4}
        model = RealNVP(RealNVPConfig(**{**config, **changes}))
    else:
        config = {"image_shape": (3, 8, 8), "levels": 3, "steps": 2, "hidden_channels": 6}
        model = Glow(GlowConfig(**{**config, **changes}))
    if model.config.bits is None:
        model.initialize(torch.randn(32, *model.config.image_shape))
    else:
        model.initialize(torch.from_numpy(noise(32, model.config.image_shape)))
    return perturb(model, 0.05).eval()


@pytest.fixture(scope="module")
def model():
    return make()


MODELS = {
    "glow": {},
    "one level": {"levels": 1},
    "plain top": {"learn_top": False},
    "five bits": {"bits": 5, "coupling": "additive"},
    "grey": {"image_shape": (1, 16, 8)},
    "float data": {"bits": None},
    "realnvp": {"kind": "realnvp"},
    "realnvp, one scale": {"kind": "realnvp", "scales": 1},
    "realnvp, float data": {"kind": "realnvp", "bits": None},
}


@pytest.mark.parametrize("name", MODELS)
def test_levels_sum_to_log_p(name):
    model = make(**MODELS[name]).double()
    shape = model.config.image_shape
    x = torch.rand(5, *shape, dtype=torch.float64) - 0.5
    found = model.log_prob_by_level(x)
    assert found.shape == (5, len(model.latent_shapes))
    with torch.no_grad():
        expected = model.log_prob(x)
    assert torch.allclose(found.sum(1), expected, rtol=1e-10, atol=1e-8)


def test_a_level_is_the_density_of_its_latent_given_the_deeper_ones(model):
    """log p_ℓ without the log-determinant, by torch's own normal distribution."""
    x = torch.rand(4, 3, 8, 8) - 0.5
    with torch.no_grad():
        level = model.levels[0]
        z, by_level = level.steps(level.squeeze(x)[0])
        z1, z2 = z.chunk(2, dim=1)
        mean, log_std = level.split.prior(z1)
        normal = torch.distributions.Normal(mean, log_std.exp())
        expected = normal.log_prob(z2).flatten(1).sum(1) + by_level
    assert torch.allclose(model.log_prob_by_level(x)[:, 0], expected, atol=1e-3)


def test_a_conditional_model_is_the_mixture_of_its_classes():
    model = make(classes=3).double()
    x = torch.rand(4, 3, 8, 8, dtype=torch.float64) - 0.5
    with torch.no_grad():
        by_class = [model.log_prob(x, torch.full((4,), label)) for label in range(3)]
    expected = torch.stack(by_class).exp().mean(0).log()
    found = model.log_prob_by_level(x)
    assert found.shape == (4, 3)
    assert torch.allclose(found.sum(1), expected, atol=1e-8)


@pytest.mark.parametrize("kind", ["glow", "realnvp"])
def test_scores_are_the_figures_of_evaluate(kind):
    model, data = make(kind), ImageData(noise(11, seed=2))
    train = ImageData(noise(30, seed=1))
    found = score(model, data, draws=3, limit=7, seed=5, batch_size=3, progress=False)
    figures = evaluate(
        model, data, train=train, draws=3, limit=7, seed=5, batch_size=4, progress=False
    )
    assert found.bits_per_dim.mean() == pytest.approx(figures.mean, abs=1e-6)
    assert np.array_equal(found.indices, np.linspace(0, 10, 7).round())
    nats = -found.log_prob / (192 * math.log(2)) + 8
    assert found.bits_per_dim == pytest.approx(nats, abs=1e-12)
    assert found.by_level.sum(1) == pytest.approx(found.log_prob, abs=1e-9)


def test_complexity_by_hand(model):
    images = noise(4, seed=3)
    images[1] = 77
    found = score(model, ImageData(images), progress=False)
    for i, image in enumerate(images):
        codecs = [codec(image[None], 8).mean * 192 for codec in (png, webp)]
        assert found.complexity[i] == pytest.approx(
            found.bits_per_dim[i] * 192 - min(codecs), abs=1e-9
        )


def test_a_constant_image_has_a_short_code():
    images = noise(3, (3, 16, 16))
    images[2] = 200
    lengths = code_lengths(images)
    assert lengths[2] < 0.1 * lengths[:2].min()
    assert lengths[2] % 8 == 0
    assert code_lengths(images, bits=3)[0] < lengths[0]
    assert code_lengths(np.zeros((2, 3, 8, 8), dtype=np.float32), None) is None
    assert code_lengths(np.zeros((2, 2, 8, 8), dtype=np.uint8)) is None


def test_float_data_have_no_complexity():
    model = make(bits=None)
    images = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32)
    found = score(model, ImageData(images), progress=False)
    assert found.complexity is None
    comparison = compare(found, calibrate(model, ImageData(images), progress=False))
    assert comparison.p_complexity is None
    assert "complexity" not in columns(found, comparison)
    with pytest.raises(InputError, match="choose typicality or log_prob"):
        strangeness(found, comparison, "complexity")


def by_hand(log_prob, complexity=None):
    log_prob = np.asarray(log_prob, dtype=float)
    return Scores(np.arange(len(log_prob)), log_prob, log_prob[:, None], -log_prob, complexity)


REFERENCE = Calibration(np.array([-10.0, -20.0, -30.0]), np.array([1.0, 2.0, 3.0]), 1, "model")


def test_typicality_and_p_values_by_hand():
    scores = by_hand([-20.0, -5.0, -100.0], np.array([2.0, 0.0, 9.0]))
    found = compare(scores, REFERENCE)
    assert found.typicality.tolist() == [0, 15, 80]
    assert found.p_typicality.tolist() == [1, 0.25, 0.25]
    assert found.p_log_prob.tolist() == [0.75, 1, 0.25]
    assert found.p_complexity.tolist() == [0.75, 1, 0.25]
    assert strangeness(scores, found, "log_prob").tolist() == [20, 5, 100]
    assert strangeness(scores, found, "typicality") is found.typicality
    assert strangeness(scores, found, "complexity") is scores.complexity


def test_batches_by_hand():
    found = batch_typicality(by_hand([-20, -30, -14, -16, -90]), REFERENCE, 2)
    assert found.typicality.tolist() == [5, 5, 70]
    # |mean of two − 20| is 0, 5 or 10 with probabilities 3/9, 4/9, 2/9.
    assert found.p_value[:2] == pytest.approx(6 / 9, abs=0.06)
    assert found.p_value[2] == 1 / 1001
    again = batch_typicality(by_hand([-20, -30, -14, -16, -90]), REFERENCE, 2)
    assert np.array_equal(found.p_value, again.p_value)
    comparison = compare(by_hand([-20, -30, -14, -16, -90]), REFERENCE)
    listed = columns(by_hand([-20, -30, -14, -16, -90]), comparison, found)
    assert listed["batch"].tolist() == [0, 0, 1, 1, 2]
    assert listed["batch_typicality"].tolist() == [5, 5, 5, 5, 70]
    with pytest.raises(InputError, match="batch is 0"):
        batch_typicality(by_hand([-20]), REFERENCE, 0)


def test_a_batch_finds_what_single_images_do_not_show():
    random = np.random.default_rng(0)
    reference = Calibration(random.normal(0, 1, 2000), None, 1, "model")
    shifted = by_hand(random.normal(0.7, 1, 640))
    assert (compare(shifted, reference).p_typicality <= 0.01).mean() < 0.1
    assert (batch_typicality(shifted, reference, 64).p_value <= 0.01).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=40))
def test_p_values_of_exchangeable_scores_are_valid(values):
    """Each of n + 1 scores in turn against the others: at most k of n + 1 have p ≤ k/(n + 1)."""
    scores = np.array(values, dtype=float)
    found = np.array([p_values(s[None], np.delete(scores, i))[0] for i, s in enumerate(scores)])
    for k in range(1, len(scores) + 1):
        assert (found <= k / len(scores)).sum() <= k
    if len(set(values)) == len(values):
        assert sorted(found) == [k / len(scores) for k in range(1, len(scores) + 1)]


def test_new_images_of_the_same_kind_have_uniform_p_values(model):
    reference = calibrate(model, ImageData(noise(99, seed=1)), progress=False)
    found = compare(score(model, ImageData(noise(99, seed=2)), progress=False), reference)
    for p in (found.p_log_prob, found.p_typicality, found.p_complexity):
        assert 0.4 < p.mean() < 0.6
        assert (p <= 0.1).mean() < 0.2
    constant = np.full((1, 3, 8, 8), 128, dtype=np.uint8)
    odd = compare(score(model, ImageData(constant), progress=False), reference)
    assert odd.p_complexity[0] == 1 / 100


def test_calibration_is_read_back_by_the_same_model_only(model, tmp_path):
    path = tmp_path / "c.safetensors"
    data = ImageData(noise(9))
    made = calibrate(model, data, draws=2, source="noise", progress=False)
    save_calibration(path, made)
    found = load_calibration(path, model)
    assert np.array_equal(found.log_prob, made.log_prob)
    assert np.array_equal(found.complexity, made.complexity)
    assert (found.draws, found.source, found.model) == (2, "noise", made.model)
    with pytest.raises(InputError, match="of another model"):
        load_calibration(path, make(steps=1))
    with pytest.raises(InputError, match="no file"):
        load_calibration(tmp_path / "none", model)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match="damaged"):
        load_calibration(path, model)
    save_file({"log_prob": made.log_prob}, path, {"kind": "something else"})
    with pytest.raises(InputError, match="not hold a calibration"):
        load_calibration(path, model)
    broken = {"kind": "glowflow calibration", "format": "1", "model": made.model, "draws": "1"}
    save_file({"log_prob": np.array([np.nan])}, path, {**broken, "source": ""})
    with pytest.raises(InputError, match="not finite"):
        load_calibration(path, model)


def test_what_does_not_fit_is_refused(model):
    data = ImageData(noise(3))
    with pytest.raises(InputError, match=r"the model takes \(3, 8, 8\)"):
        score(model, ImageData(noise(3, (3, 16, 16))), progress=False)
    with pytest.raises(InputError, match="uint8 images"):
        score(model, ImageData(np.zeros((3, 3, 8, 8), dtype=np.float32)), progress=False)
    with pytest.raises(InputError, match="no images"):
        score(model, ImageData(noise(0)), progress=False)
    for option in ("draws", "batch_size", "limit"):
        with pytest.raises(InputError, match="at least 1"):
            score(model, data, progress=False, **{option: 0})


def test_what_overflows_is_the_strangest_and_no_calibration():
    model = make(bits=None)
    images = np.zeros((5, 3, 8, 8), dtype=np.float32)
    images[2] = 1e25
    with torch.no_grad():
        assert not torch.isfinite(model.log_prob(torch.from_numpy(images))[2])
    found = score(model, ImageData(images), draws=2, progress=False)
    assert found.log_prob[2] <= LEAST
    kept = [0, 1, 3, 4]
    calibration = calibrate(model, ImageData(images[kept]), progress=False)
    comparison = compare(found, calibration)
    assert comparison.p_typicality[2] == comparison.p_log_prob[2] == 1 / 5
    for values in columns(found, comparison).values():
        assert np.isfinite(values).all()
    with pytest.raises(InputError, match="of 1 of 5 calibration images is not finite"):
        calibrate(model, ImageData(images), draws=2, progress=False)


def test_typicality_is_a_distance():
    assert typicality(np.array([-20.0, -25.0, -15.0]), REFERENCE).tolist() == [0, 5, 5]


@pytest.mark.parametrize(("count", "size"), [(100, 100), (180, 50), (1000, 50)])
def test_batches_of_the_calibrations_kind_are_rarely_strange(count, size):
    random = np.random.default_rng(0)
    values = []
    for seed in range(600):
        known = by_hand(random.normal(size=count))
        reference = Calibration(known.log_prob, known.log_prob, 1, "model")
        found = batch_typicality(by_hand(random.normal(size=size)), reference, size, seed=seed)
        values.append(found.p_value[0])
    assert (np.array(values) <= 0.05).mean() < 0.09
