"""Figures that can be trusted: one model on any batch size, every byte counted."""

import io
import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console

from glowflow import Glow, GlowConfig, InputError
from glowflow.data.types import ImageData
from glowflow.evaluation.evaluate import evaluate
from glowflow.evaluation.published import published
from glowflow.evaluation.table import figure, ranked, round_trip_sentence, table
from tests.conftest import perturb
from tests.evaluation.images import noise


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Glow(GlowConfig(image_shape=(3, 8, 8), levels=2, steps=2, hidden_channels=6))
    model.initialize(torch.from_numpy(noise(64)))
    return perturb(model, 0.02).eval()


def scored(model, data, **options):
    train = ImageData(noise(50, seed=1))
    return evaluate(model, data, train=train, progress=False, **options)


def test_batch_size_does_not_change_the_figures(model):
    data = ImageData(noise(23, seed=2))
    a, b = (scored(model, data, batch_size=size, draws=2) for size in (7, 16))
    assert a.mean == pytest.approx(b.mean, abs=1e-6)
    assert a.standard_error == pytest.approx(b.standard_error, abs=1e-6)


def test_figures_and_round_trip(model):
    data = ImageData(noise(20, seed=2))
    found = scored(model, data, draws=3)
    assert (found.images, found.draws, found.bytes_compared) == (20, 3, 20 * 192)
    assert found.bytes_changed == 0
    assert found.images_unchanged == 20
    assert 0 < found.largest_error < 1e-4
    assert "all 3,840 bytes of 20 images unchanged" in round_trip_sentence(found)
    assert [row.mean for row in ranked(found)] == sorted(row.mean for row in ranked(found))
    assert table(found).row_count == 5
    assert scored(model, data, limit=5).images == 5


def test_more_draws_shrink_the_noise_of_the_figure(model):
    data = ImageData(noise(4, seed=2))
    one = [scored(model, data, seed=s).mean for s in range(8)]
    many = [scored(model, data, seed=s, draws=16).mean for s in range(8)]
    assert np.std(many) < np.std(one)


def test_a_changed_byte_is_counted(model, monkeypatch):
    original = model.decode

    def wrong(latents, labels=None):
        x = original(latents, labels)
        x[0, 0, 0, 0] += 0.5 if x[0, 0, 0, 0] < 0 else -0.5
        return x

    monkeypatch.setattr(model, "decode", wrong)
    found = scored(model, ImageData(noise(6, seed=2)), batch_size=3)
    assert (found.bytes_changed, found.images_unchanged) == (2, 4)
    assert "2 of 1,152 bytes changed, 4 of 6 images unchanged" in round_trip_sentence(found)


def test_labels_are_used():
    model = perturb(
        Glow(GlowConfig(image_shape=(3, 8, 8), levels=1, steps=1, hidden_channels=4, classes=2))
    ).eval()
    images = noise(10)
    train = labelled(images, np.arange(10) % 2)
    figures = [
        evaluate(model, labelled(images, np.full(10, c)), train=train, progress=False).mean
        for c in (0, 1)
    ]
    assert abs(figures[0] - figures[1]) > 1e-4
    for data, others in ((ImageData(images), train), (train, ImageData(images))):
        with pytest.raises(InputError, match="no labels"):
            evaluate(model, data, train=others, progress=False)
    with pytest.raises(InputError, match="between 0 and 1"):
        evaluate(model, labelled(images, np.full(10, 2)), train=train, progress=False)


def labelled(images, labels):
    return ImageData(images, labels=labels.astype(np.int64), class_names=("a", "b"))


