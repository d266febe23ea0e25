"""Which images of a data set are used."""

import pytest

from glowflow import InputError
from glowflow.data.inputs import evenly


def test_evenly():
    assert evenly(5, None).tolist() == [0, 1, 2, 3, 4]
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(9, 3).tolist() == [0, 4, 8]
    with pytest.raises(InputError, match="number of images is 0"):
        evenly(5, 0)
