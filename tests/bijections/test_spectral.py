"""Fields whose spectrum is known become white noise."""

import math

import numpy as np
import pytest
import torch
from benchmarks.science.gaussian import draw, spectrum

from glowflow import Architecture
from glowflow.bijections import SpectralWhitening
from glowflow.data.types import ImageData
from glowflow.training.config import TrainConfig
from glowflow.training.first_map import first_map_chosen


@pytest.mark.parametrize("grid", [(8,), (8, 6), (4, 5, 6)], ids=["1-d", "2-d", "3-d"])
def test_the_density_of_fields_of_a_known_spectrum(grid):
    powers = spectrum(grid, corner=2.0)
    fields = 3 * draw(powers, 3000, np.random.default_rng(0))[:, None] + 7
    x = torch.from_numpy(fields)
    first = SpectralWhitening((1, *grid)).double()
    first.fit(x[:2000])
    y, log_det = first(x[2000:])
    log_prob = (-0.5 * y.square() - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1) + log_det
    exact = 0.5 * np.log(2 * np.pi * np.e * 9 * powers).mean()
    assert float(-log_prob.mean()) / powers.size == pytest.approx(exact, abs=0.02)
    white = first(x[:2000])[0]
    assert white.mean().abs() < 1e-9
    covariance = torch.cov(white.flatten(1).T)
    assert (covariance - torch.eye(powers.size)).abs().max() < 0.15


def test_waves_that_no_field_has_are_not_divided_by_zero():
    x = torch.randn(50, 2, 4, 4).mean((2, 3), keepdim=True).expand(-1, -1, 4, 4)
    first = SpectralWhitening((2, 4, 4))
    first.fit(x)
    y, log_det = first(x)
    assert torch.isfinite(y).all() and torch.isfinite(log_det).all()
    assert torch.allclose(first.inverse(y)[0], x, atol=1e-5)
    same = SpectralWhitening((1, 4, 4))
    same.fit(torch.ones(5, 1, 4, 4))
    assert torch.equal(same(torch.ones(1, 1, 4, 4))[0], torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize(("padding", "chosen"), [("periodic", "spectral"), ("zero", "whitening")])
def test_training_chooses_it_for_periodic_fields(padding, chosen):
    images = np.random.default_rng(0).normal(size=(20, 1, 4, 4)).astype(np.float32)
    model = Architecture(first_map="auto", padding=padding)
    config = first_map_chosen(TrainConfig(model=model), ImageData(images))
    assert config.model.first_map == chosen
