"""Images whose attributes are known pixels, and a model whose codes are the images."""

import numpy as np

from glowflow import Glow, GlowConfig
from glowflow.data.types import ImageData, Splits
from glowflow.latents.codes import flatten, unflatten

SHAPE = (1, 8, 8)
NAMES = ("A", "B", "C", "D")
BLOCKS = {"A": (slice(0, 4), slice(0, 4)), "B": (slice(0, 4), slice(4, 8)),
          "C": (slice(4, 8), slice(0, 4)), "D": (slice(4, 8), slice(4, 8))}  # fmt: skip


class Pixels(Glow):
    """ε = x, in two levels."""

    def __init__(self):
        super().__init__(GlowConfig(image_shape=SHAPE, levels=1, steps=1, hidden_channels=2))

    @property
    def latent_shapes(self):
        return ((1, 4, 8), (1, 4, 8))

    def encode(self, x, labels=None):
        return unflatten(x.flatten(1), self.latent_shapes)

    def decode(self, latents, labels=None):
        return flatten(latents).reshape(-1, *SHAPE)


def blocks(count, agree=0.8, seed=0):
    """An attribute makes its quarter of the image bright.

    B is A with probability `agree`, C is neither's, and D excludes C.
    """
    random = np.random.default_rng(seed)
    a = random.random(count) < 0.5
    b = np.where(random.random(count) < agree, a, ~a)
    c = random.random(count) < 0.4
    d = ~c & (random.random(count) < 0.5)
    truth = np.stack([a, b, c, d], axis=1)
    images = random.integers(60, 101, (count, *SHAPE))
    for column, name in enumerate(NAMES):
        images[(truth[:, column], 0, *BLOCKS[name])] += 80
    return ImageData(images.astype(np.uint8), attributes=truth, attribute_names=NAMES)


def world(train=1200, held=200):
    """The blocks, split."""
    return Splits(blocks(train), blocks(held, seed=1), blocks(held, seed=2), "blocks", "0" * 64)