class TestClasses:
    """A flow that only permutes, so that z is the pixels and Bayes' rule is known."""

    @pytest.fixture
    def known(self):
        config = GlowConfig(
            image_shape=(1, 2, 2), levels=1, steps=1, hidden_channels=2, coupling="additive",
            permutation="reverse", classes=2,
        )  # fmt: skip
        model = Glow(config).eval()
        with torch.no_grad():
            # p(x | y) = N(±0.2, 0.1²): log p(x | 1) − log p(x | 0) = 40·Σx.
            top = model.levels[-1].split
            top.prior.classes_map.weight[:4] = torch.tensor([-0.2, 0.2])
            top.prior.classes_map.b[4:] = math.log(0.1)
            # The classifier says 1 where Σx is above 0.02.
            top.classifier.weight[1] = 1.0
            top.classifier.b[0] = 0.02
        return model

    def test_log_prob_of_every_class_by_hand(self, known):
        x = torch.linspace(-0.4, 0.4, 20).reshape(5, 1, 2, 2)
        found, logits = known.class_scores(x)
        for label, mean in enumerate((-0.2, 0.2)):
            expected = torch.distributions.Normal(mean, 0.1).log_prob(x).sum(dim=(1, 2, 3))
            torch.testing.assert_close(found[:, label], expected)
        sums = x.sum(dim=(1, 2, 3))
        torch.testing.assert_close(logits, torch.stack([sums * 0 + 0.02, sums], dim=1))

    def test_log_prob_of_every_class_is_the_model_s(self):
        config = GlowConfig(image_shape=(3, 8, 8), levels=2, steps=2, hidden_channels=4, classes=3)
        model = perturb(Glow(config)).double().eval()
        x = torch.rand(4, 3, 8, 8, dtype=torch.float64) - 0.5
        found, logits = model.class_scores(x)
        for label in range(3):
            expected = model.log_prob_and_logits(x, torch.full((4,), label))
            torch.testing.assert_close(found[:, label], expected[0])
            torch.testing.assert_close(logits, expected[1])

    @pytest.mark.parametrize(("share", "by_bayes"), [(0.5, 0.75), (0.1, 0.5)])
    def test_bayes_rule_knows_how_frequent_the_classes_are(self, known, share, by_bayes):
        # With a tenth of class 1, Bayes' rule says 1 where Σx is above log(9) / 40 = 0.055.
        values, labels = np.array([120, 130, 134, 134], dtype=np.uint8), np.array([0, 1, 1, 0])
        images = np.broadcast_to(values[:, None, None, None], (4, 1, 2, 2))
        train = labelled(noise(20, (1, 2, 2)), np.arange(20) < 20 * share)
        found = evaluate(known, labelled(images, labels), train=train, draws=3, progress=False)
        assert (found.bayes_accuracy, found.classifier_accuracy) == (by_bayes, 0.75)
        assert f"{by_bayes:.1%} by Bayes' rule" in str(table(found).caption)
        assert "75.0% by the classifier" in str(table(found).caption)
        direct = [
            known.bits_per_dim(torch.from_numpy(images.copy()), torch.from_numpy(labels))
            for _ in range(50)
        ]
        assert found.mean == pytest.approx(float(torch.stack(direct).mean()), abs=0.05)

    def test_a_model_without_classes_has_no_accuracy(self, model):
        found = scored(model, ImageData(noise(3)))
        assert (found.bayes_accuracy, found.classifier_accuracy) == (None, None)
        assert table(found).caption is None
        with pytest.raises(InputError, match="no classes"):
            model.class_scores(torch.zeros(1, 3, 8, 8))


class TestPublished:
    @pytest.mark.parametrize(
        ("dataset", "figures"),
        [
            ("cifar10", {"Glow, published": 3.35, "RealNVP, published": 3.49}),
            ("imagenet32-old", {"Glow, published": 4.09, "RealNVP, published": 4.28}),
            ("imagenet64-old", {"Glow, published": 3.81, "RealNVP, published": 3.98}),
        ],
    )
    def test_the_same_release_and_bits(self, model, dataset, figures):
        found = scored(model, ImageData(noise(3)), dataset=dataset)
        assert {b.name: b.mean for b in found.published} == figures
        assert {b.name for b in ranked(found)} >= set(figures)
        assert table(found).row_count == 7
        assert f"Read as {dataset}, 8 bits: published" in str(table(found).caption)
        assert (
            json.loads(json.dumps(found.to_dict()))["published"][1]["mean"]
            == figures["Glow, published"]
        )

    @pytest.mark.parametrize("dataset", ["imagenet32-new", "imagenet64-new", "lsun-bedroom"])
    def test_another_release_has_none(self, model, dataset):
        found = scored(model, ImageData(noise(3)), dataset=dataset)
        assert found.published == ()
        assert table(found).row_count == 5
        assert f"Read as {dataset}, 8 bits: no published" in str(table(found).caption)

    @pytest.mark.parametrize("bits", [5, 7, None])
    def test_other_bits_have_none(self, bits):
        assert published("cifar10", bits) == ()

    def test_a_likelihood_given_the_class_has_none(self):
        assert published("cifar10", 8, classes=10) == ()

    def test_other_data_have_none(self, model):
        found = scored(model, ImageData(noise(3)))
        assert (found.published, found.dataset) == ((), "")


