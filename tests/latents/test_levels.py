"""What lives at which level."""

import numpy as np
import pytest
import torch

from glowflow import InputError
from glowflow.data.types import ImageData, Splits
from glowflow.latents.codes import unflatten
from glowflow.latents.levels import along_axis, latent_pca
from glowflow.latents.readouts import best_threshold
from tests.latents.worlds import Identity, U, V, confounded, images, of_bytes


def test_threshold_with_the_fewest_errors():
    scores = np.array([0.0, 1.0, 2.0, 3.0])
    assert best_threshold(scores, np.array([0, 0, 1, 1], bool)) == 1.5
    assert best_threshold(scores, np.array([0, 0, 0, 0], bool)) == np.inf
    assert best_threshold(scores, np.array([1, 1, 1, 1], bool)) == -np.inf
    tied = np.array([1.0, 1.0, 1.0, 2.0])
    assert best_threshold(tied, np.array([0, 1, 0, 1], bool)) == 1.5


def test_readout_finds_the_level_that_has_the_attribute():
    a, b, c = (confounded(n, agree=0.5, seed=s) for n, s in ((800, 1), (300, 2), (300, 3)))
    splits = Splits(train=a, valid=b, test=c, source="", checksum="")
    result = latent_pca(Identity(), splits, components=3, progress=False)
    by_name = {readout.name: readout for readout in result.readouts}
    assert U.nonzero()[0] < 8 and V.nonzero()[0] < 8
    for name in "AB":
        first, second, both = by_name[name].accuracy
        assert first > 0.93
        assert both > 0.9
        assert second < 0.65
    for accuracy in by_name["C"].accuracy:
        assert abs(accuracy - by_name["C"].majority) < 0.1
    explained = result.levels[0].shares
    assert float(explained[:2].sum()) > 0.4 > float(result.levels[1].shares[:2].sum())
    assert [x.shape for x in result.coordinates] == [(300, 3), (300, 3)]


def test_pictures_along_an_axis_start_from_the_mean(model):
    data = of_bytes()
    splits = Splits(train=data, valid=data, test=data, source="", checksum="")
    result = latent_pca(model, splits, components=2, progress=False)
    pictures = along_axis(model, result, 1, 0, (-1.0, 0.0, 1.0))
    mean = unflatten(torch.cat([level.mean for level in result.levels])[None], model.latent_shapes)
    expected = model.to_images(model.decode(tuple(eps.float() for eps in mean)))[0].numpy()
    assert np.array_equal(pictures[1], expected)
    assert not np.array_equal(pictures[0], pictures[2])


def test_classes_stand_in_for_attributes(model):
    pixels = images(40).numpy()
    labels = np.arange(40) % 2
    data = ImageData(pixels, labels=labels, class_names=("even", "odd"))
    splits = Splits(train=data, valid=data, test=data, source="", checksum="")
    result = latent_pca(model, splits, components=2, progress=False)
    assert [readout.name for readout in result.readouts] == ["even", "odd"]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_have_no_axes(model, count):
    data = ImageData(images(4).numpy())
    splits = Splits(data.part(0, count), data, data, source="", checksum="")
    with pytest.raises(InputError, match=f"2 training images, and there are {count}: give more"):
        latent_pca(model, splits, progress=False)
