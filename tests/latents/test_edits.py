"""Edits, paths and levels drawn anew."""

import math

import pytest
import torch

from glowflow import InputError
from glowflow.latents.codes import flatten
from glowflow.latents.edits import edit, interpolate, resample_level
from tests.latents.worlds import images


def codes(model, count=2, seed=1):
    return model.encode(model.to_float(images(count, seed), noise="center"))


def some_direction(model, seed=0, size=0.5):
    random = torch.Generator().manual_seed(seed)
    return tuple(size * torch.randn(shape, generator=random) for shape in model.latent_shapes)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_an_amount_of_0_returns_the_bytes(model, temperature):
    latents = codes(model)
    moved = edit(latents, [some_direction(model)], [0.0], temperature=temperature)
    assert torch.equal(model.to_images(model.decode(moved)), images(2, 1))


def test_an_edit_adds_and_its_opposite_takes_away(model):
    latents, first, second = codes(model), some_direction(model, 0), some_direction(model, 1)
    moved = edit(latents, [first, second], [0.5, -2.0])
    for new, old, a, b in zip(moved, latents, first, second, strict=True):
        torch.testing.assert_close(new, old + 0.5 * a - 2 * b)
    back = edit(moved, [first, second], [-0.5, 2.0])
    assert torch.equal(model.to_images(model.decode(back)), images(2, 1))


def test_temperature_is_of_the_part_along_the_directions(model):
    directions = [some_direction(model, 0), some_direction(model, 1)]
    axes = torch.stack([torch.cat([eps.flatten() for eps in d]) for d in directions]).double()
    basis = torch.linalg.qr(axes.T)[0]
    latents = codes(model)
    rows, half, none = (
        flatten(code).double()
        for code in (
            latents,
            edit(latents, directions, [0.5, 1.0], temperature=0.5),
            edit(latents, directions, [0.5, 1.0], temperature=0.0),
        )
    )
    shift = 0.5 * axes[0] + axes[1]
    torch.testing.assert_close(half @ basis, (0.5 * rows + shift) @ basis, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close((none[0] - none[1]) @ basis, torch.zeros(2).double(), atol=1e-4,
                               rtol=0)  # fmt: skip
    outside = torch.eye(len(basis)).double() - basis @ basis.T
    torch.testing.assert_close(none @ outside, rows @ outside, atol=1e-4, rtol=1e-4)


def test_edit_refuses_what_does_not_fit(model):
    latents, direction = codes(model), some_direction(model)
    with pytest.raises(InputError, match="1 attributes and 2 amounts"):
        edit(latents, [direction], [1.0, 2.0])
    for amount, temperature in ((1.0, -1.0), (math.nan, 1.0), (1.0, math.nan)):
        with pytest.raises(InputError, match="temperature of 0 or more, and finite amounts"):
            edit(latents, [direction], [amount], temperature=temperature)


def test_linear_path_and_its_ends(model):
    a, b = codes(model, 1, 1), codes(model, 1, 2)
    for curve in ("linear", "spherical"):
        assert all(map(torch.equal, interpolate(a, b, 0.0, curve), a))
        assert all(map(torch.equal, interpolate(a, b, 1.0, curve), b))
    for x, p, q in zip(interpolate(a, b, 0.25), a, b, strict=True):
        torch.testing.assert_close(x, 0.75 * p + 0.25 * q)
    with pytest.raises(InputError, match="curve is 'round'"):
        interpolate(a, b, 0.5, "round")


def test_spherical_path_keeps_the_length_and_turns_evenly():
    random = torch.Generator().manual_seed(0)
    a, b = (tuple(torch.randn(2, 5, s, s, generator=random) for s in (4, 2)) for _ in range(2))
    b = tuple(
        q * (p.flatten(1).norm(dim=1) / q.flatten(1).norm(dim=1))[:, None, None, None]
        for p, q in zip(a, b, strict=True)
    )
    for t in (0.1, 0.5, 0.8):
        for x, p, q in zip(interpolate(a, b, t, "spherical"), a, b, strict=True):
            x, p, q = (eps.flatten(1) for eps in (x, p, q))
            torch.testing.assert_close(x.norm(dim=1), p.norm(dim=1))
            angle = torch.cosine_similarity(p, q).arccos()
            torch.testing.assert_close(
                torch.cosine_similarity(p, x).arccos(), t * angle, atol=1e-3, rtol=0
            )


def test_spherical_path_on_one_line_is_linear():
    a = (torch.ones(1, 2, 1, 1),)
    for b in ((3 * a[0],), (-2 * a[0],), (0 * a[0],)):
        (x,) = interpolate(a, b, 0.25, "spherical")
        torch.testing.assert_close(x, 0.75 * a[0] + 0.25 * b[0])


def test_resampling_leaves_the_other_levels_alone(model):
    latents = codes(model)
    new = resample_level(latents, 2, seed=3, temperature=0.5)
    assert torch.equal(new[0], latents[0])
    assert not torch.equal(new[1], latents[1])
    assert all(map(torch.equal, new, resample_level(latents, 2, seed=3, temperature=0.5)))
    assert not torch.equal(new[1], resample_level(latents, 2, seed=4, temperature=0.5)[1])
    assert float(resample_level(latents, 1, seed=0, temperature=0.0)[0].abs().max()) == 0
    for level in (0, 3):
        with pytest.raises(InputError, match=f"level is {level}: this model has the levels 1 to 2"):
            resample_level(latents, level, seed=0)
    with pytest.raises(InputError, match="temperature is -1"):
        resample_level(latents, 1, seed=0, temperature=-1)


@pytest.mark.parametrize("others", [(-1.0,), (0.0,), (2.0, -0.5)])
def test_dependent_directions_span_no_more(model, others):
    latents, direction = codes(model), some_direction(model)
    expected = edit(latents, [direction], [1.0], temperature=0.0)
    several = [direction, *(tuple(factor * eps for eps in direction) for factor in others)]
    amounts = [1.0 - sum(f * 0.25 for f in others), *(0.25 for _ in others)]
    found = edit(latents, several, amounts, temperature=0.0)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
