"""A configuration comes back from YAML, or the field that is wrong is named."""

from dataclasses import replace

import pytest

from glowflow import DataConfig, InputError
from glowflow.training.as_yaml import from_yaml, to_yaml
from glowflow.training.config import TrainConfig

from .runs import CONFIG


class TestYaml:
    def test_round_trip(self):
        config = replace(CONFIG, minutes=3, data=DataConfig(data="x", size=(8, 16)))
        assert from_yaml(TrainConfig, to_yaml(config), "x") == config

    def test_missing_fields_keep_their_default(self):
        config = from_yaml(TrainConfig, "lr: 0.5\nmodel: {levels: 2}", "x")
        assert config.lr == 0.5
        assert config.model.levels == 2
        assert config.batch_size == TrainConfig().batch_size
        assert from_yaml(TrainConfig, "", "x") == TrainConfig()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[", "not YAML"),
            ("- 1", "has fields"),
            ("colour: red", "'colour'"),
            ("lr: fast", "lr is 'fast'"),
            ("batch_size: 1.5", "batch_size is 1.5"),
            ("batch_size: true", "batch_size is True"),
            ("model: {coupling: volume}", "coupling is 'volume'"),
            ("model: 3", "has fields"),
            ("data: {size: [8]}", "size is"),
            ("lr: -1", "lr is -1"),
            ("ema: 1.0", "ema is 1.0"),
            ("images: 0", "images is 0"),
            ("model: {family: [glow]}", r"the family is \['glow'\]: choose one of"),
        ],
    )
    def test_bad_yaml(self, text, message):
        with pytest.raises(InputError, match=message):
            from_yaml(TrainConfig, text, "file.yaml")
