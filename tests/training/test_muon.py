"""Muon for the weights of networks, Adamax for the rest, as PyTorch's own two do it."""

import copy

import pytest
import torch
from torch import nn

from glowflow import Glow, GlowConfig
from glowflow.training.muon import MuonAdamax
from glowflow.training.optimisation import make_optimizer

LR = 1e-2


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = GlowConfig(
        image_shape=(3, 8, 8), levels=2, steps=1, hidden_channels=8,
        first_map="whitening", rank=16, dense_steps=1, dense_channels=16,
    )  # fmt: skip
    made = Glow(config)
    made.initialize(torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8))
    return made


def gradients(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


def stepped(model, optimizer, steps=3):
    for step in range(steps):
        gradients(model, step)
        optimizer.step()
    return [weight.detach().clone() for weight in model.parameters()]


def test_matrices_are_muons_and_the_rest_adamaxes(model):
    other = copy.deepcopy(model)
    found = stepped(model, make_optimizer(model, "muon", LR))
    kernels = {name for name, w in other.named_parameters() if name.endswith(".weight")}
    assert any("components" in name for name in kernels) and any("conv" in n for n in kernels)
    views = {
        name: nn.Parameter(w.detach().flatten(1).clone())
        for name, w in other.named_parameters()
        if name in kernels
    }
    muon = torch.optim.Muon(views.values(), lr=LR, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    rest = {name: w for name, w in other.named_parameters() if name not in kernels}
    adamax = torch.optim.Adamax(rest.values(), lr=LR)
    for step in range(3):
        gradients(other, step)
        for name, w in other.named_parameters():
            if name in kernels:
                views[name].grad = w.grad.flatten(1)
        muon.step()
        adamax.step()
    for (name, weight), mine in zip(other.named_parameters(), found, strict=True):
        wanted = views[name].view_as(weight) if name in kernels else weight
        torch.testing.assert_close(
            mine, wanted.detach(), rtol=0, atol=0 if name in kernels else 1e-7
        )


def test_an_update_has_a_fifth_of_the_rate_in_every_direction(model):
    before = copy.deepcopy(model.state_dict())
    gradients(model)
    make_optimizer(model, "muon", LR).step()
    name = "levels.1.steps.0.coupling.network.first.weight"
    moved = (model.state_dict()[name] - before[name]).flatten(1)
    lengths = torch.linalg.svdvals(moved)
    rows, columns = moved.shape
    assert lengths / (0.2 * LR * max(rows, columns) ** 0.5) == pytest.approx(1, abs=0.4)


def test_a_saved_state_goes_on_to_the_bit(model, tmp_path):
    other = copy.deepcopy(model)
    whole = stepped(model, make_optimizer(model, "muon", LR))
    first = make_optimizer(other, "muon", LR)
    gradients(other, 0)
    first.step()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = make_optimizer(other, "muon", 1.0)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in (1, 2):
        gradients(other, step)
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(whole, other.parameters(), strict=True))


def test_parameters_without_gradients_stay_and_a_closure_is_called(model):
    optimizer = MuonAdamax(model.named_parameters(), LR)
    before = [weight.detach().clone() for weight in model.parameters()]
    assert optimizer.step(lambda: 3.0) == 3.0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not optimizer.state
