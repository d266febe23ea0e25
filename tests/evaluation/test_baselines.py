"""Baselines against known values."""

import math

import numpy as np
import pytest
import torch

from glowflow.errors import InputError
from glowflow.evaluation.baselines import independent_pixels
from glowflow.evaluation.codecs import of_large_images, png, webp
from glowflow.evaluation.gaussian import gaussian, gaussian_given
from tests.evaluation.images import noise


def uniform(n: int, *, high: int = 256, shape: tuple[int, int, int] = (1, 4, 4), seed: int = 0):
    return np.random.default_rng(seed).integers(0, high, (n, *shape), dtype=np.uint8)


def test_independent_pixels_by_hand():
    # One position, train {0, 0, 128}, 1 bit: counts + 1 = (3, 2) of 5.
    train = np.array([0, 0, 128], dtype=np.uint8).reshape(3, 1, 1, 1)
    images = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1)
    figure = independent_pixels(train, images, bits=1)
    assert figure.mean == pytest.approx((math.log2(5 / 3) + math.log2(5 / 2)) / 2)


@pytest.mark.parametrize("bits", [1, 5, 8])
def test_independent_pixels_of_uniform_noise_need_all_bits(bits):
    figure = independent_pixels(uniform(20_000), uniform(500, seed=1), bits=bits)
    assert figure.mean == pytest.approx(bits, abs=0.03)


def test_independent_pixels_keep_positions_apart():
    train = np.zeros((1000, 1, 1, 2), dtype=np.uint8)
    train[:, 0, 0, 1] = 255
    same = independent_pixels(train, train[:10], bits=8)
    swapped = independent_pixels(train, train[:10, :, :, ::-1], bits=8)
    assert same.mean == pytest.approx(math.log2(1256 / 1001))
    assert swapped.mean == pytest.approx(math.log2(1256))


def test_gaussian_agrees_with_the_entropy_of_gaussian_integers():
    rng = np.random.default_rng(3)
    mix = rng.normal(size=(6, 6)) * 8 + np.eye(6) * 20
    draws = np.clip(np.rint(128 + 0.5 * rng.normal(size=(30_000, 6)) @ mix.T), 0, 255)
    images = draws.astype(np.uint8).reshape(-1, 1, 2, 3)
    covariance = 0.25 * mix @ mix.T + np.eye(6) / 6  # rounding and dequantisation: 1/12 each
    entropy = 0.5 * np.linalg.slogdet(2 * math.pi * math.e * covariance)[1] / 6 / math.log(2)
    figure = gaussian(images[:25_000], images[25_000:], bits=8)
    assert figure.mean == pytest.approx(entropy, abs=0.02)
    assert figure.mean < independent_pixels(images[:25_000], images[25_000:]).mean - 0.1


def test_a_gaussian_given_the_same_is_the_conditional_one():
    """x = c + noise of 0.1: the mean is known from c, and only the noise is left."""
    random = np.random.default_rng(0)
    c = random.normal(size=(3000, 4)).astype(np.float32)
    x = (c + 0.1 * random.normal(size=(3000, 4))).astype(np.float32).reshape(-1, 1, 2, 2)
    found = gaussian_given((x[:2000], c[:2000]), (x[2000:], c[2000:]))
    entropy = 0.5 * np.log2(2 * np.pi * np.e * 0.01)
    assert found.mean == pytest.approx(entropy, abs=0.03) and found.standard_error < 0.03
    c[0, 0] = np.nan
    assert gaussian_given((x, c), (x, c)).mean is None


def test_gaussian_of_float_data_is_differential():
    values = np.random.default_rng(0).normal(3.0, 0.01, (5000, 1, 2, 2)).astype(np.float32)
    entropy = 0.5 * math.log2(2 * math.pi * math.e * 0.01**2)
    assert entropy < 0
    assert gaussian(values[:4000], values[4000:], bits=None).mean == pytest.approx(
        entropy, abs=0.03
    )


def test_gaussian_of_constant_images():
    constant = np.full((50, 1, 2, 2), 77, dtype=np.uint8)
    # All that is left is the noise, variance 1/12 but uniform: E (u - 1/2)² / (2/12) = 1/2.
    expected = 0.5 * math.log2(2 * math.pi * math.e / 12)
    images = np.repeat(constant, 40, axis=0)
    assert gaussian(constant, images).mean == pytest.approx(expected, abs=0.02)
    floats = gaussian(constant.astype(np.float32), constant.astype(np.float32), bits=None)
    assert floats.mean is None and "singular" in floats.note


def test_gaussian_with_fewer_images_than_dimensions_is_shrunk():
    rng = np.random.default_rng(0)
    smooth = np.clip(128 + np.cumsum(rng.normal(0, 12, (400, 1, 8, 8)), axis=3), 0, 255)
    images = smooth.astype(np.uint8)
    figure = gaussian(images[:40], images[40:])
    assert "shrunk by 0 " not in figure.note
    assert figure.mean < independent_pixels(images[:40], images[40:]).mean


