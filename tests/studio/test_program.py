"""What is recorded of a model gives the very bits of the model, or is not taken."""

import pytest
import torch

from glowflow import Glow, GlowConfig, RealNVP, RealNVPConfig
from glowflow.nn.coupling_network import CouplingNetwork
from glowflow.studio.program import program_of
from glowflow.studio.stage import Change, Stage

from ..conftest import perturb
from .pages import directions_of, noise, small_model

SHAPE = (3, 16, 16)


def realnvp():
    torch.manual_seed(0)
    model = RealNVP(
        RealNVPConfig(image_shape=SHAPE, scales=1, residual_blocks=1, hidden_channels=8)
    )
    model.initialize(torch.from_numpy(noise(16)))
    return model.eval()


class Looking(CouplingNetwork):
    """Does something else where it sees a large value, which no recording can know."""

    def forward(self, x):
        return super().forward(x) * (2.0 if x.sum() > 0 else 1.0)


def looking():
    torch.manual_seed(0)
    model = Glow(
        GlowConfig(image_shape=SHAPE, levels=2, steps=2, hidden_channels=8), network=Looking
    )
    model.initialize(torch.from_numpy(noise(16)))
    return perturb(model, 0.05).eval()


MODELS = {
    "glow": (small_model, None),
    "classes": (lambda: small_model(classes=3), 2),
    "realnvp": (realnvp, None),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_program_gives_the_bits_of_the_model(name):
    make, label = MODELS[name]
    model = make().requires_grad_(False)
    labels = None if label is None else torch.tensor([label])
    with torch.inference_mode(), model.frozen():
        program = program_of(model)
        assert program is not None
        for image in torch.from_numpy(noise(4, seed=8)):
            code = model.encode(model.to_float(image[None], noise="center"), labels)
            for share in (1.0, 0.0, 3.0):
                moved = tuple(share * eps for eps in code)
                ways = program(moved, labels), model.decode(moved, labels)
                assert torch.equal(*(x.nan_to_num() for x in ways))


def test_what_depends_on_values_is_not_recorded():
    model = looking().requires_grad_(False)
    with torch.inference_mode(), model.frozen():
        assert program_of(model) is None


def test_what_fails_in_the_comparison_is_not_taken(monkeypatch):
    model = looking().requires_grad_(False)

    def recorded_only(network, x):
        if not torch.jit.is_tracing():
            raise RuntimeError("a part that can only be recorded")
        return CouplingNetwork.forward(network, x)

    monkeypatch.setattr(Looking, "forward", recorded_only)
    with torch.inference_mode(), model.frozen():
        assert program_of(model) is None


def test_one_picture_is_edited_by_it_to_the_same_bytes():
    model = small_model()
    plain, fast = (Stage(model, "small", directions_of(model)) for _ in range(2))
    fast.make_fast()
    assert fast._program is not None and plain._program is None
    (picture,) = fast.take(noise(1))
    for amounts in ({}, {"Smiling": 1.5}, {"Smiling": -2.0, "Long_Hair": 0.3}):
        images = [each.edit(picture, Change(amounts)).image for each in (plain, fast)]
        assert (images[0] == images[1]).all()
        assert amounts or (images[0] == noise(1)[0]).all()