def test_float_data():
    model = Glow(GlowConfig(image_shape=(1, 4, 4), levels=1, steps=1, hidden_channels=4, bits=None))
    x = np.random.default_rng(0).normal(size=(30, 1, 4, 4)).astype(np.float32)
    found = evaluate(model.eval(), ImageData(x), train=ImageData(x), progress=False)
    assert (found.bytes_compared, found.draws) == (0, 0)
    assert found.largest_error < 1e-4
    assert [b.mean is None for b in found.baselines] == [True, False, True, True]
    with pytest.raises(InputError, match="float data"):
        evaluate(model, ImageData(noise(3)), train=ImageData(noise(3)), progress=False)


def test_bad_arguments(model):
    with pytest.raises(InputError, match="draws is 0"):
        scored(model, ImageData(noise(3)), draws=0)


def test_one_image_has_a_figure_without_an_error(model):
    found = scored(model, ImageData(noise(1, seed=2)))
    assert found.standard_error is None
    assert str(found.bits_per_dim) == f"{found.mean:.3f}"
    assert table(found).row_count == 5


def test_margins_are_told_from_the_source():
    """A 4x4 picture in an 8x8 frame: the same bits, over a quarter of the values."""
    torch.manual_seed(0)
    model = Glow(GlowConfig(levels=2, steps=1, hidden_channels=4, image_shape=(1, 8, 8))).eval()
    images = np.zeros((6, 1, 8, 8), np.uint8)
    images[:, :, 2:6, 2:6] = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4))
    inside = np.array([16, 16, 16, 16, 32, 64])
    data = ImageData(images, values_inside=inside)
    found = evaluate(model, data, train=data, progress=False)
    assert found.values_inside == inside.mean()
    same = evaluate(model, ImageData(images), train=ImageData(images), progress=False)
    assert same.mean_inside is None
    assert same.mean == found.mean
    first = evaluate(model, data.choose(np.arange(4)), progress=False)
    assert first.mean_inside == pytest.approx(4 * first.mean)
    png = {b.name: b for b in first.baselines}["PNG"]
    assert png.mean_inside == pytest.approx(4 * png.mean)
    console = Console(width=200, file=io.StringIO())
    console.print(table(first))
    shown = console.file.getvalue()
    assert "bits/source value" in shown
    assert "16 an image" in shown
    assert "per source value, margins not counted" in figure(first)


def test_without_training_images_only_codecs_stand_beside():
    model = Glow(GlowConfig(levels=1, steps=1, hidden_channels=4, image_shape=(1, 8, 8))).eval()
    data = ImageData(np.zeros((3, 1, 8, 8), np.uint8))
    names = [b.name for b in evaluate(model, data, progress=False).baselines]
    assert names == ["PNG", "WebP lossless"]


def test_squares_of_a_photograph_are_no_samples_of_their_own(model):
    some = noise(4, (3, 8, 8), seed=2)
    patches = np.stack(
        [np.repeat([0, 1, -1 - 2, 3], 6), np.tile(range(6), 4), np.zeros(24)], axis=1
    )
    squares = ImageData(np.repeat(some, 6, axis=0), patches=patches.astype(np.int64))
    found, alone = scored(model, squares), scored(model, ImageData(some))
    assert found.standard_error == pytest.approx(alone.standard_error, rel=0.5)
    (pixels, _, *_), (alone_pixels, _, *_) = found.baselines, alone.baselines
    assert pixels.standard_error == pytest.approx(alone_pixels.standard_error)
