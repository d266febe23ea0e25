"""Images of two sides that are alike."""

import numpy as np
import pytest

from glowflow.latents.matching import held_attributes, match


def test_held_are_those_of_which_all_combinations_occur():
    a = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    free = np.array([1, 0, 1, 0, 1, 0, 1, 0], bool)
    never_both = np.array([0, 0, 0, 0, 1, 0, 1, 0], bool)
    held = held_attributes(np.stack([a, free, never_both], 1), [0, 1, 2], 2)
    assert held == {0: [1], 1: [0], 2: []}


def test_pairs_take_the_most_alike_and_share_equals():
    side = np.array([1, 1, 0, 0, 0, 0], bool)
    others = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]], bool)
    pairs = match(side, others)
    np.testing.assert_allclose(pairs.weights, [0.5, 0.5, -0.25, -0.25, -0.5, 0])
    assert pairs.imbalance == pytest.approx(0.5)
    np.testing.assert_allclose(match(~side, others).weights, -pairs.weights)
