"""A model says on an accelerator what it says on the processor, and there what it should."""

import copy
from dataclasses import replace

import pytest
import torch

from glowflow import Glow, GlowConfig, RealNVP, RealNVPConfig
from glowflow.training.loop import train
from tests.conftest import ACCELERATOR, perturb
from tests.training.runs import CONFIG, losses, splits  # noqa: F401

SHAPE = (3, 8, 8)
SMALL = {"image_shape": SHAPE, "levels": 2, "steps": 3, "hidden_channels": 8}
MODELS = {
    "glow": lambda: Glow(GlowConfig(**SMALL, classes=3)),
    "additive": lambda: Glow(GlowConfig(**SMALL, coupling="additive", permutation="plain")),
    "realnvp": lambda: RealNVP(
        RealNVPConfig(image_shape=SHAPE, scales=2, residual_blocks=1, hidden_channels=4)
    ),
}
DEVICES = ["cpu", pytest.param("accelerator", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(ACCELERATOR if request.param == "accelerator" else request.param)


@pytest.fixture(autouse=True)
def _float32_in_full(monkeypatch):
    """Convolutions of an accelerator may otherwise round their inputs to 10 bits (TF32)."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(params=MODELS)
def model(request):
    model = MODELS[request.param]()
    model.initialize(torch.randint(0, 256, (32, *SHAPE), dtype=torch.uint8))
    return perturb(model, 0.05).eval()


def batch(model, dtype=torch.float32):
    x = (torch.rand(6, *SHAPE, dtype=torch.float64) - 0.5) * 0.98
    labels = torch.arange(6) % 3 if model.config.classes else None
    return x.to(dtype), labels


def on(device, labels):
    return None if labels is None else labels.to(device)


def test_codes_images_and_densities_are_those_of_float64_on_the_processor(model, device):
    x, labels = batch(model)
    exact, moved = copy.deepcopy(model).double(), copy.deepcopy(model).to(device)
    expected = exact.encode(x.double(), labels)
    latents = moved.encode(x.to(device), on(device, labels))
    assert {eps.device.type for eps in latents} == {device.type}
    for found, right in zip(latents, expected, strict=True):
        torch.testing.assert_close(found.cpu().double(), right, rtol=1e-4, atol=1e-4)
    back = moved.decode(latents, on(device, labels))
    torch.testing.assert_close(back.cpu(), x, rtol=0, atol=1e-4)
    found = moved.log_prob(x.to(device), on(device, labels)).detach().cpu().double()
    right = exact.log_prob(x.double(), labels).detach()
    torch.testing.assert_close(found / x[0].numel(), right / x[0].numel(), rtol=0, atol=1e-4)


def test_the_same_seed_draws_the_same_images(model, device):
    expected = model.sample(4, temperature=0.7, seed=3).int()
    found = copy.deepcopy(model).to(device).sample(4, temperature=0.7, seed=3)
    assert found.device.type == "cpu" and found.dtype == torch.uint8
    assert (found.int() - expected).abs().max() <= 1  # rounding to bytes


def test_weights_come_back_as_they_left(model, device, tmp_path):
    before = copy.deepcopy(model.state_dict())
    model.to(device).save_pretrained(tmp_path)
    saved = type(model).from_pretrained(tmp_path)
    moved = type(model).from_pretrained(tmp_path, device=device)
    assert moved.device.type == device.type
    here, there = saved.state_dict(), moved.state_dict()
    for name, weight in before.items():
        assert torch.equal(here[name], weight), name
        assert torch.equal(there[name].cpu(), weight), name


@pytest.mark.parametrize("memory", ["stored", "reversible"])
@pytest.mark.parametrize("name", ["glow", "additive"])
def test_gradients_are_those_of_float64_on_the_processor(name, memory, device):
    model = perturb(MODELS[name](), 0.05).train()
    x, labels = batch(model)
    exact = copy.deepcopy(model).double()
    exact.loss(x.double(), labels).backward()
    moved = copy.deepcopy(model).to(device).use(memory=memory)
    moved.loss(x.to(device), on(device, labels)).backward()
    right = {name: weight.grad for name, weight in exact.named_parameters()}
    largest = max(gradient.abs().max() for gradient in right.values())
    for name, weight in moved.named_parameters():
        difference = (weight.grad.cpu().double() - right[name]).abs().max()
        assert difference < 1e-4 * largest, name


@pytest.mark.parametrize("memory", ["stored", "reversible"])
def test_a_run_learns_stops_and_goes_on(splits, tmp_path, memory, device):  # noqa: F811
    config = replace(CONFIG, memory=memory, lr=5e-3)
    trained = train(config, splits, tmp_path, device=str(device), progress=False)
    assert trained.model.device.type == device.type
    assert sum(losses(tmp_path)[-5:]) / 5 < sum(losses(tmp_path)[:5]) / 5 - 0.5
    longer = replace(config, images=config.images + 40)
    again = train(longer, splits, tmp_path, device=str(device), resume=True, progress=False)
    assert again.step == trained.step + 5
    assert again.model.device.type == device.type
    assert Glow.from_pretrained(tmp_path).initialized
