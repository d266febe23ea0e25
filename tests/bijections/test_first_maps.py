"""The maps before the first level: what they make of data whose density is known."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.isotonic import isotonic_regression
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal

from glowflow import Architecture, Glow, GlowConfig, InputError
from glowflow.bijections import Interlaced, Marginals, Whitening
from glowflow.bijections.interlaced import _ridge, apart, together
from glowflow.bijections.marginals import TAIL
from glowflow.bijections.whitening import _non_increasing
from glowflow.data.types import ImageData
from glowflow.evaluation.gaussian import gaussian
from glowflow.models.likelihood import dequantize
from glowflow.models.priors import standard_normal_log_prob
from glowflow.nn.octave_network import OctaveNetwork
from glowflow.training.config import TrainConfig
from glowflow.training.first_map import first_map_chosen
from tests.conftest import perturb


def background(count, shape=(1, 8, 8), seed=0):
    """Bytes that are black three times out of four, and of all values else."""
    noise = np.random.default_rng(seed)
    values = noise.integers(0, 256, (count, *shape)) * (noise.random((count, *shape)) < 0.25)
    return torch.from_numpy(values.astype(np.uint8))


def smooth(count, shape=(3, 8, 8), seed=0):
    """Bytes of sums of eight waves."""
    noise = np.random.default_rng(seed)
    waves = np.random.default_rng(1).normal(size=(8, math.prod(shape))).cumsum(1) / 4
    values = 128 + 10 * noise.normal(size=(count, 8)) @ waves
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8)).view(count, *shape)


def log_prob(first_map, x):
    y, log_det = first_map(x)
    return standard_normal_log_prob((y,)) + log_det


def marginals(images, bits=8):
    first_map = Marginals(tuple(images.shape[1:]), bits)
    first_map.fit(dequantize(images, bits, noise="center"))
    return first_map


def whitening(x, rank, noise=0.0):
    first_map = Whitening(tuple(x.shape[1:]), rank).double()
    first_map.fit(x, noise)
    return first_map


def test_marginals_give_each_value_its_frequency():
    images = background(4000)
    first_map = marginals(images)
    x = dequantize(images[:500])
    bits = -log_prob(first_map, x).mean() / 64 / math.log(2) + 8
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25 / 256))
    assert bits == pytest.approx(entropy, abs=0.05)
    assert first_map(x)[0].mean() == pytest.approx(0.0, abs=0.05)
    assert first_map(x)[0].std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_marginals_are_a_density(bits):
    first_map = marginals(background(50, (1, 1, 1)), bits).double()
    x = torch.linspace(-0.502, 0.502, 400_001, dtype=torch.float64)
    density = log_prob(first_map, x.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1.0, abs=1e-3)


def test_marginals_give_every_byte_back_in_float32():
    first_map = marginals(background(300, (2, 16, 8)))
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).reshape(1, 2, 16, 8)
    images = torch.stack([images[0].roll(shift, -1) for shift in range(8)])
    x = dequantize(images, noise="center")
    back, _ = first_map.inverse(first_map(x)[0])
    assert (back - x).abs().max() < 0.1 / 256


def test_marginals_of_a_few_images_do_not_call_new_values_impossible():
    first_map = marginals(background(5))
    assert log_prob(first_map, dequantize(background(50, seed=7))).min() / 64 > -math.log(256)


def test_interlaced_goes_on_outside_of_the_range():
    first_map = interlaced(smooth(200)).double()
    x = torch.zeros(401, 3, 8, 8, dtype=torch.float64)
    x[:, 2, 7, 7] = torch.linspace(-2, 2, 401).double()
    y, log_det = first_map(x)
    assert (y[:, 2, 7, 7].diff() > 0).all() and y.abs().max() < 1e4
    back, log_det_back = first_map.inverse(y)
    assert (back - x).abs().max() < 1e-9
    assert torch.allclose(log_det, -log_det_back)


@pytest.mark.parametrize("bits", [1, 5, 8])
def test_interlaced_finds_the_same_bins_by_few_and_by_many_parts(bits, monkeypatch):
    torch.manual_seed(0)
    first_map = perturb(interlaced(smooth(100), bits), 0.3)
    y = 2 * torch.randn(50, 3, 8, 8)
    found = []
    for few in (0, 10**9):
        monkeypatch.setattr("glowflow.bijections.interlaced.FEW", few)
        found.append(first_map.inverse(y)[0])
    assert torch.allclose(*found, atol=1e-6)


def test_marginals_go_on_outside_of_the_range():
    first_map = marginals(background(100, (1, 1, 1))).double()
    x = torch.linspace(-2, 2, 1001, dtype=torch.float64).view(-1, 1, 1, 1)
    y, _ = first_map(x)
    assert (y.flatten().diff() > 0).all()
    assert torch.allclose(first_map.inverse(y)[0], x, atol=1e-9)


def interlaced(images, bits=8, hidden=6):
    first_map = Interlaced(
        tuple(images.shape[1:]), bits, lambda c, n, below: OctaveNetwork(c, n, hidden, below)
    )
    first_map.fit(dequantize(images, bits, noise="center"))
    return first_map


def every_image(shape, bits):
    """All that there are, (images, *shape)."""
    values = itertools.product(range(2**bits), repeat=math.prod(shape))
    return torch.tensor(list(values), dtype=torch.uint8).view(-1, *shape)


@pytest.mark.parametrize(
    ("shape", "bits"), [((1, 2, 2), 3), ((3, 2, 2), 1), ((1, 4, 4), 1)]
)  # fmt: skip
def test_interlaced_is_a_probability_of_bytes(shape, bits):
    torch.manual_seed(0)
    first_map = perturb(interlaced(torch.randint(0, 256, (50, *shape)).byte(), bits), 0.3).double()
    images = every_image(shape, bits)
    x = ((images.double() + 0.5) / 2**bits) - 0.5
    with torch.no_grad():
        density = log_prob(first_map, x)
    dims, coarsest = math.prod(shape), shape[0]
    total = (density - dims * bits * math.log(2)).logsumexp(0).exp()
    assert total.item() == pytest.approx((1 - 2 * TAIL) ** coarsest, abs=1e-6)
    elsewhere = x + (torch.rand_like(x) - 0.5) / 2**bits
    some = torch.randperm(len(x))[:500]
    again = log_prob(first_map, elsewhere[some])
    assert torch.allclose(again, density[some], atol=1e-9)  # flat in each bin


def test_interlaced_values_are_told_by_their_neighbours():
    images = smooth(3000, (1, 16, 16))
    first_map, alone = interlaced(images), marginals(images)
    x = dequantize(smooth(300, (1, 16, 16), seed=4))
    bits, of_alone = (8 - log_prob(f, x).mean() / 256 / math.log(2) for f in (first_map, alone))
    assert bits < of_alone - 2.0


@pytest.fixture(scope="module")
def far_from_its_start():
    torch.manual_seed(0)
    images = smooth(500, (3, 16, 16))
    flow = model("interlaced", image_shape=(3, 16, 16), interlaced_channels=8)
    flow.fit_first_map(images)
    flow.initialize(images[:200])
    perturb(flow.first_map, 0.2)
    return flow


@pytest.mark.parametrize("noise", ["center", "uniform"])
@pytest.mark.parametrize("kind", ["smooth", "noise", "black", "white", "checkers", "one bright"])
def test_interlaced_gives_every_byte_back_in_float32(far_from_its_start, kind, noise):
    torch.manual_seed(1)
    flow = far_from_its_start
    any_bytes = torch.randint(0, 256, (20, 3, 16, 16))
    shown = {
        "smooth": smooth(20, (3, 16, 16), seed=3),
        "noise": any_bytes,
        "black": torch.zeros_like(any_bytes),
        "white": torch.full_like(any_bytes, 255),
        "checkers": 255 * (torch.arange(16)[:, None] + torch.arange(16) & 1).expand_as(any_bytes),
        "one bright": torch.zeros_like(any_bytes).index_fill_(3, torch.tensor([7]), 255),
    }[kind].to(torch.uint8)
    back = flow.to_images(flow.decode(flow.encode(flow.to_float(shown, noise=noise))))
    assert torch.equal(back, shown)


def test_a_value_at_the_edge_of_its_bin_has_the_slope_and_density_of_any_other():
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    first_map = perturb(interlaced(smooth(200)), 0.3)
    centres = dequantize(images, 8, noise="center")
    x = (centres - 0.5 / 256).requires_grad_()
    y, log_det = first_map(x)
    log_slope = first_map.by_value(x)[1]
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(slope.log(), log_slope, atol=1e-3)
    prior = standard_normal_log_prob((y,))
    assert torch.allclose(prior + log_det, log_prob(first_map, centres), atol=1e-2)


@pytest.mark.parametrize("first_map", ["none", "marginals", "interlaced", "whitening"])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_no_images_there_are_no_densities(first_map, channels):
    images = smooth(100, (channels, 8, 8))
    flow = model(first_map, image_shape=(channels, 8, 8), rank=16)
    flow.fit_first_map(images)
    flow.initialize(images)
    nothing = flow.to_float(images[:0])
    assert flow.log_prob(nothing).shape == (0,)
    assert flow.decode(flow.encode(nothing)).shape == nothing.shape


@pytest.mark.parametrize(("count", "most"), [(1, 13.0), (2, 9.0), (5, 8.0), (40, 6.0)])
def test_interlaced_of_a_few_images_does_not_call_others_impossible(count, most):
    first_map = interlaced(smooth(count))
    bits = 8 - log_prob(first_map, dequantize(smooth(100, seed=3))).mean() / 192 / math.log(2)
    assert bits < most


def test_a_whole_image_at_once_is_what_its_phases_give_one_by_one():
    """The inverse knows of a value only what is coarser, before it, or of a channel before."""
    torch.manual_seed(1)
    first_map = perturb(interlaced(smooth(200)), 0.3).double()
    x = dequantize(smooth(1, seed=5)).double()
    y, _ = first_map(x)
    jump = torch.zeros_like(x)
    jump[:, :, 3, 3] = 0.25  # of the second phase, at the finest octave
    later, _ = first_map(x + jump)
    changed = (later != y).any(dim=(0, 1))
    assert not changed[::2, ::2].any() and not changed[1::2, 1::2].sum() > 1
    assert changed[3, 3] and changed[2, 3] and changed[3, 2]


def test_hooks_see_the_networks_of_both_directions():
    first_map, seen = interlaced(smooth(50)), []
    for octave in first_map.octaves:
        for network in (octave.network, *octave.network.phases):
            network.register_forward_hook(lambda module, *_: seen.append(module))
    y, _ = first_map(dequantize(smooth(2)))
    forward = seen.copy()
    first_map.inverse(y)
    assert len(forward) == 3 * 4 and seen == 2 * forward


def test_interlaced_slopes_of_the_inverse():
    torch.manual_seed(0)
    first_map = perturb(interlaced(smooth(200)), 0.3).double()
    y = torch.randn(4, *smooth(1).shape[1:], dtype=torch.double)
    y[0] = 0.0
    y.requires_grad_()
    x, log_det = first_map.inverse(y)
    (slopes,) = torch.autograd.grad(x.sum(), y)  # all that is told of others is of bytes
    own = first_map.by_value(x.detach())[1].neg()
    assert torch.allclose(slopes, own.exp(), rtol=1e-6)
    assert torch.allclose(log_det, own.sum((1, 2, 3)), atol=1e-6)


def test_phases_are_taken_apart_and_put_together():
    x = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    assert torch.equal(together(apart(x)), x)
    assert torch.equal(apart(x)[1], x[..., 1::2, 1::2])


def test_a_ridge_is_chosen_as_if_each_row_were_left_out():
    torch.manual_seed(0)
    columns, targets = torch.randn(60, 5).double(), torch.randn(60, 2).double()
    targets = targets + columns[:, :2]
    weights, bias, residuals = _ridge(columns, targets)
    assert (weights[:2].diagonal() > 0.6).all()
    kept = torch.arange(60) != 7
    others, _, _ = _ridge(columns[kept], targets[kept])
    mean, centre = targets[kept].mean(0), columns[kept].mean(0)
    left_out = targets[7] - mean - (columns[7] - centre) @ others
    assert torch.allclose(left_out, residuals[7], atol=0.02)
    fitted = columns @ weights + bias
    assert torch.allclose(fitted.mean(0), targets.mean(0))


def test_whitening_of_full_rank_is_the_gaussian_of_the_evaluation():
    images, new = smooth(4000), smooth(500, seed=5)
    first_map = Whitening((3, 8, 8), 192)
    first_map.fit(dequantize(images, noise="center"), 1 / 12 / 256**2)
    bits = -log_prob(first_map, dequantize(new)) / 192 / math.log(2) + 8
    known = gaussian(images.numpy(), new.numpy())
    assert bits.mean() == pytest.approx(known.mean, abs=0.02)


@pytest.mark.parametrize("rank", [3, 12])
def test_whitening_is_the_density_of_probabilistic_pca(rank):
    x = torch.randn(400, 3, 2, 2, dtype=torch.float64).cumsum(1)
    first_map = whitening(x, rank, noise=0.01)
    u, s = first_map.basis, first_map.log_std.exp()
    if rank == 12:
        known = MultivariateNormal(first_map.mean.flatten(), u.mT @ torch.diag(s[:-1] ** 2) @ u)
    else:
        factor = u.mT * (s[:-1] ** 2 - s[-1] ** 2).sqrt()
        variance = (s[-1] ** 2).expand(12)
        known = LowRankMultivariateNormal(first_map.mean.flatten(), factor, variance)
    expected = known.log_prob(x.flatten(1))
    assert torch.allclose(log_prob(first_map, x), expected, atol=1e-8)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_whitening_of_fewer_images_than_directions(count):
    x = dequantize(smooth(count), noise="center").double()
    first_map = whitening(x, 192, 1 / 12 / 256**2)
    gram = first_map.basis @ first_map.basis.mT
    assert torch.allclose(gram, torch.eye(192, dtype=torch.float64), atol=1e-10)
    new = dequantize(smooth(100, seed=3)).double()
    assert torch.isfinite(log_prob(first_map, new)).all()
    assert torch.allclose(first_map.inverse(first_map(new)[0])[0], new, atol=1e-9)


def test_whitening_of_data_that_never_change():
    x = torch.full((20, 1, 4, 4), 3.0, dtype=torch.float64)
    first_map = whitening(x, 16)
    y, log_det = first_map(x)
    assert torch.isfinite(y).all()
    assert torch.isfinite(log_det).all()


def model(first_map, **changes):
    settings = {"levels": 2, "steps": 2, "hidden_channels": 8, "coupling_scale": "bounded"}
    settings |= {"image_shape": (3, 8, 8)}
    return Glow(GlowConfig(first_map=first_map, **(settings | changes)))


@pytest.mark.parametrize("first_map", ["marginals", "interlaced", "whitening"])
def test_a_model_starts_where_its_first_map_is(first_map):
    images = smooth(2000)
    flow = model(first_map, rank=192)
    flow.fit_first_map(images)
    flow.initialize(images[:256])
    x = dequantize(smooth(200, seed=9))
    expected = log_prob(flow.first_map, x).mean() / 192
    assert flow.log_prob(x).mean() / 192 >= expected - 0.02


def test_images_unlike_the_training_images_stay_finite_and_come_back():
    flow = model("whitening", rank=60, dense_steps=12, dense_channels=32).double()
    flow.fit_first_map(smooth(60))
    flow.initialize(smooth(60))
    perturb(flow.first_map, 0.4)
    x = flow.to_float(background(20, (3, 8, 8)), noise="center")
    assert flow.first_map(x)[0].abs().max() < 1e5
    assert (flow.decode(flow.encode(x)) - x).abs().max() < 1e-6


def test_a_first_map_is_fitted_once():
    flow = model("whitening", rank=10, dense_steps=1)
    flow.fit_first_map(smooth(100))
    before = {name: weight.clone() for name, weight in flow.first_map.state_dict().items()}
    flow.fit_first_map(background(100, (3, 8, 8)))
    flow.initialize(background(50, (3, 8, 8)))
    after = flow.first_map.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_initialize_alone_fits_the_first_map():
    flow = model("marginals")
    assert not flow.initialized
    flow.initialize(smooth(50))
    assert flow.initialized
    assert flow.first_map.cdf.diff(dim=-1).std() > 0


@pytest.mark.parametrize("first_map", ["marginals", "interlaced", "whitening"])
def test_a_first_map_is_saved_with_the_model(first_map, tmp_path):
    flow = model(first_map, rank=20, dense_steps=2, dense_channels=6)
    flow.initialize(smooth(100))
    perturb(flow)
    flow.save_pretrained(tmp_path)
    again = Glow.from_pretrained(tmp_path)
    x = dequantize(smooth(5, seed=2))
    assert torch.equal(again.log_prob(x), flow.log_prob(x))
    assert torch.equal(again.sample(3, seed=1), flow.sample(3, seed=1))


@pytest.mark.parametrize("first_map", ["marginals", "interlaced", "whitening"])
def test_gradients_are_those_of_the_stored_mode(first_map):
    flow = model(first_map, rank=20, dense_steps=2, dense_channels=6)
    flow.initialize(smooth(100))
    perturb(flow.double())
    x = dequantize(smooth(5, seed=2)).double()
    grads = []
    for memory in ("stored", "reversible"):
        flow.use(memory=memory)
        grads.append(torch.autograd.grad(flow.loss(x), flow.parameters()))
    for stored, recomputed in zip(*grads, strict=True):
        assert torch.allclose(stored, recomputed, atol=1e-8)


@pytest.mark.parametrize("first_map", ["marginals", "interlaced", "whitening"])
def test_scores_of_all_classes_take_one_pass(first_map):
    assert model(first_map, classes=3)._class_stays_at_the_top()


def test_the_levels_share_the_log_probability_of_a_class():
    flow = model("whitening", rank=20, dense_steps=1, classes=3, levels=1)
    flow.initialize(smooth(100))
    perturb(flow)
    x, labels = dequantize(smooth(4, seed=2)), torch.tensor([0, 2, 1, 1])
    by_class = flow.class_scores(x).log_prob
    assert torch.allclose(by_class[range(4), labels], flow.log_prob(x, labels), atol=1e-2)
    mixture = by_class.logsumexp(1) - math.log(3)
    assert torch.allclose(flow.log_prob_by_level(x).sum(1), mixture, atol=1e-2)


def test_auto_is_decided_by_training_alone():
    with pytest.raises(InputError, match="which training decides"):
        model("auto")


@pytest.mark.parametrize("first_map", ["marginals", "interlaced"])
def test_float_data_have_no_bins(first_map):
    with pytest.raises(InputError, match=f"{first_map} is for bytes: float data have no bins"):
        model(first_map, bits=None)


def test_an_unknown_first_map_is_refused():
    with pytest.raises(InputError, match="first_map is 'pca': choose one of"):
        model("pca")


@pytest.mark.parametrize("count", [1, 3, 9, 12, 40])
def test_few_images_do_not_look_regular(count):
    """A tenth as many images as dimensions at most: what comes next is still near the normal."""
    generator = torch.Generator().manual_seed(count)
    mix = torch.randn(400, 400, generator=generator) / 20
    x = 0.1 * (torch.randn(count + 200, 400, generator=generator) @ mix).view(-1, 1, 20, 20)
    first_map = Whitening((1, 20, 20), 300)
    first_map.fit(x[:count], 1e-6)
    known = 0 if count < 10 else count - count // 5
    assert (first_map.log_std[:-1].diff() <= 1e-6).all()
    assert torch.equal(
        first_map.log_std[known:], first_map.log_std[-1:].expand(301 - known)
    )  # fmt: skip
    y, _ = first_map(x[count:])
    assert 0.5 < float(y.square().mean()) < 2.5


@pytest.mark.parametrize("count", [1, 2, 7, 60])
def test_variances_are_pooled_as_isotonic_regression_does(count):
    values = torch.rand(count, dtype=torch.float64) * torch.linspace(2, 1, count).double()
    expected = isotonic_regression(values.numpy(), increasing=False)
    assert np.abs(_non_increasing(values).numpy() - expected).max() < 1e-12


class TestChoice:
    @staticmethod
    def chosen(pixels):
        images = pixels.round().clamp(0, 255).to(torch.uint8).numpy()
        config = TrainConfig(model=Architecture(levels=1, steps=1, first_map="auto"))
        return first_map_chosen(config, ImageData(images)).model.first_map

    def test_of_a_few_images_there_is_none(self):
        assert self.chosen(128 + 20 * torch.randn(9, 1, 8, 8)) == "none"

    def test_what_few_noisy_images_need_is_a_scale(self):
        generator = torch.Generator().manual_seed(0)
        assert self.chosen(128 + 20 * torch.randn(30, 1, 16, 16, generator=generator)) == "none"

    def test_pixels_that_go_together_are_whitened(self):
        generator = torch.Generator().manual_seed(0)
        mix = torch.randn(5, 64, generator=generator)
        x = torch.randn(200, 5, generator=generator) @ mix
        assert self.chosen(128 + 20 * x.view(-1, 1, 8, 8)) == "whitening"

    def test_pixels_of_two_values_have_marginals(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(300, 1, 8, 8, generator=generator) < 0.5
        assert self.chosen(255.0 * x) == "marginals"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (
                {"palette_channels": 8},
                "palette_channels is 8, .* interlaced, and this run's is none",
            ),
            ({"dense_steps": 2}, "--first-map whitening, or no --dense-steps"),
        ],
    )
    def test_an_option_of_another_first_map_is_refused(self, options, words):
        images = ImageData(np.zeros((9, 1, 8, 8), np.uint8))
        for first_map in ("auto", "none"):
            model = Architecture(levels=1, steps=1, first_map=first_map, **options)
            with pytest.raises(InputError, match=words):
                first_map_chosen(TrainConfig(model=model), images)

    def test_squares_of_photographs_are_interlaced(self):
        squares = np.stack([np.arange(12) // 4, np.arange(12) % 2, np.arange(12) // 2 % 2], axis=1)
        images = np.zeros((12, 3, 8, 8), np.uint8)
        config = TrainConfig(model=Architecture(levels=1, steps=1, first_map="auto"))
        chosen = first_map_chosen(config, ImageData(images, patches=squares))
        assert chosen.model.first_map == "interlaced"


def test_directions_in_half_precision_give_every_byte_back():
    images = smooth(600)
    first_map = Whitening((3, 8, 8), 24)
    first_map.fit(dequantize(images, noise="center"), 1 / 12 / 256**2)
    first_map.basis.copy_(first_map.basis.half())
    x = dequantize(images, noise="center")
    back, _ = first_map.inverse(first_map(x)[0])
    assert (back - x).abs().max() < 0.02 / 256
