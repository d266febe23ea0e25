"""A place between two to four codes."""

import pytest
import torch

from glowflow import InputError
from glowflow.latents.edits import blend, interpolate


@pytest.fixture
def codes():
    torch.manual_seed(0)
    return [(torch.randn(1, 2, 4, 4), torch.randn(1, 8, 2, 2)) for _ in range(4)]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("curve", ["linear", "spherical"])
def test_the_corners_are_the_codes(codes, curve):
    a, b, c, d = codes
    for across, down, two, three, four in [
        (0, 0, a, a, a), (1, 0, b, b, b), (0, 1, a, c, c), (1, 1, b, c, d)
    ]:  # fmt: skip
        assert equal(blend(codes[:2], across, down, curve), two)
        assert equal(blend(codes[:3], across, down, curve), three)
        assert equal(blend(codes, across, down, curve), four)


def test_the_middle_of_four_is_their_mean(codes):
    middle = blend(codes, 0.5, 0.5)
    for level, eps in enumerate(middle):
        mean = torch.stack([code[level] for code in codes]).mean(0)
        assert torch.allclose(eps, mean, atol=1e-6)


def test_an_edge_is_the_way_between_two(codes):
    for count in (2, 3, 4):
        assert equal(blend(codes[:count], 0.3, 0.0), interpolate(codes[0], codes[1], 0.3))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_other_numbers_of_codes_are_refused(codes, count):
    with pytest.raises(InputError, match="two to four"):
        blend((codes * 2)[:count], 0.5, 0.5)
