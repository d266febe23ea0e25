"""Which images of a data set are used."""

import numpy as np
import pytest

from glowflow import InputError
from glowflow.data.inputs import evenly
from glowflow.data.partition import spread
from glowflow.data.types import ImageData


def test_evenly():
    assert evenly(5, None).tolist() == [0, 1, 2, 3, 4]
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(9, 3).tolist() == [0, 4, 8]
    with pytest.raises(InputError, match="number of images is 0"):
        evenly(5, 0)


@pytest.mark.parametrize("labels", [np.repeat([0, 1, 2], 20), np.arange(60) % 3, None], ids=str)
def test_some_images_are_of_every_class_and_of_the_whole(labels):
    """As those that a run is validated on."""
    images = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1)
    chosen = spread(ImageData(images, labels), 9)
    numbers = chosen.images[:, 0, 0, 0].tolist()
    assert numbers == sorted(set(numbers)) and len(numbers) == 9
    assert numbers[0] < 10 and numbers[-1] >= 50
    if labels is not None:
        assert np.bincount(chosen.labels).tolist() == [3, 3, 3]
        assert (chosen.labels == labels[numbers]).all()
    assert len(spread(ImageData(images, labels), 100)) == 60
