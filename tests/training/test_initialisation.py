"""The model that a run trains fits its data, or the data are refused."""

from dataclasses import replace

import pytest

from glowflow import InputError
from glowflow.training.initialisation import model_config_for

from .runs import CONFIG


def test_data_that_do_not_fit(splits):
    unlabelled = replace(splits, train=replace(splits.train, labels=None, class_names=()))
    with pytest.raises(InputError, match="no labels"):
        model_config_for(replace(CONFIG, conditional=True), unlabelled)
    with pytest.raises(InputError, match="divisible"):
        model_config_for(replace(CONFIG, model=replace(CONFIG.model, levels=4)), splits)
    with pytest.raises(InputError, match="bits is None"):
        model_config_for(replace(CONFIG, model=replace(CONFIG.model, bits=None)), splits)
