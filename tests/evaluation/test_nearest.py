"""Nearest images."""

import math

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
