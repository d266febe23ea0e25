"""A configuration that cannot be a model's is refused by the field, whoever wrote it."""

import json

import pytest

from glowflow import CheckpointError, Glow, GlowConfig, InputError, RealNVPConfig

GLOW = {"image_shape": (3, 8, 8), "levels": 2, "steps": 1, "hidden_channels": 4}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("levels", 9_999_999_999, "levels is 9,999,999,999: give at most 30"),
        ("levels", 20, "8x8 cannot be halved 20 times"),
        ("levels", True, "levels is True: give a whole number"),
        ("steps", 2.0, r"steps is 2\.0: give a whole number"),
        ("steps", 10_001, "steps is 10,001: give at most 10,000"),
        ("hidden_channels", 10**12, "hidden_channels is 1,000,000,000,000: give at most"),
        ("hidden_channels", None, "hidden_channels is None: give a whole number"),
        ("bits", "8", "bits is 8: give 1 to 8"),
        ("bits", True, "bits is True: give 1 to 8"),
        ("network", [1], r"network is \[1\]: give a name"),
        ("learn_top", "yes", "learn_top is 'yes': give true or false"),
        ("weight_classes", float("nan"), "weight_classes is nan: give a number"),
        ("classes", 1.5, r"classes is 1\.5: give a whole number"),
        ("image_shape", 5, "image_shape is 5: give channels"),
        ("image_shape", ("a", 8, 8), "image_shape is .*: give channels"),
        ("image_shape", (3, 8, 10**9), "give at most 65,536 of each"),
    ],
)
def test_a_field_of_a_glow(field, value, message):
    with pytest.raises(InputError, match=message):
        GlowConfig(**{**GLOW, field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scales", 10**10, "scales is 10,000,000,000: give at most 30"),
        ("residual_blocks", 1.0, r"residual_blocks is 1\.0: give a whole number"),
        ("alpha", "small", "alpha is 'small': give a number"),
    ],
)
def test_a_field_of_a_realnvp(field, value, message):
    with pytest.raises(InputError, match=message):
        RealNVPConfig(**{"image_shape": (3, 8, 8), field: value})


@pytest.mark.parametrize(("field", "value"), [("steps", 1e3), ("levels", 10**10)])
def test_a_damaged_file(tmp_path, field, value):
    Glow(GlowConfig(**GLOW)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(CheckpointError, match=rf"config\.json does not describe a model: {field}"):
        Glow.from_pretrained(tmp_path)
