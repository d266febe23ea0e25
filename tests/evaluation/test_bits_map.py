"""The map of bits: its sum is the image's bits, and nothing is without a place that has one."""

import math

import pytest
import torch

from glowflow import InputError
from glowflow.data.types import ImageData
from glowflow.evaluation.bits_map import bits_map
from glowflow.evaluation.noise import noise_draws
from glowflow.evaluation.scoring import score

from .test_scoring import make, noise

LOCAL = {
    "affine": {},
    "additive": {"coupling": "additive"},
    "plain convolutions, diagonal prior": {"permutation": "plain", "prior": "diagonal"},
    "learned noise": {"dequantization": "variational"},
    "marginals": {"first_map": "marginals"},
    "interlaced": {"first_map": "interlaced", "interlaced_channels": 4},
    "fewer bits, grey": {"bits": 5, "image_shape": (1, 8, 16)},
    "floats": {"bits": None},
    "realnvp": {"kind": "realnvp"},
}


def noisy(model, count=3):
    if model.config.bits is None:
        return torch.randn(count, *model.config.image_shape, dtype=model.dtype)
    return model.to_float(torch.from_numpy(noise(count, model.config.image_shape)))


@pytest.mark.parametrize("name", LOCAL)
def test_everything_has_a_place(name):
    model = make(**LOCAL[name]).double()
    x = noisy(model)
    found = bits_map(model, x)
    dims = math.prod(model.config.image_shape)
    wanted = -model.log_prob(x) / math.log(2) + dims * (model.config.bits or 0)
    assert torch.allclose(found.whole.sum((1, 2)), wanted, rtol=1e-12, atol=1e-9)
    assert found.no_place.abs().max() < 1e-8 * dims
    by_level = model.log_prob_by_level(x).diff(dim=1) / -math.log(2)
    assert torch.allclose(found.by_level.sum((2, 3)).diff(dim=1)[:, 1:], by_level[:, 1:], atol=1e-8)


@pytest.mark.parametrize("dense", [0, 1])
def test_whitening_has_no_place_and_the_sum_is_exact_all_the_same(dense):
    model = make(first_map="whitening", rank=12, dense_steps=dense, dense_channels=8).double()
    x = noisy(model)
    found = bits_map(model, x)
    of_map = model.first_map(x)[1] / -math.log(2)
    assert torch.allclose(found.no_place, of_map, atol=1e-7)
    wanted = 192 * 8 - model.log_prob(x) / math.log(2)
    assert torch.allclose(found.whole.sum((1, 2)), wanted, rtol=1e-12)


def test_classes_are_a_mixture():
    model = make(classes=3).double()
    x = noisy(model)
    found = bits_map(model, x)
    wanted = 192 * 8 - model.log_prob_by_level(x).sum(1) / math.log(2)
    assert torch.allclose(found.whole.sum((1, 2)), wanted, rtol=1e-12)
    assert (found.no_place >= -1e-7).all() and (found.no_place <= math.log2(3) + 1e-7).all()


def test_the_sum_is_what_glow_score_says():
    model, images = make(), noise(2)
    (x,) = noise_draws(model, torch.from_numpy(images), torch.arange(2).numpy(), draws=1, seed=0)
    figures = score(model, ImageData(images), progress=False).bits_per_dim
    whole = bits_map(model, x).whole.sum((1, 2)).numpy()
    assert whole == pytest.approx(192 * figures, rel=1e-9)


def test_a_change_is_seen_where_it_is():
    """Without couplings that look around, only the blocks of the changed pixels change."""
    model = make(levels=2, hidden_channels=4).double()
    for module in model.modules():
        if hasattr(module, "network"):
            torch.nn.init.zeros_(module.network.last.weight)
        if type(module).__name__ == "SplitPrior":
            torch.nn.init.zeros_(module.conv.weight)
    x = noisy(model, 1)
    other = x.clone()
    other[..., 5, 2] += 0.1
    changed = (bits_map(model, x).whole - bits_map(model, other).whole)[0].abs() > 1e-6
    assert changed.nonzero().min(0).values.tolist() == [4, 0]
    assert changed.nonzero().max(0).values.tolist() == [7, 3]


def test_what_overflows_has_no_map():
    model = make(coupling_scale="exp")
    with pytest.raises(InputError, match="overflow"):
        bits_map(model, noisy(model) * 1e30)
