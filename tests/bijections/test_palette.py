"""What tells an image's values from those that it had before."""

import copy
import math

import pytest
import torch

from glowflow.bijections import Interlaced
from glowflow.bijections.palette import Palette, counts
from glowflow.models import Glow, GlowConfig
from glowflow.models.likelihood import dequantize
from glowflow.models.priors import standard_normal_log_prob
from glowflow.nn import OctaveNetwork, PaletteNetwork
from glowflow.nn.palette_network import stretched
from tests.conftest import perturb

SHAPE = (1, 16, 16)


def combs(count, shape=SHAPE, seed=0, every=4):
    """Bytes of which an image has each fourth value, from one of its own."""
    noise = torch.Generator().manual_seed(seed)
    first = torch.randint(0, every, (count, 1, 1, 1), generator=noise)
    return (torch.randint(0, 256 // every, (count, *shape), generator=noise) * every + first).byte()


def with_palettes(images, bits=8, hidden=4):
    """In octaves of any size."""
    first_map = Interlaced(
        tuple(images.shape[1:]), bits, lambda c, n, below: OctaveNetwork(c, n, 6, below)
    )
    for octave in first_map.octaves:
        octave.palette_network = PaletteNetwork(2**bits, hidden)
    first_map.fit(dequantize(images, bits, noise="center"))
    return first_map


def unaware_of_contrast(first_map):
    for octave in first_map.octaves:
        octave.palette_network.common.data.fill_(-1e4)
    return first_map


def bits_per_dim(first_map, images):
    y, log_det = first_map(dequantize(images))
    nats = standard_normal_log_prob((y,)) + log_det
    return 8 - nats.mean() / images[0].numel() / math.log(2)


@pytest.mark.parametrize("bins", [2, 3, 16, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bins_follow_upon_each_other_to_the_bit(bins, dtype):
    torch.manual_seed(0)
    logits = (4 * torch.randn(50, 3, bins, dtype=dtype)).clamp(-4, 4)
    starts, widths, *_ = Palette.of(logits)
    assert torch.equal((starts + widths)[..., :-1], starts[..., 1:])
    assert (starts[..., 0] == -0.5).all() and (widths > 0).all()
    assert torch.allclose(starts[..., -1] + widths[..., -1], torch.tensor(0.5, dtype=dtype))
    assert torch.allclose(widths, logits.softmax(-1), atol=3e-7)


def test_values_are_taken_through_the_cdf_and_beyond_it():
    torch.manual_seed(0)
    palette = Palette.of(torch.randn(2, 3, 8).double())
    x = torch.linspace(-1, 1, 33).double().view(1, 1, -1, 1, 1).expand(2, 3, -1, 2, 1)
    found = palette(x)
    assert (found.diff(dim=2) > 0).all()
    index = torch.arange(8.0).double().view(1, 1, 8, 1).expand(2, 3, 8, 1)
    starts, widths = palette.start(index), palette.width(index)
    assert torch.equal(starts[..., 0], palette.starts)
    assert torch.allclose(found[:, :, 8:24:2, 0, 0], starts[..., 0])
    assert torch.allclose(found[:, :, 9:24:2, 0, 0], (starts + widths / 2)[..., 0])
    slopes = found[:, :, [1, -1], 0, 0] - found[:, :, [0, -2], 0, 0]
    assert torch.allclose(slopes, widths[..., [0, -1], 0] / 2)


def test_even_log_probabilities_change_nothing():
    x = torch.rand(2, 1, 4, 3, 3) - 0.5
    assert torch.allclose(Palette.of(torch.zeros(2, 1, 256))(x), x, atol=1e-6)


def test_each_value_is_counted():
    index = torch.randint(0, 16, (3, 2, 5, 4))
    found = counts(index.float(), 16)
    for image in range(3):
        for channel in range(2):
            expected = torch.bincount(index[image, channel].flatten(), minlength=16)
            assert torch.equal(found[image, channel], expected.float())
    assert counts(index[:0].float(), 16).shape == (0, 2, 16)


def test_a_palette_makes_no_difference_at_its_start_where_no_contrast_is_stretched():
    images = combs(30)
    first_map = unaware_of_contrast(with_palettes(images))
    x = dequantize(images[:4])
    y, log_det = first_map(x)
    for octave in first_map.octaves:
        octave.palette_network = None
    y_without, log_det_without = first_map(x)
    assert torch.allclose(y, y_without, atol=1e-4)
    assert torch.allclose(log_det, log_det_without, atol=1e-2)  # of 1,400 nats


@pytest.mark.parametrize("bins", [2, 3, 16, 256])
def test_values_of_stretched_contrasts(bins):
    found = stretched(torch.zeros(1, bins))
    numbers = range(max(2, bins // 16), bins - 1)
    assert len(found) == len(numbers)
    for row, m in zip(found, numbers, strict=True):
        values = {(bins - 1) * k // m for k in range(m + 1)}
        assert set(row.nonzero().flatten().tolist()) == values
    network = PaletteNetwork(bins, 2).double()
    few = torch.zeros(1, 1, bins).double()
    assert torch.allclose(network(few).exp().mean(), torch.tensor(1.0).double(), atol=0.05)


@pytest.mark.parametrize("m", [100, 180, 230])
def test_a_stretched_contrast_is_told_before_anything_is_learned(m):
    noise = torch.Generator().manual_seed(m)
    images = (255 * torch.randint(0, m + 1, (40, 1, 32, 32), generator=noise) // m).byte()
    first_map = with_palettes(images)
    told = bits_per_dim(first_map, images).item()
    untold = bits_per_dim(unaware_of_contrast(first_map), images).item()
    assert untold - math.log2(256 / m) < told < untold - 0.5 * math.log2(256 / m)


def test_values_that_an_image_does_not_have_are_learned():
    torch.manual_seed(0)
    first_map = unaware_of_contrast(with_palettes(combs(200), hidden=4))
    networks = [octave.palette_network for octave in first_map.octaves[-2:]]
    parameters = [weight for network in networks for weight in network.parameters()]
    start = bits_per_dim(first_map, combs(64, seed=1)).item()
    optimizer = torch.optim.Adamax(parameters, lr=5e-2)
    for step in range(25):
        optimizer.zero_grad()
        bits_per_dim(first_map, combs(8, seed=10 + step)).backward()
        optimizer.step()
    assert start > 8.0
    assert bits_per_dim(first_map, combs(64, seed=1)).item() < start - 1.0  # of 2


@pytest.mark.parametrize("noise", ["center", "uniform"])
@pytest.mark.parametrize("kind", ["combs", "noise", "black", "two values", "ramp"])
def test_every_byte_comes_back_in_float32(kind, noise):
    torch.manual_seed(0)
    shape = (3, 8, 8)
    first_map = perturb(with_palettes(combs(200, shape)), 0.3)
    any_bytes = torch.randint(0, 256, (20, *shape))
    images = {
        "combs": combs(20, shape, seed=1),
        "noise": any_bytes,
        "black": torch.zeros_like(any_bytes),
        "two values": 40 + 3 * (any_bytes > 100).long(),
        "ramp": torch.arange(0, 256, 4).view(8, 8).expand_as(any_bytes),
    }[kind].byte()
    y, _ = first_map(dequantize(images, noise=noise))
    assert torch.equal(((first_map.inverse(y)[0] + 0.5) * 256).floor().byte(), images)


def test_the_same_bins_are_found_by_few_and_by_many_parts(monkeypatch):
    torch.manual_seed(0)
    first_map = perturb(with_palettes(combs(100)), 0.3)
    y = 2 * torch.randn(20, *SHAPE)
    found = []
    for few in (0, 10**9):
        monkeypatch.setattr("glowflow.bijections.interlaced.FEW", few)
        found.append(first_map.inverse(y)[0])
    assert torch.allclose(*found, atol=1e-6)


@pytest.mark.parametrize("together", [100, 10**9])
def test_phases_are_told_together_as_they_are_alone(together, monkeypatch):
    torch.manual_seed(0)
    first_map = perturb(with_palettes(combs(100, (3, 8, 8))), 0.3).double()
    first_map.octaves[0].palette_network = None
    x = dequantize(combs(5, (3, 8, 8), seed=1)).double().requires_grad_()
    monkeypatch.setattr("glowflow.bijections.interlaced.TOGETHER", 0)
    expected, log_det = first_map(x)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    monkeypatch.setattr("glowflow.bijections.interlaced.TOGETHER", together)
    y, found = first_map(x)
    assert torch.allclose(y, expected, rtol=1e-10) and torch.allclose(found, log_det, rtol=1e-10)
    assert torch.allclose(torch.autograd.grad(y.sum(), x)[0], slope, rtol=1e-8)
    back, inverse = first_map.inverse(y)
    assert torch.allclose(back, x, atol=1e-9) and torch.allclose(inverse, -log_det, rtol=1e-8)


@pytest.mark.parametrize("m", [60, 200])
def test_bytes_come_back_where_it_is_not_known_how_contrast_was_stretched(m):
    """A few values, which many numbers of values could have given, in batches of other sizes."""
    torch.manual_seed(m)
    first_map = perturb(with_palettes(combs(200)), 0.1)
    few = torch.randint(0, m + 1, (6,))
    images = (255 * few[torch.randint(0, 6, (200, *SHAPE))] // m).byte()
    x = dequantize(images)
    y, _ = first_map(x)
    back = torch.cat([first_map.inverse(some)[0] for some in y.split(1)])
    assert torch.equal(((back + 0.5) * 256).floor().byte(), images)


def test_a_model_has_palettes_where_enough_is_known():
    config = {"image_shape": (1, 32, 32), "steps": 1, "hidden_channels": 4}
    config |= {"first_map": "interlaced", "interlaced_channels": 4}
    model = Glow(GlowConfig(**config, palette_channels=2))
    has_palette = [octave.palette_network is not None for octave in model.first_map.octaves]
    assert has_palette == 3 * [False] + 2 * [True]
    model = Glow(GlowConfig(**config))
    assert not any(octave.palette_network for octave in model.first_map.octaves)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GlowConfig(image_shape=SHAPE, levels=2, steps=1, hidden_channels=4, palette_channels=3,
                        first_map="interlaced", interlaced_channels=4)  # fmt: skip
    model = Glow(config)
    model.initialize(combs(100))
    perturb(model.first_map, 0.2)
    return model.eval()


def test_an_image_has_its_density_in_any_batch_and_after_saving(model, tmp_path):
    x = model.to_float(combs(5, seed=2), noise="center")
    found = model.log_prob(x)
    assert torch.allclose(found[2:3], model.log_prob(x[2:3]), atol=1e-3)
    model.save_pretrained(tmp_path / "model")
    loaded = Glow.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.log_prob(x), found)
    assert torch.equal(loaded.sample(2, seed=0), model.sample(2, seed=0))
    assert torch.equal(copy.deepcopy(model).log_prob(x), found)


def test_gradients_of_each_image_by_vmap(model):
    x = model.to_float(combs(3, seed=2), noise="center")
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def nats(weights, image):
        return torch.func.functional_call(model, weights, (image[None],))[1].sum()

    at_once = torch.func.vmap(torch.func.grad(nats), (None, 0))(weights, x)
    for number, image in enumerate(x):
        for name, gradient in torch.func.grad(nats)(weights, image).items():
            assert torch.allclose(at_once[name][number], gradient, rtol=1e-3, atol=1e-3), name


def test_deterministic_algorithms_do(model):
    x = model.to_float(combs(3, seed=2), noise="center")
    expected = model.log_prob(x)
    torch.use_deterministic_algorithms(True)
    try:
        model.log_prob(x).sum().backward()
        assert torch.equal(model.log_prob(x), expected)
    finally:
        torch.use_deterministic_algorithms(False)
        model.zero_grad()