@pytest.mark.parametrize("bits", [8, None])
def test_gaussian_of_few_images_is_the_multivariate_normal(bits):
    """Of 20 images in 48 dimensions, against torch's density of the covariance written out."""
    train, image = uniform(20, shape=(3, 4, 4)), uniform(1, shape=(3, 4, 4), seed=1)
    if bits is None:
        train, image = train / np.float32(7), image / np.float32(7)
    figure = gaussian(train, image, bits=bits, seed=5)
    shrinkage = float(figure.note.split("shrunk by ")[1].split()[0])
    rows = torch.from_numpy(train.reshape(20, -1).astype(np.float64))
    value = torch.from_numpy(image.reshape(-1).astype(np.float64))
    mean, covariance = rows.mean(0), torch.cov(rows.T, correction=0)
    covariance = (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().diag()
    if bits is not None:
        noise = np.random.default_rng(5)
        noise.random((4, 48))  # of the four training images that chose the shrinkage
        mean, value = mean + 0.5, value + torch.from_numpy(noise.random(48))
        covariance = covariance + torch.eye(48) / 12
    normal = torch.distributions.MultivariateNormal(mean, covariance)
    expected = -float(normal.log_prob(value)) / 48 / math.log(2)
    assert figure.mean == pytest.approx(expected, rel=1e-9)


def test_gaussian_is_the_same_for_the_same_seed():
    train, images = uniform(100), uniform(20, seed=1)
    assert gaussian(train, images, seed=4) == gaussian(train, images, seed=4)
    assert gaussian(train, images, seed=4) != gaussian(train, images, seed=5)


def test_gaussian_says_why_not():
    large = np.zeros((10, 3, 64, 64), dtype=np.uint8)
    assert gaussian(large, large).mean is None
    assert "4,096" in gaussian(large, large).note
    few = uniform(3)
    assert gaussian(few, few).mean is None


@pytest.mark.parametrize("codec", [png, webp])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_codecs_cannot_compress_noise_but_compress_constants(codec, channels):
    noise = codec(uniform(3, shape=(channels, 48, 48)))
    assert 8.0 <= noise.mean < 8.6
    constant = codec(np.full((3, channels, 48, 48), 9, dtype=np.uint8))
    assert constant.mean < 0.5
    assert constant.standard_error == 0.0


@pytest.mark.parametrize("codec", [png, webp])
def test_codecs_compress_the_quantised_image(codec):
    images = uniform(2, shape=(3, 32, 32))
    quantised = images >> 4 << 4
    assert codec(images, bits=4) == codec(quantised, bits=8)
    assert codec(images, bits=4).mean < 5.5


def test_codecs_say_why_not():
    assert webp(uniform(2, shape=(2, 8, 8))).mean is None
    assert png(np.zeros((2, 3, 8, 8), dtype=np.float32), bits=None).mean is None
    assert "RGB" in webp(uniform(2)).note


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match="same channels"):
        independent_pixels(uniform(5), uniform(5, shape=(3, 4, 4)))
    with pytest.raises(InputError, match="no images"):
        gaussian(uniform(0), uniform(5))


class TestBaselines:
    @pytest.mark.parametrize("bits", [1, 4, 8])
    def test_independent_pixels_of_uniform_noise_are_all_the_bits(self, bits):
        train, test = noise(8000, (1, 2, 2)), noise(500, (1, 2, 2), seed=1)
        assert independent_pixels(train, test, bits).mean == pytest.approx(bits, abs=0.06)

    def test_independent_pixels_by_hand(self):
        train = np.array([0, 0, 128], dtype=np.uint8).reshape(3, 1, 1, 1)
        test = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1)
        expected = -(math.log2(3 / 5) + math.log2(2 / 5)) / 2
        assert independent_pixels(train, test, 1).mean == pytest.approx(expected)

    def test_gaussian_of_gaussian_floats_is_its_entropy(self):
        random = np.random.default_rng(0)
        mix = random.normal(size=(4, 4))
        x = (random.normal(size=(40_000, 4)) @ mix.T).astype(np.float32).reshape(-1, 1, 2, 2)
        entropy = 0.5 * np.linalg.slogdet(2 * math.pi * math.e * mix @ mix.T)[1]
        found = gaussian(x[:30_000], x[30_000:], None)
        assert found.mean == pytest.approx(entropy / 4 / math.log(2), abs=0.02)

    def test_gaussian_of_correlated_bytes_beats_independent_pixels(self):
        random = np.random.default_rng(0)
        base = random.normal(128, 40, (3000, 1, 1, 1))
        x = (base + random.normal(0, 3, (3000, 1, 3, 3))).clip(0, 255).astype(np.uint8)
        assert gaussian(x[:2500], x[2500:]).mean < independent_pixels(x[:2500], x[2500:]).mean - 1

    def test_gaussian_is_not_fitted_above_its_limit(self):
        found = gaussian(noise(20), noise(5), max_dims=10)
        assert found.mean is None
        assert "192" in found.note

    @pytest.mark.parametrize("codec", [png, webp])
    def test_codecs(self, codec):
        flat = np.zeros((4, 3, 64, 64), dtype=np.uint8)
        assert codec(flat).mean < 0.2
        assert codec(noise(4, (3, 64, 64))).mean > 8.0
        assert codec(noise(4, (3, 64, 64)), bits=2).mean < 3.5
        assert codec(noise(4, (7, 8, 8))).mean is None

    @pytest.mark.parametrize(("code", "found"), [(1, None), (0, 8.0 * 77 / 192)])
    def test_jpeg_xl_is_what_its_program_makes(self, tmp_path, monkeypatch, code, found):
        program = tmp_path / "cjxl"
        program.write_text(f'#!/bin/sh\n[ {code} = 0 ] && head -c 77 "$1" > "$2"\nexit {code}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        figures = {each.name: each for each in of_large_images([*noise(1)], 8, "x", progress=False)}
        assert figures["JPEG XL lossless, x"].mean == found
        assert figures["PNG, x"].mean > 8.0

    def test_shapes_must_agree(self):
        with pytest.raises(InputError, match="same channels"):
            independent_pixels(noise(3), noise(3, (1, 8, 8)))
