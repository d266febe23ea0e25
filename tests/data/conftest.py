"""What the tests of the sources share."""

import numpy as np
import pytest

from glowflow import DataConfig
from glowflow.data.open import open_splits


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def read(cache):
    def call(source, *, progress=False, **changes):
        return open_splits(DataConfig(data=str(source), **changes), cache=cache, progress=progress)

    return call


@pytest.fixture
def random():
    return np.random.default_rng(0)
