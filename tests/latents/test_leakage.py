"""Measured figures of edits are read, or refused in a sentence."""

import json

import pytest

from glowflow import Glow, InputError
from glowflow.latents.directions import load_directions
from glowflow.latents.leakage import LEAKAGE_FILE, read_leakage
from glowflow.models.companions import identity
from glowflow.models.pretrained import locate


def test_the_shipped_model_has_figures_of_each_of_its_directions():
    model = Glow.from_pretrained("demo-faces")
    directions = load_directions(locate("demo-faces", "directions.safetensors"), model)
    path = locate("demo-faces", LEAKAGE_FILE)
    figures = read_leakage(path, identity(model), directions.estimator)
    assert set(figures) == set(directions.latents)
    assert all(0 <= each.leakage <= 1 and 0 <= each.flip <= 1 for each in figures.values())
    assert all(each.images > 100 for each in figures.values())
    with pytest.raises(InputError, match="another model"):
        read_leakage(path, "0" * 64, directions.estimator)


def test_without_a_file_there_are_no_figures(tmp_path):
    assert read_leakage(tmp_path / "none.json", "x", "mean") == {}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 9000, '{"model_identity": "x", "rows": [{"attribute": 1}]}', "\0"],
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="no summary of glow study attributes"):
        read_leakage(tmp_path / "a.json", "x", "mean")


def test_a_row_that_is_not_one_is_refused(tmp_path):
    row = {"attribute": "A", "estimator": "mean", "test": {"amount": "far"}}
    (tmp_path / "a.json").write_text(json.dumps({"model_identity": "x", "rows": [row]}))
    with pytest.raises(InputError, match="no summary"):
        read_leakage(tmp_path / "a.json", "x", "mean")
