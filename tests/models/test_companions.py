"""A model is told from all others."""

import pytest
import torch

from glowflow import Glow, GlowConfig, RealNVP, RealNVPConfig
from glowflow.models.companions import identity
from glowflow.nn.coupling_network import CouplingNetwork
from tests.latents.worlds import small_model


@pytest.fixture(scope="module")
def model():
    return small_model()


def test_identity_changes_with_every_weight(model):
    before = identity(model)
    assert identity(model) == before
    with torch.no_grad():
        weight = next(model.parameters()).reshape(-1)
        weight[0] += 1e-6
        changed = identity(model)
        weight[0] -= 1e-6
    assert changed != before


def filled(model):
    with torch.no_grad():
        for weight in model.state_dict().values():
            weight.fill_(1)
    return model


def test_identity_is_that_of_the_first_version():
    """Directions and calibrations of version 0.1.0 are still their model's."""
    glow = Glow(GlowConfig(image_shape=(3, 8, 8), levels=2, steps=1, hidden_channels=2, classes=2))
    config = RealNVPConfig(image_shape=(1, 8, 8), scales=2, residual_blocks=1, hidden_channels=2)
    assert [identity(filled(model))[:12] for model in (glow, RealNVP(config))] == [
        "fb852eff1770",
        "f60d1669a434",
    ]
    assert identity(Glow.from_pretrained("demo-faces"))[:12] == "a83f98989779"


def test_identity_counts_a_later_setting_where_it_is_not_the_default(model):
    other = Glow(model.config, network=CouplingNetwork)
    assert {"network"} == {
        name for name, value in vars(other.config).items() if value != vars(model.config)[name]
    }
    other.load_state_dict(model.state_dict())
    assert identity(other) != identity(model)
