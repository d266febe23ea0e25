"""A mean and its error."""

import math

import numpy as np
import pytest

from glowflow.evaluation.estimate import mean_and_error


def test_mean_and_error():
    mean, error = mean_and_error(np.array([1.0, 2.0, 3.0, 4.0]))
    assert mean == 2.5
    assert error == pytest.approx(math.sqrt(5 / 3 / 4))
    assert mean_and_error(np.array([1.0]))[1] is None


def test_mean_and_error_by_hand():
    assert mean_and_error(np.array([1.0, 3.0])) == pytest.approx((2.0, 1.0))
    assert mean_and_error(np.array([5.0])) == (5.0, None)


def test_values_of_a_group_count_as_one():
    values = np.random.default_rng(0).normal(size=40)
    alone = mean_and_error(values)
    assert mean_and_error(values, np.arange(40)[::-1]) == pytest.approx(alone)
    assert mean_and_error(np.repeat(values, 5), np.repeat(np.arange(40), 5)) == pytest.approx(alone)
    assert mean_and_error(np.repeat(values, 5))[1] < 0.5 * alone[1]
    assert mean_and_error(values, np.zeros(40))[1] is None
