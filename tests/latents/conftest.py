"""What the tests share."""

import pytest
import torch

from glowflow import Glow, GlowConfig
from tests.conftest import perturb
from tests.latents.worlds import images


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GlowConfig(image_shape=(3, 8, 8), levels=2, steps=2, hidden_channels=6)
    model = Glow(config)
    model.initialize(images(64))
    return perturb(model, 0.02).eval()
