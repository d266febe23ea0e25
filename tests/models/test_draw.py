"""Samples are those of one array of noise, and what is no picture is counted."""

import math

import pytest
import torch

from glowflow import Glow, GlowConfig, NotFiniteWarning
from glowflow.models.flow import IMAGES_AT_ONCE

from ..conftest import perturb


def a_model(**changes):
    config = {"image_shape": (3, 4, 4), "levels": 2, "steps": 1, "hidden_channels": 4, **changes}
    return perturb(Glow(GlowConfig(**config)), 0.02).eval()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 2, 2)])
def test_the_noise_is_that_of_one_array(count, shape):
    model = a_model(image_shape=shape, levels=1 if shape[1] == 2 else 2)
    noise = torch.randn(count, math.prod(shape), generator=torch.Generator().manual_seed(3))
    split = torch.split(noise, [math.prod(each) for each in model.latent_shapes], dim=1)
    latents = [e.reshape(-1, *each) for e, each in zip(split, model.latent_shapes, strict=True)]
    with torch.no_grad():
        wanted = model.to_images(model.decode(tuple(latents)))
    assert torch.equal(model.draw(count, seed=3).images, wanted)


def test_classes_do_not_depend_on_the_default_dtype():
    model = a_model(classes=5)
    wanted = model.draw(70, seed=1).images
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(model.draw(70, seed=1).images, wanted)
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_overflows_is_counted(monkeypatch):
    model = a_model()
    x = torch.zeros(5, 3, 4, 4)
    x[1, 0, 0, 0], x[2, 0, 0, 0], x[3, 0, 0, 0] = math.nan, math.inf, 5.1
    monkeypatch.setattr(model, "decode", lambda *_: x)
    drawn = model.draw(5)
    assert (drawn.not_finite, drawn.far) == (2, 1)
    assert drawn.usable.tolist() == [True, False, False, False, True]
    assert "2 of 5 samples are not finite and 1 are far" in drawn.concern()
    with pytest.warns(NotFiniteWarning, match="2 of 5 samples are not finite and 1 are far"):
        model.sample(5)


def test_memory_is_that_of_a_part(monkeypatch):
    model, sizes, randn = a_model(), [], torch.randn

    def recording(*shape, **options):
        sizes.append(shape)
        return randn(*shape, **options)

    monkeypatch.setattr(torch, "randn", recording)
    parts = model.draw_in_parts(10_000)
    first = next(parts)
    assert len(first.images) == IMAGES_AT_ONCE == 64
    assert sizes == [(64, 48)]
