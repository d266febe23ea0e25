"""Posteriors that are known: a flow whose couplings do nothing is a normal distribution."""

import sys

import pytest
import torch

from glowflow import Glow, GlowConfig, InputError
from glowflow.inverse import Blur, Downsample, Mask, Problem, identity, own_operator, solve
from glowflow.inverse.curvature import batches, curvature
from glowflow.inverse.hmc import hmc
from glowflow.inverse.solve import _uphill

SHAPE = (1, 4, 4)


@pytest.fixture(scope="module")
def prior():
    """A Glow as it is initialised: x is linear in ε, so that x ~ N(c, J Jᵀ)."""
    torch.manual_seed(0)
    model = Glow(
        GlowConfig(image_shape=SHAPE, levels=1, steps=1, hidden_channels=4, bits=None)
    ).double()
    ramp = torch.linspace(0, 2, 16, dtype=torch.float64).reshape(SHAPE)
    model.initialize(torch.randn(64, *SHAPE, dtype=torch.float64) * (0.3 + ramp))
    return model.eval()


def linear(problem):
    """c and J of x = J ε + c."""
    zero = torch.zeros(1, problem.dims, dtype=torch.float64)
    centre = problem.field(zero)[0].flatten()
    J = (problem.field(torch.eye(problem.dims, dtype=torch.float64)).flatten(1) - centre).T
    return centre, J


def exact_posterior(problem):
    """Mean and covariance of x given y, by the formulas for normal distributions."""
    centre, J = linear(problem)
    zero, eye = torch.zeros(1, *SHAPE, dtype=torch.float64), torch.eye(16, dtype=torch.float64)
    A = problem.operator(eye.reshape(16, *SHAPE)).flatten(1).T - problem.operator(zero).reshape(
        -1, 1
    )
    prior = J @ J.T
    gain = prior @ A.T @ torch.linalg.inv(A @ prior @ A.T + problem.noise**2 * torch.eye(len(A)))
    mean = centre + gain @ (problem.observed.flatten() - A @ centre)
    return mean.reshape(SHAPE), prior - gain @ A @ prior


OPERATORS = {
    "noise": identity,
    "mask": Mask(torch.tensor([[1, 1, 0, 0]] * 4).bool()),
    "blur": Blur(0.8, "periodic"),
    "downsample": Downsample(2),
}

SMOOTH = Blur(0.7, "periodic")


@pytest.mark.parametrize("name", ["mask", pytest.param("downsample", marks=pytest.mark.slow)])
def test_the_exact_posterior(prior, name):
    operator = OPERATORS[name]
    torch.manual_seed(1)
    truth = prior.inverse(
        tuple(torch.randn(1, *s, dtype=torch.float64) for s in prior.latent_shapes)
    )[0]
    y = operator(truth)[0]
    problem = Problem(prior, operator, y.detach() + 0.3 * torch.randn_like(y), 0.3)
    mean, covariance = exact_posterior(problem)
    found = solve(problem, chains=4, draws=300, warmup=150, progress=False)
    assert found.why_not_converged == ""
    std = covariance.diagonal().sqrt().reshape(SHAPE)
    assert ((found.mean - mean).abs() / std).max() < 0.12
    assert (found.std / std - 1).abs().max() < 0.1
    draws = found.samples.flatten(0, 1).flatten(1)
    assert (torch.cov(draws.T) - covariance).abs().max() < 0.12 * covariance.abs().max()
    assert (found.best - mean).abs().max() < 0.05 * std.max()  # of a normal: mode and mean


def test_two_hills_are_not_called_converged():
    """Chains that stay on hills of their own."""

    def log_density(x):
        near = torch.minimum(((x - 20) ** 2).sum(1), ((x + 20) ** 2).sum(1))
        return -0.5 * near

    generator = torch.Generator().manual_seed(0)
    start = torch.tensor([[20.0], [20.0], [-20.0], [-20.0]], dtype=torch.float64)
    made = hmc(log_density, start, draws=200, warmup=100, generator=generator)
    from arviz_stats.base import array_stats

    rhat = array_stats.rhat(made.draws.numpy(), chain_axis=0, draw_axis=1)
    assert rhat.max() > 1.5


