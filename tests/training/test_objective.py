"""What a step minimises, and what it is computed in."""

import math
from dataclasses import replace

import pytest
import torch

from glowflow import Glow
from glowflow.training.initialisation import model_config_for
from glowflow.training.objective import Objective

from .runs import CONFIG


def test_objective_adds_the_bits_of_the_labels(splits):
    config = model_config_for(replace(CONFIG, conditional=True), splits)
    model = Glow(config)
    x = torch.zeros(2, 1, 8, 8)
    loss, bits = Objective(model)(x, torch.tensor([0, 1]))
    assert (loss - bits).item() == pytest.approx(0.01 * math.log2(3), rel=1e-4)


def test_bf16_is_close_and_only_inside_the_networks(splits):
    model = Glow(model_config_for(CONFIG, splits))
    x = model.to_float(torch.from_numpy(splits.train.images), noise="center")
    model.initialize(torch.from_numpy(splits.train.images))
    expected = model.log_prob(x)
    model.use(precision="bf16")
    found = model.log_prob(x)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() / 64 < 0.05
    found.sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
    model.use(precision="float32")
    assert torch.equal(model.log_prob(x), expected)
