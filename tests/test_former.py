"""Code that was written for the first version still finds its names."""

import subprocess
import sys
from importlib import import_module

import pytest

import glowflow
from glowflow import former


@pytest.mark.parametrize("name", sorted(former.MODULES))
def test_former_modules_are_found(name):
    sys.modules.pop(f"glowflow.{name}", None)
    with pytest.warns(DeprecationWarning, match=former.MODULES[name][0]):
        module = import_module(f"glowflow.{name}")
    for place in former.MODULES[name]:
        import_module(f"glowflow.{place}")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


def test_names_are_the_same_objects():
    from glowflow.config import DataConfig, TrainConfig
    from glowflow.networks import CouplingNetwork

    from glowflow.data import ImageData, open_splits, read_image
    from glowflow.models import load_model
    from glowflow.training import train

    assert DataConfig is glowflow.DataConfig
    assert TrainConfig is import_module("glowflow.training.config").TrainConfig
    assert CouplingNetwork is import_module("glowflow.nn").CouplingNetwork
    assert open_splits is import_module("glowflow.data.open").open_splits
    assert read_image is import_module("glowflow.photos.images").read_image
    assert ImageData is import_module("glowflow.data.types").ImageData
    assert load_model is glowflow.load_model
    assert train is import_module("glowflow.training.loop").train


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        import_module("glowflow.nonsense")
    with pytest.raises(ImportError):
        exec("from glowflow.data import nonsense")


def test_importing_the_package_stays_light():
    code = "import sys, glowflow.data, glowflow.training; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
