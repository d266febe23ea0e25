"""Charts: exact axes of each part, and moves that go along them and nowhere else."""

import pytest
import torch

from glowflow import InputError
from glowflow.latents.chart import chart
from glowflow.latents.codes import flatten, unflatten

SHAPES = ((2, 4, 4), (8, 2, 2))


def codes(count=20):
    scales = torch.linspace(3, 0.1, 64, dtype=torch.float64)
    return torch.randn(count, 64, dtype=torch.float64) * scales + 1.0


def test_axes_are_those_of_an_exact_decomposition():
    rows = codes()
    made = chart(rows, SHAPES, 4)
    for part, (start, stop) in zip(made.parts, [(0, 64), (0, 32), (32, 64)], strict=True):
        centred = rows[:, start:stop] - rows[:, start:stop].mean(0)
        singular = torch.linalg.svdvals(centred)
        assert torch.allclose(part.variances, singular[:4].square() / 19)
        assert torch.allclose(part.shares, (singular.square() / singular.square().sum())[:4])
    for along in made.coordinates:
        assert torch.allclose(along.std(0), torch.ones(4, dtype=torch.float64))
        assert along.mean(0).abs().max() < 1e-9


def test_a_move_changes_one_coordinate_of_its_part():
    rows = codes()
    made = chart(rows, SHAPES, 4)
    code = unflatten(rows[:1], SHAPES)
    for number, part in enumerate(made.parts):
        moved = flatten(made.moved(code, number, 2, 1.5))
        change = part.coordinates(moved) - part.coordinates(rows[:1])
        assert torch.allclose(change, torch.tensor([[0.0, 0.0, 1.5, 0.0]]).double(), atol=1e-9)
    assert (flatten(made.moved(code, 1, 0, 9.0)) == rows[:1])[:, 32:].all()
    assert made.parts[0].coordinates(flatten(made.middle())).abs().max() < 1e-9


def test_few_codes_have_few_axes_and_too_few_none():
    made = chart(codes(3), SHAPES, 10)
    assert [len(part.axes) for part in made.parts] == [2, 2, 2]
    with pytest.raises(InputError, match="at least 3"):
        chart(codes(2), SHAPES, 10)
    for part, axis in ((3, 0), (0, 2), (-1, 0)):
        with pytest.raises(InputError, match="no axis"):
            made.moved(made.middle(), part, axis, 1.0)
    equal = chart(torch.ones(5, 64), SHAPES, 2)
    assert all(torch.isfinite(along).all() for along in equal.coordinates)
