"""The file of directions."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from glowflow import Glow, InputError
from glowflow.latents.directions import load_directions, save_directions
from tests.conftest import perturb
from tests.latents.worlds import estimated, of_bytes


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
    ("fact", "value"), [("attributes", "3"), ("counts", "[1]"), ("held", '{"a": 1}')]
)
def test_damaged_metadata_are_one_sentence(model, tmp_path, fact, value):
    path = tmp_path / "directions.safetensors"
    save_directions(path, estimated(of_bytes(), model, estimator="matched", source="here"))
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    save_file(load_file(path), path, {**facts, fact: value})
    with pytest.raises(InputError, match="metadata are not what was written"):
        load_directions(path, model)
