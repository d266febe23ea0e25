"""Directions of attributes, against closed forms on codes whose answer is known."""

import numpy as np
import pytest
import torch

from glowflow import InputError
from glowflow.data.types import ImageData
from glowflow.latents.estimation import FULL_AMOUNT
from glowflow.latents.statistics import RunningPCA, discriminant
from tests.latents.worlds import SHAPE, U, V, confounded, estimated


def row(directions, name):
    return torch.cat([eps.flatten() for eps in directions.latents[name]]).double().numpy()


def test_mean_is_the_published_direction():
    data = confounded(500)
    a = data.attributes[:, 0]
    flat = data.images.reshape(500, -1).astype(np.float64)
    expected = 1.6 * (flat[a].mean(0) - flat[~a].mean(0))
    directions = estimated(data, batch_size=64)
    np.testing.assert_allclose(row(directions, "A"), expected, atol=1e-5)
    assert directions.counts["A"] == (int(a.sum()), int((~a).sum()))
    assert [tuple(eps.shape) for eps in directions.latents["A"]] == [(2, 2, 2), (2, 2, 2)]


def test_mean_leaks_what_goes_with_the_attribute_and_the_others_do_not():
    data = confounded()
    a, b = data.attributes[:, 0], data.attributes[:, 1]
    leak = b[a].mean() - b[~a].mean()
    assert leak > 0.6
    part_of_b = {}
    for estimator in ("mean", "matched", "linear"):
        direction = row(estimated(data, estimator=estimator), "A")
        part_of_b[estimator] = direction @ V / (FULL_AMOUNT * V @ V)
        assert direction @ U / (FULL_AMOUNT * U @ U) > 0.95, estimator
    assert part_of_b["mean"] == pytest.approx(leak, abs=0.05)
    assert abs(part_of_b["matched"]) < 0.03
    assert abs(part_of_b["linear"]) < 0.03


def test_matched_is_the_effect_of_the_attribute_alone():
    direction = row(estimated(confounded(), estimator="matched"), "A")
    np.testing.assert_allclose(direction, FULL_AMOUNT * U, atol=0.35)


def test_linear_moves_the_classifier_as_far_as_the_means_are_apart():
    data = confounded()
    flat = torch.from_numpy(data.images.reshape(len(data), -1)).double()
    a = torch.from_numpy(data.attributes[:, 0])
    difference = flat[a].mean(0) - flat[~a].mean(0)
    pca = RunningPCA(32)
    for rows in flat.split(100):
        pca.update(rows)
    normal = discriminant(difference[None], pca)[0]
    direction = torch.from_numpy(row(estimated(data, estimator="linear"), "A"))
    assert float(normal @ direction) == pytest.approx(
        float(FULL_AMOUNT * normal @ difference), rel=1e-4
    )


@pytest.mark.parametrize("estimator", ["mean", "matched", "linear"])
def test_streaming_equals_one_batch(estimator):
    data = confounded(300)
    whole, parts = (estimated(data, estimator=estimator, batch_size=n) for n in (300, 7))
    for name in "ABC":
        np.testing.assert_allclose(row(parts, name), row(whole, name), atol=1e-5)


def test_too_few_is_refused_with_the_count():
    data = confounded(200)
    rare = np.arange(200) < 3
    data = ImageData(
        data.images,
        attributes=np.column_stack([data.attributes, rare]),
        attribute_names=("A", "B", "C", "Rare"),
    )
    directions = estimated(data)
    assert list(directions.latents) == ["A", "B", "C"]
    assert "Rare is true of 3 and false of 197 images" in directions.refused["Rare"]
    assert list(estimated(data, names=["B"]).latents) == ["B"]
    with pytest.raises(InputError, match="Rare is true of 3 and false of 197"):
        estimated(data, names=["Rare"])
    with pytest.raises(InputError, match="No attribute can be used: A is true of"):
        estimated(data, minimum=150)
    with pytest.raises(InputError, match="no attribute 'D': choose among A, B, C"):
        estimated(data, names=["D"])
    with pytest.raises(InputError, match="have no attributes"):
        estimated(ImageData(data.images))


def test_an_attribute_that_is_another_one_is_not_told_apart():
    data = confounded(400)
    a, c = data.attributes[:, 0], data.attributes[:, 2]
    images = (a[:, None] * U + c[:, None] * U).reshape(-1, *SHAPE)
    data = ImageData(images.astype(np.float32), attributes=np.stack([a, c], 1),
                     attribute_names=("A", "C"))  # fmt: skip
    with pytest.raises(InputError, match="cannot be told from the attributes that are held"):
        estimated(data, estimator="linear", names=["A"])
