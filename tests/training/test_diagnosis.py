"""Where a NaN or an infinity came from, in words."""

import math

import pytest
import torch

from glowflow import Glow, GlowConfig
from glowflow.training.diagnosis import describe, find_nonfinite, find_nonfinite_gradient

from .runs import CONFIG


def test_diagnosis_of_outputs_and_gradients():
    model = Glow(GlowConfig.of(CONFIG.model, (1, 8, 8)))
    x = torch.zeros(2, 1, 8, 8)
    assert find_nonfinite(model, lambda: model(x)) is None
    infinite = x.clone()
    infinite[0, 0, 0, 0] = math.inf
    assert "the input of level 1" in find_nonfinite(model, lambda: model(infinite))
    assert find_nonfinite_gradient(model) is None
    weight = model.get_parameter("levels.0.steps.0.coupling.network.first.b")
    weight.grad = torch.full_like(weight, math.nan)
    assert find_nonfinite_gradient(model) == (
        "the gradient of level 1, step 1, coupling, network.first.b"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "levels.1.steps.4.coupling.network.last",
            "level 2, step 5, coupling, network.last",
        ),
        ("levels.0.squeeze", "level 1, squeeze"),
        ("levels.0", "level 1"),
        ("levels.2.split.prior", "level 3, split, prior"),
        ("mine.conv", "mine.conv"),
    ],
)
def test_places_in_words(name, words):
    assert describe(name) == words
