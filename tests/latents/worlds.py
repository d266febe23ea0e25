"""Codes whose answer is known, and a model whose codes are the images."""

import numpy as np
import torch

from glowflow import Glow, GlowConfig
from glowflow.data.types import ImageData
from glowflow.latents.codes import flatten, unflatten
from glowflow.latents.estimation import estimate_directions
from tests.conftest import perturb

SHAPE = (1, 4, 4)
D = 16
U, V = np.eye(D)[0] * 4, np.eye(D)[5] * 4
"""What having A, and having B, adds to a code."""


class Identity(Glow):
    """A model whose codes are the images, in two levels: float data, ε = x."""

    def __init__(self):
        super().__init__(GlowConfig(image_shape=SHAPE, levels=1, steps=1, hidden_channels=2,
                                    bits=None))  # fmt: skip

    @property
    def latent_shapes(self):
        return ((2, 2, 2), (2, 2, 2))

    def encode(self, x, labels=None):
        return unflatten(x.flatten(1), self.latent_shapes)

    def decode(self, latents, labels=None):
        return flatten(latents).reshape(-1, *SHAPE)


def confounded(count=4000, agree=0.85, seed=0):
    """Codes a·U + b·V + noise, where b is a with probability `agree`, and c is neither's."""
    random = np.random.default_rng(seed)
    a = random.random(count) < 0.5
    b = np.where(random.random(count) < agree, a, ~a)
    c = random.random(count) < 0.3
    codes = a[:, None] * U + b[:, None] * V + random.standard_normal((count, D))
    images = codes.reshape(-1, *SHAPE).astype(np.float32)
    return ImageData(images, attributes=np.stack([a, b, c], 1), attribute_names=("A", "B", "C"))


def images(count, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    return torch.from_numpy(values)


def small_model():
    torch.manual_seed(0)
    model = Glow(GlowConfig(image_shape=(3, 8, 8), levels=2, steps=2, hidden_channels=6))
    model.initialize(images(64))
    return perturb(model, 0.02).eval()


def of_bytes(count=60):
    truth = np.random.default_rng(5).random((count, 2)) < 0.5
    pixels = images(count).numpy().copy()
    pixels[truth[:, 0], 0] //= 2
    return ImageData(pixels, attributes=truth, attribute_names=("Dark", "Other"))


def estimated(data, model=None, **options):
    options = {"progress": False, "minimum": 5, **options}
    return estimate_directions(model or Identity(), data, **options)