def test_all_chains_climb_the_highest_hill(prior, monkeypatch):
    """Of an operator that has many hills, of which uphill alone finds the nearest."""

    def wavy(x):
        return x + 0.5 * torch.sin(6 * x)

    torch.manual_seed(2)
    code = tuple(torch.randn(1, *s, dtype=torch.float64) for s in prior.latent_shapes)
    y = wavy(prior.inverse(code)[0])[0] + 0.05 * torch.randn(SHAPE, dtype=torch.float64)
    problem = Problem(prior, wavy, y.detach(), 0.1)
    start = torch.randn(6, problem.dims, dtype=torch.float64)

    def heights():
        return problem.log_posterior(_uphill(problem, start, lambda *_: None)).detach()

    together = heights()
    monkeypatch.setattr(sys.modules[_uphill.__module__], "ANNEALED", 1e-9)
    assert together.min() > heights().max() + 100
    assert together.max() - together.min() < 0.5


def test_moments_of_a_known_density():
    """A normal distribution with scales from 0.01 to 100, and 0.9 between its last two values."""
    scales = torch.tensor([0.01, 1.0, 100.0, 1.0, 1.0], dtype=torch.float64)
    correlation = torch.eye(5, dtype=torch.float64)
    correlation[3, 4] = correlation[4, 3] = 0.9
    covariance = scales[:, None] * correlation * scales
    precision = torch.linalg.inv(covariance)
    made = hmc(
        lambda x: -0.5 * ((x @ precision) * x).sum(1),
        torch.randn(4, 5, dtype=torch.float64) * scales,
        draws=1800,
        warmup=400,
        generator=torch.Generator().manual_seed(0),
    )
    draws = made.draws.flatten(0, 1)
    assert (draws.std(0) / scales - 1).abs().max() < 0.1
    assert abs(torch.corrcoef(draws.T)[3, 4] - 0.9) < 0.04
    assert 0.6 < made.acceptance.mean() < 0.97
    assert made.divergences == 0


def test_the_same_seed_gives_the_same_draws(prior, monkeypatch):
    monkeypatch.setattr(sys.modules[solve.__module__], "MAP_STEPS", 20)
    problem = Problem(prior, identity, torch.zeros(SHAPE), 0.5)
    once, again, other = (
        solve(problem, chains=2, draws=20, warmup=50, seed=seed, progress=False)
        for seed in (3, 3, 4)
    )
    assert torch.equal(once.samples, again.samples)
    assert not torch.equal(once.samples, other.samples)
    assert "effective draws" in once.why_not_converged


def test_the_users_model_is_left_as_it_is(prior):
    prior.train()
    Problem(prior, identity, torch.zeros(SHAPE), 0.5)
    assert prior.training and all(p.requires_grad for p in prior.parameters())
    prior.eval()


def test_operators_by_hand():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert Downsample(2)(x)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert Mask(torch.tensor([[1, 0, 0, 0]] * 4).bool())(x)[0, 0, :, 0].tolist() == [0, 4, 8, 12]
    flat = Blur(0.7)(torch.full((2, 3, 8, 8), 2.5))
    assert torch.allclose(flat, torch.full_like(flat, 2.5))
    one = torch.zeros(1, 1, 9, 9)
    one[0, 0, 4, 4] = 1
    spread = Blur(0.9, "periodic")(one)[0, 0]
    distance = (torch.arange(9) - 4.0) ** 2
    assert torch.allclose(spread.sum(), torch.tensor(1.0))
    assert abs(float((spread.sum(0) * distance).sum()) - 0.81) < 0.01


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda m: Problem(m, identity, torch.zeros(1, 4, 5), 0.1), "must be of one shape"),
        (lambda m: Problem(m, identity, torch.zeros(SHAPE), 0.0), "above 0"),
        (lambda m: Problem(m, identity, torch.full(SHAPE, torch.nan), 0.1), "not finite"),
        (lambda m: Problem(m, Downsample(3), torch.zeros(SHAPE), 0.1), "divides both"),
        (lambda m: Problem(m, Blur(3.0), torch.zeros(SHAPE), 0.1), "narrower"),
        (lambda m: Problem(m, Mask(torch.ones(3, 3)), torch.zeros(SHAPE), 0.1), "The mask is"),
        (lambda m: Problem(m, lambda x: 3, torch.zeros(SHAPE), 0.1), "must make a tensor"),
        (lambda m: Blur(0.0), "more than 0"),
        (lambda m: Blur(1.0, "mirror"), "choose reflect"),
        (lambda m: Downsample(0), "1 or more"),
        (lambda m: own_operator("sharpen"), "choose noise, mask"),
        (lambda m: own_operator("no_such:thing"), "Cannot import"),
        (lambda m: own_operator("math:pi"), "is no function"),
        (
            lambda m: solve(Problem(m, identity, torch.zeros(SHAPE), 0.1), chains=1),
            "2 chains",
        ),
    ],
)
def test_bad_problems_are_a_sentence(prior, make, says):
    with pytest.raises(InputError, match=says):
        make(prior)


