"""A look at a model: levels, condition numbers, scales, the round trip, and what it warns of."""

import math

import numpy as np
import pytest
import torch

from glowflow import Glow, GlowConfig, RealNVP, RealNVPConfig
from glowflow.data.types import ImageData
from glowflow.training.health import as_metrics, concerns, measure_health
from tests.conftest import perturb

SHAPE = {"image_shape": (3, 8, 8)}


def data(count=6):
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    return ImageData(images)


def glow(**changes):
    torch.manual_seed(0)
    model = Glow(GlowConfig(**SHAPE, levels=2, steps=2, hidden_channels=8, **changes))
    model.initialize(torch.from_numpy(data(16).images))
    return perturb(model, 0.05).eval()


def test_a_glow():
    model = glow()
    health = measure_health(model, data())
    bits = model.bits_per_dim(torch.from_numpy(data().images)).mean()
    assert sum(health.bits_by_level) + 8 == pytest.approx(float(bits), abs=0.05)
    conditions = [
        [float(np.linalg.cond(step.permutation.matrix().detach())) for step in level.steps]
        for level in model.levels
    ]
    assert health.condition_by_level == pytest.approx([max(c) for c in conditions], rel=1e-4)
    assert len(health.smallest_scale_by_level) == 2
    pairs = zip(health.smallest_scale_by_level, health.largest_scale_by_level, strict=True)
    assert all(0 < low < high < 1 for low, high in pairs)  # sigmoid
    assert 0 < health.round_trip_error < 1e-4
    assert not concerns(as_metrics(health), bits=8, clip=50.0)
    assert not any(m._forward_hooks for m in model.modules())


def test_models_without_some_of_it():
    additive = measure_health(glow(coupling="additive", permutation="reverse"), data())
    assert additive.condition_by_level == additive.smallest_scale_by_level == ()
    assert "condition_by_level" not in as_metrics(additive)
    torch.manual_seed(0)
    realnvp = RealNVP(RealNVPConfig(**SHAPE, scales=2, hidden_channels=4, residual_blocks=1))
    realnvp.initialize(torch.from_numpy(data(16).images))
    found = measure_health(realnvp.eval(), data())
    assert found.condition_by_level == () and len(found.smallest_scale_by_level) == 2


def test_concerns_say_what_to_do():
    model = glow()
    with torch.no_grad():
        model.levels[1].steps[0].permutation.log_s[0] = math.log(1e-6)
    said = concerns(as_metrics(measure_health(model, data())), bits=8, clip=50.0)
    assert any("Level 2's 1x1 convolutions" in line and "--lr" in line for line in said)
    figures = {
        "smallest_scale_by_level": [1e-5, 0.5],
        "largest_scale_by_level": [1.0, math.nan],
        "round_trip_error": math.nan,
        "grad_norm": 1e5,
    }
    said = concerns(figures, bits=None, clip=50.0)
    assert [line.split()[0] for line in said] == ["Level", "Level", "Images", "The"]


def test_images_known_by_heart_are_a_concern():
    def said(seen, held_out, bits=8):
        figures = {"bits_per_dim": seen, "valid_bits_per_dim": held_out}
        return concerns(figures, bits=bits, clip=50.0)

    (line,) = said(4.89, 10.5)
    assert "10.50 bits/dim, more than the 8 of their bytes, and those of training 4.89" in line
    assert "--first-map none" in line
    assert not said(4.89, 6.0)
    assert not said(9.8, 10.5)
    assert not said(-4.0, 2.0, bits=None)
