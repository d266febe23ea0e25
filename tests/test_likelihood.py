"""Bytes to floats and back."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glowflow import InputError
from glowflow.models.likelihood import bits_per_dim, dequantize, quantize

EVERY_BYTE = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


@given(st.integers(1, 8), st.sampled_from(["uniform", "center"]), st.integers(0, 2**31))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_byte_comes_back_without_its_lower_bits(bits, noise, seed):
    generator = torch.Generator().manual_seed(seed)
    x = dequantize(EVERY_BYTE, bits, noise=noise, generator=generator)
    assert -0.5 <= x.min() <= x.max() < 0.5
    assert torch.equal(quantize(x, bits), EVERY_BYTE >> (8 - bits) << (8 - bits))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("u", [0.0, 2.0**-24, 1 - 2.0**-16, 1 - 2.0**-24])
def test_extreme_noise_stays_in_the_bin(monkeypatch, bits, u):
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, u))
    x = dequantize(EVERY_BYTE, bits)
    assert x.max() < 0.5
    assert torch.equal(quantize(x, bits), EVERY_BYTE >> (8 - bits) << (8 - bits))


def test_noise_fills_the_bin():
    x = dequantize(torch.full((1, 1, 100, 100), 128, dtype=torch.uint8), 8)
    u = x * 256
    assert 0 <= u.min() < 0.01
    assert 0.99 < u.max() < 1
    assert u.mean().item() == pytest.approx(0.5, abs=0.02)


def test_values_outside_are_clipped():
    x = torch.tensor([-3.0, -0.5, 0.0, 0.4999, 3.0]).reshape(1, 1, 1, 5)
    assert quantize(x).flatten().tolist() == [0, 0, 128, 255, 255]
    assert quantize(x, 5).flatten().tolist() == [0, 0, 128, 248, 248]


def test_uniform_density_costs_all_the_bits():
    assert bits_per_dim(torch.zeros(2), 12, 5).tolist() == [5.0, 5.0]
    one_bit_less = torch.tensor([12 * 0.6931471805599453])
    assert bits_per_dim(one_bit_less, 12, 8).item() == pytest.approx(7.0)
    assert bits_per_dim(one_bit_less, 12, None).item() == pytest.approx(-1.0)


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_out_of_range(bits):
    with pytest.raises(InputError, match=f"bits is {bits}"):
        dequantize(EVERY_BYTE, bits)
    with pytest.raises(InputError, match=f"bits is {bits}"):
        quantize(torch.zeros(1), bits)


def test_floats_are_no_images():
    with pytest.raises(InputError, match="uint8"):
        dequantize(torch.zeros(1, 1, 2, 2))
    with pytest.raises(InputError, match="uniform or center"):
        dequantize(EVERY_BYTE, noise="gaussian")
