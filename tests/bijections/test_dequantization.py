"""Noise within a byte's bin, of a shape that is learned."""

import math

import pytest
import torch

from glowflow import Architecture, Glow, GlowConfig, InputError
from glowflow.bijections import VariationalDequantization
from glowflow.models.likelihood import dequantize
from glowflow.nn import CouplingNetwork
from tests.conftest import perturb

SHAPE = (3, 8, 8)


def made(bits=8, channels=3, scale=0.05):
    torch.manual_seed(0)
    return perturb(
        VariationalDequantization(bits, CouplingNetwork(4 * channels, 8 * channels, 6)), scale
    )


def some_bytes(count=16, shape=SHAPE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def model(**changes):
    settings = {"levels": 2, "steps": 1, "hidden_channels": 6, "coupling_scale": "bounded"}
    settings["dequantization"] = "variational"
    return Glow(GlowConfig(image_shape=SHAPE, **settings | changes))


def step_of(x, bits=8):
    """The whole number of the bin of each value, and where in it the value lies."""
    grid = (x.double() + 0.5) * 2**bits
    return grid.floor(), grid - grid.floor()


@pytest.mark.parametrize("scale", [0.05, 1.0])
@pytest.mark.parametrize("bits", [1, 5, 8])
def test_no_byte_changes_in_either_direction(bits, scale):
    bijection = made(bits, scale=scale)
    for noise in ("uniform", "center"):
        x = dequantize(some_bytes(), bits, noise=noise)
        for there in (bijection(x)[0], bijection.inverse(x)[0]):
            assert torch.equal(step_of(there, bits)[0], step_of(x, bits)[0])


def test_the_noise_is_a_density_in_each_bin():
    bijection = made().double()
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    x = dequantize(some_bytes(1), noise="center").double().expand(len(u), *SHAPE)
    grid = (step_of(x)[0] + u.view(-1, 1, 1, 1)) / 256 - 0.5
    x_shaped, _ = bijection(grid)
    (whole, shaped) = step_of(x_shaped)
    assert torch.equal(whole, step_of(x)[0])
    assert bool((shaped.diff(dim=0) > 0).all())
    assert shaped[0].max() < 0.1 and shaped[-1].min() > 0.9  # from one end of the bin to the other


def test_the_middle_of_a_bin_stays_away_from_its_ends():
    x = dequantize(some_bytes(), noise="center")
    _, u = step_of(made(scale=1.0)(x)[0])
    assert u.min() > 0.04 and u.max() < 0.96


def test_values_outside_of_the_range_have_bins_too():
    bijection = made().double()
    x = 3 * torch.randn(4, *SHAPE, dtype=torch.float64)
    y, log_det = bijection(x)
    back, log_det_back = bijection.inverse(y)
    assert (back - x).abs().max() < 1e-9
    assert torch.allclose(log_det, -log_det_back, atol=1e-6)


def test_a_new_one_leaves_the_noise_uniform():
    bijection = VariationalDequantization(8, CouplingNetwork(12, 24, 6)).double()
    x = dequantize(some_bytes()).double()
    bijection.initialize(x)
    y, log_det = bijection(x)
    assert torch.allclose(y, x, atol=1e-12)
    assert torch.allclose(log_det, torch.zeros_like(log_det), atol=1e-9)
    torch.manual_seed(0)
    variational = model()
    torch.manual_seed(0)
    uniform = model(dequantization="uniform")
    uniform.load_state_dict(variational.state_dict(), strict=False)
    for each in (variational, uniform):
        each.initialize(some_bytes(64), torch.Generator().manual_seed(1))
    x = dequantize(some_bytes(seed=2))
    assert torch.allclose(variational.log_prob(x), uniform.log_prob(x), atol=1e-2)


def test_learning_brings_the_bound_to_the_probability_of_the_bytes():
    """With p(x) a normal distribution of a sixth of a bin about the middle of each value's."""
    torch.manual_seed(0)
    images = some_bytes(64, (1, 2, 2))
    middle = dequantize(images, noise="center")
    exact = 4 * math.log(math.erf(3 / math.sqrt(2)))
    bijection = VariationalDequantization(8, CouplingNetwork(4, 8, 6))
    bijection.initialize(dequantize(images))
    optimizer = torch.optim.Adam(bijection.parameters(), 0.02)

    def bound(count=1):
        x, log_det = bijection(dequantize(images.repeat(count, 1, 1, 1)))
        density = torch.distributions.Normal(middle.repeat(count, 1, 1, 1), 1 / 6 / 256)
        return (density.log_prob(x).flatten(1).sum(1) + log_det).mean() - 4 * math.log(256)

    with torch.no_grad():
        before = float(bound(100))
    for _ in range(150):
        optimizer.zero_grad()
        (-bound()).backward()
        optimizer.step()
    with torch.no_grad():
        after = float(bound(100))
    assert before < exact - 0.8
    assert exact - 0.1 < after < exact + 1e-3


def test_a_trained_model_gives_every_byte_back_and_samples_images():
    flow = model()
    flow.initialize(some_bytes(64))
    perturb(flow, 0.05)
    images = some_bytes(seed=3)
    x = flow.to_float(images, noise="center")
    assert torch.equal(flow.to_images(flow.decode(flow.encode(x))), images)
    drawn = flow.draw(16, seed=0)
    assert bool(drawn.finite.all())
    plain = model(dequantization="uniform")
    plain.load_state_dict(flow.state_dict(), strict=False)
    assert torch.equal(drawn.images, plain.draw(16, seed=0).images)  # the noise moves no byte


@pytest.mark.parametrize("memory", ["stored", "reversible"])
def test_gradients_reach_the_noise(memory):
    flow = model(steps=2).double()
    flow.initialize(some_bytes(64))
    perturb(flow, 0.03).use(memory=memory)
    x = dequantize(some_bytes(4)).double()
    flow.log_prob(x).sum().backward()
    weight = flow.dequantization.network.last.b
    found, other, step = weight.grad[0].item(), flow.log_prob(x).sum().item(), 1e-6
    with torch.no_grad():
        weight[0] += step
    assert found == pytest.approx((flow.log_prob(x).sum().item() - other) / step, rel=1e-3)


def test_it_is_saved_with_the_model(tmp_path):
    flow = perturb(model(dequantization_channels=5))
    flow.save_pretrained(tmp_path)
    again = Glow.from_pretrained(tmp_path)
    x = dequantize(some_bytes(4))
    assert torch.equal(again.log_prob(x), flow.log_prob(x))


def test_float_data_have_no_bins():
    with pytest.raises(InputError, match="dequantization variational is for bytes"):
        Architecture(dequantization="variational", bits=None)
