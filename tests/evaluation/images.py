"""Images of noise."""

import numpy as np


def noise(count, shape=(3, 8, 8), seed=0, high=256):
    return np.random.default_rng(seed).integers(0, high, (count, *shape), dtype=np.uint8)
