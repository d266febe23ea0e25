"""A flow among PyTorch's distributions: the same density, reproducible draws, gradients."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    TransformedDistribution,
    kl_divergence,
)
from torch.func import vmap

import glowflow
from glowflow import Glow, GlowConfig, InputError, RealNVP, RealNVPConfig, distribution
from tests.conftest import perturb

SHAPE = (1, 4, 4)
GLOW = {"image_shape": SHAPE, "levels": 1, "steps": 2, "hidden_channels": 4}
BYTES = (16, *SHAPE)


def glow(memory="stored", **changes):
    torch.manual_seed(0)
    model = Glow(GlowConfig(**{**GLOW, "coupling_scale": "bounded", **changes}))
    model.initialize(torch.randint(0, 256, BYTES, dtype=torch.uint8))
    return perturb(model, 0.03).double().use(memory=memory)


def realnvp():
    model = RealNVP(
        RealNVPConfig(image_shape=SHAPE, scales=2, residual_blocks=1, hidden_channels=4)
    )
    model.initialize(torch.randint(0, 256, BYTES, dtype=torch.uint8))
    return perturb(model, 0.03).double()


def test_the_density_is_the_models_and_shapes_are_those_of_pytorch():
    model = glow()
    p = distribution(model)
    assert (p.batch_shape, p.event_shape) == ((), SHAPE)
    x = p.sample((2, 3))
    assert x.shape == (2, 3, *SHAPE) and not x.requires_grad and x.dtype == torch.float64
    assert torch.equal(p.log_prob(x), model.log_prob(x.flatten(0, 1)).view(2, 3))
    assert p.sample().shape == SHAPE and p.log_prob(x[0, 0]).shape == ()
    assert p.sample((0,)).shape == (0, *SHAPE) and p.log_prob(x[:0]).shape == (0, 3)


@pytest.mark.parametrize("memory", ["stored", "reversible"])
def test_a_seed_repeats_a_draw_and_rsample_has_gradients(memory):
    model = glow(memory)
    temperature = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    p = distribution(model, temperature=temperature)
    torch.manual_seed(1)
    x = p.rsample((5,))
    torch.manual_seed(1)
    assert torch.allclose(x, p.sample((5,)), atol=1e-12)
    weights = [temperature, *model.parameters()]
    found = torch.autograd.grad(x.square().sum(), weights, allow_unused=True)
    assert all(g is not None and torch.isfinite(g).all() for g in found)
    torch.manual_seed(1)
    with torch.no_grad():
        moved = distribution(model, temperature=0.8 + 1e-6).sample((5,)).square().sum()
    assert abs((moved - x.square().sum()) / 1e-6 - found[0]) < 1e-3 * found[0].abs()


def test_log_prob_has_gradients_to_the_image_and_the_weights():
    model = glow()
    x = distribution(model).sample((2,)).requires_grad_()
    assert torch.autograd.gradcheck(distribution(model).log_prob, (x,))
    distribution(model).log_prob(x).sum().backward()
    assert all(w.grad is not None for w in model.parameters())


def test_at_a_temperature_it_is_the_density_of_what_is_drawn():
    model = glow()
    p, x = distribution(model, temperature=0.7), distribution(model).sample((3,))
    latents, log_det = model(x)
    normal = torch.distributions.Normal(0.0, 0.7)
    expected = sum(normal.log_prob(eps).flatten(1).sum(1) for eps in latents) + log_det
    assert torch.allclose(p.log_prob(x), expected, atol=1e-9)
    torch.manual_seed(2)
    drawn = model.encode(p.sample((400,)))
    assert abs(torch.cat([eps.flatten() for eps in drawn]).std() - 0.7) < 0.02


def test_it_stands_inside_pytorchs_own():
    model = glow()
    p = distribution(model)
    levels = TransformedDistribution(p, AffineTransform(128.0, 256.0))
    y = levels.sample((4,))
    expected = p.log_prob((y - 128) / 256) - math.prod(SHAPE) * math.log(256)
    assert torch.allclose(levels.log_prob(y), expected, atol=1e-9)
    x = p.sample((4,))
    assert torch.equal(Independent(p, 0).log_prob(x), p.log_prob(x))
    unchecked = distribution(model, validate_args=False)
    assert torch.allclose(vmap(unchecked.log_prob)(x), p.log_prob(x), atol=1e-9)


def test_labels_are_a_batch_and_their_mixture_is_the_model():
    model = glow(classes=3)
    p = distribution(model, range(3))
    assert p.batch_shape == (3,) and p.sample((2,)).shape == (2, 3, *SHAPE)
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros(3)), p)
    x = mixture.sample((4,))
    assert torch.allclose(mixture.log_prob(x), model.log_prob_by_level(x).sum(1), atol=1e-6)
    each = p.log_prob(x[:, None])
    for label in range(3):
        assert torch.allclose(each[:, label], distribution(model, label).log_prob(x))
    assert torch.allclose(Independent(p, 1).log_prob(x[:3]), p.log_prob(x[:3]).sum())


def test_a_realnvp_takes_its_running_averages_and_says_where_it_is_defined():
    model = realnvp()
    assert model.training
    p = distribution(model)
    x = p.sample((3,))
    alone = torch.stack([p.log_prob(one) for one in x])
    assert torch.allclose(alone, p.log_prob(x), atol=1e-9)
    assert torch.allclose(alone, model.eval().log_prob(x), atol=1e-9)
    with pytest.raises(ValueError, match="within the support"):
        p.log_prob(torch.full(SHAPE, 0.6).double())


def test_what_there_is_no_closed_form_of_is_not_defined():
    p = distribution(glow())
    for name in ("mean", "variance", "stddev"):
        with pytest.raises(NotImplementedError, match="of a flow has no closed form: take that of"):
            getattr(p, name)
    with pytest.raises(NotImplementedError, match="does not implement mode"):
        _ = p.mode
    with pytest.raises(NotImplementedError, match=r"closed form: average -log_prob\(x\) over x"):
        p.entropy()
    other = Independent(Normal(torch.zeros(SHAPE), 1.0), 3)
    for pair in ((p, p), (p, other), (other, p)):
        with pytest.raises(NotImplementedError, match=r"average p\.log_prob\(x\) - q\.log_prob"):
            kl_divergence(*pair)
    with pytest.raises(NotImplementedError, match=r"cannot be expanded to \(3,\), for its param"):
        p.expand((3,))


def test_numbers_of_numpy_and_no_labels_at_all():
    x = distribution(glow()).sample()
    warm = distribution(glow(), temperature=0.5).log_prob(x)
    assert torch.equal(distribution(glow(), temperature=np.float32(0.5)).log_prob(x), warm)
    nobody = distribution(glow(classes=3), [])
    assert nobody.batch_shape == (0,) and nobody.sample((2,)).shape == (2, 0, *SHAPE)


def test_it_is_a_prior_that_pulls_an_observation_to_what_is_likely():
    """The mode of the posterior of a noisy image, and the best normal distribution for it."""
    prior = distribution(glow())
    torch.manual_seed(1)
    noisy = prior.sample() + 0.5 * torch.randn(SHAPE).double()
    mean = noisy.clone().requires_grad_()
    log_std = torch.full_like(mean, -3.0, requires_grad=True)

    def bound(z):
        return prior.log_prob(z) + Normal(z, 0.5).log_prob(noisy).sum((-3, -2, -1))

    def elbo():
        q = Independent(Normal(mean, log_std.exp()), 3)
        z = q.rsample((4,))
        return (bound(z) - q.log_prob(z)).mean()

    for objective, parameters in ((lambda: bound(mean), [mean]), (elbo, [mean, log_std])):
        with torch.no_grad():
            before = objective()
        for _ in range(4):
            gradients = torch.autograd.grad(objective(), parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter += 0.02 * gradient.sign()
        with torch.no_grad():
            assert objective() > before + 1


def test_copies_are_the_same_distribution():
    p = distribution(glow(classes=3), [[0, 1], [2, 0]])
    x = p.sample()
    for copied in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert torch.equal(copied.log_prob(x), p.log_prob(x))
    assert repr(p) == "FlowDistribution(temperature: 1.0, labels: torch.Size([2, 2]))"


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: distribution("a"), InputError, "The model is a str"),
        (lambda: distribution(glow(), 1), InputError, "no classes: leave the labels out"),
        (lambda: distribution(glow(classes=3)), InputError, r"3 classes: give labels; of range"),
        (lambda: distribution(glow(classes=3), 0.5), InputError, "Labels are torch.float64"),
        (lambda: distribution(glow(classes=3), ["a"]), InputError, "give integers"),
        (lambda: distribution(glow(classes=3), 3), ValueError, "IntegerInterval"),
        (lambda: distribution(glow(), temperature=0.0), ValueError, "GreaterThan"),
        (lambda: distribution(glow(), temperature="hot"), InputError, "temperature is 'hot'"),
        (lambda: distribution(glow()).log_prob(torch.zeros(4, 4)), ValueError, "right-most size"),
        (
            lambda: distribution(glow()).log_prob(torch.full(SHAPE, math.nan)),
            ValueError,
            "within the support",
        ),
        (
            lambda: distribution(glow().float()).log_prob(torch.zeros(SHAPE).double()),
            InputError,
            "x is torch.float64 and the model is torch.float32",
        ),
        (
            lambda: distribution(glow(), validate_args=False).log_prob(torch.zeros(4, 4)),
            InputError,
            "this model takes",
        ),
    ],
)
def test_what_cannot_be_is_said(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_it_is_among_the_public_names():
    assert glowflow.distribution is distribution and "distribution" in dir(glowflow)
