"""The study of paths between images."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from glowflow import Glow, GlowConfig, InputError
from glowflow.data.types import ImageData, Splits
from glowflow.studies.measured.interpolation import Interpolation, findings
from glowflow.studies.measured.paths import CROSS_FADE, PATHS, measure_paths
from tests.conftest import perturb
from tests.studies.worlds import SHAPE, Pixels, world

STUDY = Interpolation(pairs=6, steps=5, draws=2)


def measured(model, splits, **given):
    given = {**dataclasses.asdict(STUDY), **given}
    return measure_paths(model, splits.test, progress=False, **given)


@pytest.fixture(scope="module")
def splits():
    return world(10, 12)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GlowConfig(image_shape=SHAPE, levels=2, steps=2, hidden_channels=8)
    return perturb(Glow(config), 0.05).eval()


def means(study, path):
    return [figure.mean for figure in study.bits[path]]


def test_all_paths_have_the_same_ends_and_part_between_them(model, splits):
    study = measured(model, splits)
    for path in PATHS:
        for end in (0, -1):
            assert means(study, path)[end] == pytest.approx(means(study, CROSS_FADE)[end], abs=1e-5)
        assert study.along[path].mean == pytest.approx(np.mean(means(study, path)[1:-1]))
    assert len({round(means(study, path)[2], 6) for path in PATHS}) == 3
    for path, figure in study.below.items():
        difference = study.along[CROSS_FADE].mean - study.along[path].mean
        assert figure.mean == pytest.approx(difference)
    assert study.positions == (0, 0.25, 0.5, 0.75, 1)
    for path in PATHS:
        assert study.strips[path].shape == (3, 5, *SHAPE)
        assert np.array_equal(study.strips[path][:, [0, -1]], study.strips[CROSS_FADE][:, [0, -1]])


def test_a_linear_path_in_pixels_is_the_cross_fade(splits):
    study = measured(Pixels().eval(), splits)
    np.testing.assert_allclose(means(study, "linear"), means(study, CROSS_FADE), atol=0.02)


def test_batches_do_not_change_the_figures(model, splits):
    whole, parts = (measured(model, splits, batch_size=n) for n in (50, 4))
    for path in PATHS:
        np.testing.assert_allclose(means(parts, path), means(whole, path), atol=1e-5)


def test_more_pairs_than_images_use_them_again_and_a_pair_is_two_images(model, splits):
    study = measured(model, splits, pairs=20)
    assert study.pairs == 20
    many = measured(model, splits, pairs=3)
    for pair in many.strips[CROSS_FADE]:
        assert not np.array_equal(pair[0], pair[-1])


def test_its_files_have_the_figures(model, splits):
    study = measured(model, splits)
    said = findings(study)
    files = said.files("interpolation")
    assert set(files) == {"interpolation.md", "interpolation.png", "strip.png", "index.html"}
    facts = json.loads(json.dumps(said.facts))
    assert facts["between_the_ends"]["linear"]["mean"] == study.along["linear"].mean
    text = files["interpolation.md"].decode()
    assert all(str(figure) in text for path in PATHS for figure in study.bits[path])


BAD = {"pairs": 0, "steps": 2, "draws": 0, "batch_size": 0}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings(model, splits, name):
    with pytest.raises(InputError, match=f"{name} is {BAD[name]}"):
        dataclasses.replace(STUDY, **{name: BAD[name]}).check(model, splits)


def test_data_that_do_not_fit(model, splits):
    one = Splits(splits.train, splits.valid, ImageData(splits.test.images[:1]), "", "")
    with pytest.raises(InputError, match="a pair needs 2"):
        STUDY.check(model, one)
    size = {"levels": 1, "steps": 1, "hidden_channels": 2}
    floats = Glow(GlowConfig(image_shape=SHAPE, bits=None, **size))
    with pytest.raises(InputError, match="for float data"):
        STUDY.check(floats, splits)
    with pytest.raises(InputError, match="class-conditional"):
        STUDY.check(Glow(GlowConfig(image_shape=SHAPE, classes=2, **size)), splits)
    with pytest.raises(InputError, match="give other data"):
        STUDY.check(Glow(GlowConfig(image_shape=(1, 16, 16), **size)), splits)
