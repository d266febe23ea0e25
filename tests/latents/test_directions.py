"""The file of directions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from glowflow import Glow, InputError
from glowflow.latents.directions import load_directions, save_directions
from glowflow.latents.estimation import FULL_AMOUNT
from tests.conftest import perturb
from tests.latents.worlds import Identity, confounded, estimated, of_bytes


def test_directions_file_round_trip_and_refusal(model, tmp_path):
    directions = estimated(of_bytes(), model, estimator="matched", source="here")
    path = tmp_path / "directions.safetensors"
    save_directions(path, directions)
    again = load_directions(path, model)
    assert again.latents.keys() == directions.latents.keys()
    for name, latents in directions.latents.items():
        assert all(map(torch.equal, again.latents[name], latents))
    for what in ("estimator", "model", "counts", "refused", "held", "imbalance", "source"):
        assert getattr(again, what) == getattr(directions, what), what
    other = perturb(Glow(model.config)).eval()
    with pytest.raises(InputError, match="are of another model"):
        load_directions(path, other)
    with pytest.raises(InputError, match="There is no file"):
        load_directions(tmp_path / "none.safetensors", model)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="damaged or not safetensors"):
        load_directions(path, model)
    save_file({"a": torch.ones(1)}, path)
    assert load_file(path)
    with pytest.raises(InputError, match="does not hold directions"):
        load_directions(path, model)


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("attributes", "3"),
        ("counts", "[1]"),
        ("counts", '{"a": [Infinity, 1]}'),
        ("held", '{"a": 1}'),
    ],
)
def test_damaged_metadata_are_one_sentence(model, tmp_path, fact, value):
    path = tmp_path / "directions.safetensors"
    save_directions(path, estimated(of_bytes(), model, estimator="matched", source="here"))
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    save_file(load_file(path), path, {**facts, fact: value})
    with pytest.raises(InputError, match="metadata are not what was written"):
        load_directions(path, model)


def test_an_attribute_comes_from_where_images_with_another_are():
    data = confounded(800)
    directions = estimated(data, Identity().eval(), estimator="mean")
    codes, truth = data.images.reshape(800, -1), data.attributes

    def mean_of(column):
        return codes[truth[:, column]].astype(float).mean(0)

    for old in (["B"], ["B", "C"]):
        wanted = mean_of(0) - np.mean([mean_of("ABC".index(name)) for name in old], axis=0)
        found = torch.cat([eps.flatten() for eps in directions.exchange("A", old)])
        assert np.allclose(found.numpy(), FULL_AMOUNT * wanted, atol=1e-5)
    assert directions.exchange("A", []) is directions.latents["A"]


def test_where_images_are_is_said_of_all_attributes_or_of_none(model):
    directions = estimated(of_bytes(), model, estimator="mean")
    assert directions.exchangeable
    assert not replace(directions, estimator="linear").exchangeable
    assert not replace(directions, counts={}).exchangeable
    names = [*directions.latents]
    along = directions.along({names[0]: [names[1], names[1]]})
    assert list(along) == names
    for a, b in zip(along[names[0]], directions.exchange(names[0], names[1:2]), strict=True):
        assert torch.equal(a, b)
    assert along[names[1]] is directions.latents[names[1]]


def test_an_exchange_that_means_nothing_is_refused(model):
    directions = estimated(of_bytes(), model, estimator="mean")
    new, old, *_ = directions.latents
    with pytest.raises(InputError, match="no direction 'Wings'"):
        directions.exchange(new, ["Wings"])
    with pytest.raises(InputError, match="instead of itself"):
        directions.exchange(new, [new])
    with pytest.raises(InputError, match="--estimator matched"):
        replace(directions, estimator="linear").exchange(new, [old])
    for counts in ({}, {new: (0, 0), old: (3, 4)}):
        with pytest.raises(InputError, match="--estimator matched"):
            replace(directions, counts=counts).exchange(new, [old])