def test_a_prior_whose_inverse_has_jumps_is_refused():
    model = Glow(GlowConfig(image_shape=(1, 4, 4), levels=1, steps=1, hidden_channels=4,
                            first_map="interlaced", interlaced_channels=2))  # fmt: skip
    with pytest.raises(InputError, match="its inverse has jumps"):
        Problem(model, identity, torch.zeros(1, 4, 4), 0.1)


def test_chains_are_scaled_by_the_curvature(prior):
    """Of a linear problem: u given y is standard normal."""
    problem = Problem(prior, SMOOTH, torch.zeros(SHAPE), 0.05)
    _, J = linear(problem)
    zero, eye = torch.zeros(1, *SHAPE, dtype=torch.float64), torch.eye(16, dtype=torch.float64)
    A = (SMOOTH(eye.reshape(16, *SHAPE)) - SMOOTH(zero)).flatten(1).T
    told = []
    scaling = curvature(problem, torch.randn(16, dtype=torch.float64), told.append)
    assert told == [1] == [batches(problem)]
    L = scaling.latents(eye) - scaling.latents(torch.zeros_like(eye))
    precision = eye + (A @ J).T @ (A @ J) / 0.05**2
    assert torch.allclose(L @ precision @ L.T, eye, atol=0.02)  # curvatures below 0.01 are left
    latents = torch.randn(5, 16, dtype=torch.float64)
    assert torch.allclose(scaling.latents(scaling.scaled(latents)), latents)


def test_more_values_than_have_rows_are_not_scaled(prior, monkeypatch):
    monkeypatch.setattr("glowflow.inverse.curvature.LARGEST", 15)
    problem = Problem(prior, identity, torch.zeros(SHAPE), 0.05)
    assert batches(problem) == 0
    at = torch.randn(16, dtype=torch.float64)
    scaling = curvature(problem, at, lambda done: None)
    assert torch.equal(scaling.latents(torch.zeros(1, 16, dtype=torch.float64))[0], at)


def test_little_noise_makes_no_slow_chains(prior):
    """Curvatures from 1 to ten thousands, of directions that are no axes."""
    y = SMOOTH(prior.inverse((torch.zeros(1, *prior.latent_shapes[0]).double(),))[0])[0]
    problem = Problem(prior, SMOOTH, y.detach(), 0.01)
    found = solve(problem, chains=2, draws=200, warmup=100, progress=False)
    assert found.why_not_converged == ""
    assert found.ess.min() > 200


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("padding", ["reflect", "periodic", "zero"])
def test_blur_and_blocks_on_every_axis(axes, padding):
    x = torch.zeros(2, 3, *[8] * axes, dtype=torch.float64)
    x[(..., *[4] * axes)] = 1.0
    away = torch.arange(8).double() - 4
    line = torch.where(away.abs() < 3, torch.exp(-0.5 * (away / 0.4) ** 2), 0.0)
    line = line / line.sum()
    want = line
    for _ in range(axes - 1):
        want = want[..., None] * line
    assert torch.allclose(Blur(0.4, padding)(x), want.expand_as(x))
    blocks = Downsample(2)(x)
    assert blocks.shape == (2, 3, *[4] * axes)
    assert float(blocks[(0, 0, *[2] * axes)]) == 0.5**axes
    with pytest.raises(InputError, match=r"divides (both|every side)"):
        Downsample(3)(x)


def test_a_gradient_that_is_not_finite_is_a_sentence(prior):
    problem = Problem(prior, lambda x: (x - x.detach()).abs().sqrt(), torch.zeros(SHAPE), 0.1)
    with pytest.raises(InputError, match="The gradient of what is observed is not finite"):
        curvature(problem, torch.zeros(16, dtype=torch.float64), lambda done: None)
