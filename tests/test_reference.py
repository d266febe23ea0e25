"""The package's one, fast form against the plain textbook form and its gradients, in float64."""

import pytest
import torch

from glowflow import Glow, GlowConfig
from tests import reference
from tests.conftest import perturb

CONFIGS = {
    "affine-lu": {},
    "plain": {"permutation": "plain"},
    "shuffle-bounded": {"permutation": "shuffle", "coupling_scale": "bounded"},
    "reverse-exp": {"permutation": "reverse", "coupling_scale": "exp"},
    "additive": {"coupling": "additive"},
    "classes": {"classes": 3},
    "fixed-top": {"learn_top": False},
    "diagonal": {"prior": "diagonal", "coupling_scale": "inverse_sigmoid"},
    "diagonal-classes": {"prior": "diagonal", "classes": 3},
    "diagonal-odd": {"prior": "diagonal", "image_shape": (7, 4, 8), "levels": 2},
    "odd": {"image_shape": (7, 4, 8), "levels": 2},
    "grey": {"image_shape": (1, 8, 8)},
    "one-pixel": {"image_shape": (3, 8, 4)},
    "one-level": {"levels": 1, "steps": 1},
}


def make(name, dtype=torch.float64):
    shape = {"image_shape": (3, 8, 8), "levels": 2, "steps": 3, "hidden_channels": 6}
    torch.manual_seed(1)
    model = perturb(Glow(GlowConfig(**{**shape, **CONFIGS[name]})).to(dtype))
    x = 0.3 * torch.randn(4, *model.config.image_shape, dtype=dtype)
    labels = torch.tensor([0, 2, 1, 2]) if model.config.classes else None
    return model, x, labels


def gradients(model, x, value):
    weights = {"x": x, **dict(model.named_parameters())}
    found = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    return {
        name: torch.zeros_like(w) if g is None else g
        for (name, w), g in zip(weights.items(), found, strict=True)
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_values(name):
    model, x, labels = make(name)
    expected, log_det = reference.encode(model, x, labels)
    found, found_log_det = model(x, labels)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() < 1e-9
    assert (found_log_det - log_det).abs().max() < 1e-9
    # the form that eval mode keeps
    model.eval()
    with torch.no_grad():
        for _ in range(2):
            assert (
                model.log_prob(x, labels) - reference.log_prob(model, x, labels)
            ).abs().max() < 1e-9


@pytest.mark.parametrize("memory", ["stored", "reversible"])
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients(name, memory):
    model, x, labels = make(name)
    model.use(memory=memory)
    x.requires_grad_()
    expected_loss = reference.log_prob(model, x, labels).mean()
    expected = gradients(model, x, expected_loss)
    loss = model.log_prob(x, labels).mean()
    found = gradients(model, x, loss)
    assert abs(loss.item() - expected_loss.item()) < 1e-9
    for where, gradient in expected.items():
        largest = gradient.abs().max().clamp(min=1.0)
        assert (found[where] - gradient).abs().max() / largest < 1e-9, where
