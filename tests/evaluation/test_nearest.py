"""Nearest images."""

import math

import numpy as np
import pytest

from glowflow.evaluation.nearest import nearest
from tests.evaluation.images import noise


def test_nearest_is_exact():
    among = noise(3000, seed=4)
    images = among[[7, 2999, 1500]].copy()
    images[0, 0, 0, 0] ^= 1
    index, distance = nearest(images, among)
    assert index.tolist() == [7, 2999, 1500]
    assert distance[0] == pytest.approx(1 / math.sqrt(192), rel=1e-3)
    assert distance[1] < 1e-2


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_near_copies_are_told_apart(offset):
    random = np.random.default_rng(0)
    among = (offset + random.normal(0, 1, (100, 3, 32, 32))).astype(np.float32)
    index, distance = nearest(among[40:60], among)
    assert index.tolist() == list(range(40, 60))
    assert (distance == 0).all()
