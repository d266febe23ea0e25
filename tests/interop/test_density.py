"""A flow among scikit-learn's estimators: their checks, their conventions, and its densities."""

import math
import os
import pickle
import re
import signal
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from glowflow import GlowDensity, InputError, TrainingError, distribution
from glowflow.training.objective import Objective

SMALL = {
    "images": 8,
    "batch_size": 8,
    "steps": 1,
    "hidden_channels": 2,
    "device": "cpu",
    "random_state": 0,
}
NO_IMAGES = "the rows of this check have 2, 3, 5 or 10 values, which are no image"
NOT_IMAGES = dict.fromkeys(
    [
        "check_fit_score_takes_y",
        "check_estimators_overwrite_params",
        "check_dont_overwrite_parameters",
        "check_estimators_fit_returns_self",
        "check_readonly_memmap_input",
        "check_estimators_dtypes",
        "check_dtype_object",
        "check_pipeline_consistency",
        "check_estimators_nan_inf",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_dict_unchanged",
        "check_fit_idempotent",
        "check_fit_check_is_fitted",
        "check_n_features_in",
        "check_fit2d_predict1d",
    ],
    NO_IMAGES,
)
"""Checks of scikit-learn whose own rows are refused; with images as rows every one is passed."""


def rows(count=40, values=16, seed=0):
    return np.random.default_rng(seed).normal(size=(count, values))


@pytest.fixture(scope="module")
def fitted():
    return GlowDensity(**SMALL).fit(rows())


def as_images(estimator, X, *others, **kwargs):
    """The same rows, their columns repeated to images of 4x4."""
    return X[:, np.arange(16) % X.shape[1]] if X.ndim == 2 else X


def results(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = estimator_checks.check_estimator(
            GlowDensity(**SMALL), on_fail=None, on_skip=None, **options
        )
    return [(one["check_name"], one["status"], str(one["exception"])) for one in found]


def test_scikit_learns_checks_pass_on_images_as_rows(monkeypatch):
    monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", as_images)
    found = results()
    assert len(found) > 35
    left = [one for one in found if one[1] != "passed"]
    assert [name for name, *_ in left] in ([], ["check_array_api_input"]), left
    assert all(status == "skipped" for _, status, _ in left)


def test_rows_that_are_no_images_are_all_that_its_own_checks_fail_by():
    found = results(expected_failed_checks=NOT_IMAGES)
    assert not [one for one in found if one[1] == "failed"]
    xfailed = [(name, said) for name, status, said in found if status == "xfail"]
    assert {name for name, _ in xfailed} == set(NOT_IMAGES)
    why = "which are no square grey image: give image_shape|a minimum of 4 is required"
    assert all(re.search(why, said) for _, said in xfailed), xfailed


def test_scores_are_log_densities_in_the_units_of_the_rows(fitted):
    X = rows(8, seed=1)
    z = torch.from_numpy((X - fitted.mean_) / fitted.scale_).view(-1, *fitted.image_shape_)
    with torch.no_grad():
        expected = distribution(fitted.model_).log_prob(z).numpy() - np.log(fitted.scale_).sum()
    assert np.allclose(fitted.score_samples(X), expected, rtol=0, atol=1e-9)
    assert fitted.score(X) == pytest.approx(expected.mean())
    other = GlowDensity(**SMALL).fit(1000 * rows() + 5)
    moved = other.score_samples(1000 * X + 5) + 16 * math.log(1000)
    assert np.allclose(moved, expected, rtol=0, atol=1e-3)


def test_the_density_integrates_to_one():
    """By importance sampling from a wider normal distribution."""
    fitted = GlowDensity(**{**SMALL, "images": 400}).fit(rows(200, values=4))
    X = 1.5 * rows(20_000, values=4, seed=2)
    log_q = -0.5 * (X / 1.5) ** 2 - math.log(1.5) - 0.5 * math.log(2 * math.pi)
    weights = np.exp(fitted.score_samples(X) - log_q.sum(1))
    error = weights.std() / math.sqrt(len(weights))
    assert error < 0.02 and abs(weights.mean() - 1) < 4 * error + 0.005


def test_training_makes_the_rows_more_probable():
    X = rows(200) @ np.triu(np.ones((16, 16)))
    long = GlowDensity(**{**SMALL, "images": 3_000, "batch_size": 32}).fit(X)
    new = rows(100, seed=3) @ np.triu(np.ones((16, 16)))
    alone = -0.5 * ((new - X.mean(0)) / X.std(0)) ** 2 - np.log(X.std(0) * math.sqrt(2 * math.pi))
    assert long.score(new) > alone.sum(1).mean() + 5


def test_bytes_get_a_log_probability():
    X = np.clip(128 + 40 * rows(60), 0, 255).astype(np.uint8)
    fitted = GlowDensity(**SMALL).fit(X)
    scores = fitted.score_samples(X)
    x = (X + np.random.default_rng(0).random(16)) / 256 - 0.5
    with torch.no_grad():
        log_p = fitted.model_.log_prob(torch.from_numpy(x).view(-1, 1, 4, 4)).numpy()
    assert np.allclose(scores, log_p - 16 * math.log(256), atol=1e-9)
    assert (scores < 0).all()
    assert np.allclose(scores[5:9], fitted.score_samples(X[5:9]), atol=1e-9)
    drawn = fitted.sample(3, random_state=1)
    assert drawn.shape == (3, 16) and drawn.dtype == np.uint8
    with pytest.raises(InputError, match="X has float64, and this density is one of bytes"):
        fitted.score(X.astype(float))


def test_a_random_state_repeats_everything_and_leaves_the_global_ones_alone(fitted):
    X = rows()
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    again = GlowDensity(**SMALL).fit(X)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert np.array_equal(again.score_samples(X), fitted.score_samples(X))
    assert np.array_equal(again.sample(4, random_state=2), fitted.sample(4, random_state=2))
    assert not np.array_equal(again.sample(4, random_state=2), fitted.sample(4, random_state=3))
    other = GlowDensity(**{**SMALL, "random_state": 1}).fit(X)
    assert not np.array_equal(other.score_samples(X), fitted.score_samples(X))
    assert np.array_equal(again.fit(rows(seed=4)).fit(X).score_samples(X), fitted.score_samples(X))


def test_threads_train_one_after_another(fitted):
    with joblib.parallel_backend("threading", n_jobs=2):
        both = joblib.Parallel()(
            joblib.delayed(GlowDensity(**SMALL).fit)(rows(seed=seed)) for seed in (0, 1)
        )
    assert np.array_equal(both[0].score_samples(rows()), fitted.score_samples(rows()))


def test_it_is_copied_saved_and_searched_like_any_other(fitted, tmp_path):
    X = rows()
    joblib.dump(fitted, tmp_path / "density")
    for copied in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "density")):
        assert np.array_equal(copied.score_samples(X), fitted.score_samples(X))
    with pytest.raises(NotFittedError):
        clone(fitted).score_samples(X)
    piped = make_pipeline(StandardScaler(), GlowDensity(**SMALL)).fit(X)
    assert np.isfinite(piped.score(X))
    search = GridSearchCV(GlowDensity(**SMALL), {"images": np.array([8, 16])}, cv=2).fit(X)
    assert search.best_params_["images"] in (8, 16)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    "X",
    [
        rows(2),
        np.where(np.arange(16) < 5, 3.0, rows(20)),
        np.ones((5, 16)),
        np.zeros((5, 16), np.uint8),
        np.asfortranarray(rows(20).astype(np.float32)),
        (10 * rows(20)).astype(int).astype(object),
        rows(20) + 1e9,
    ],
    ids=["two", "constant-columns", "constant", "black", "fortran-float32", "objects", "offset"],
)
def test_what_is_odd_is_fitted(X):
    fitted = GlowDensity(**SMALL).fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()
    assert fitted.sample(2).dtype == fitted.dtype_


def test_a_row_beyond_all_numbers_is_impossible_and_not_nan(fitted):
    assert np.array_equal(fitted.score_samples(np.full((1, 16), 1e300)), [-np.inf])


@pytest.mark.parametrize(
    ("changes", "X", "said"),
    [
        ({}, rows(values=8), "8 values, which are no square grey image: give image_shape"),
        ({}, rows(values=9), "Images of 3x3 cannot be halved 1 times"),
        ({"image_shape": (3, 2, 2)}, rows(), r"\(3, 2, 2\), and the rows of X have 16 values"),
        ({"image_shape": (-4, -2, 2)}, rows(), "give channels, height and width"),
        ({"image_shape": "square"}, rows(), "image_shape is square"),
        ({"levels": 4}, rows(), "cannot be halved 4 times"),
        ({"images": 0}, rows(), "images is 0: give at least 1"),
        ({"images": "many"}, rows(), "images is 'many': give a whole number"),
        ({"batch_size": 2.5}, rows(), "batch_size is 2.5: give a whole number"),
        ({"lr": "high"}, rows(), "lr is 'high': give a number"),
        ({"noise": -1}, rows(), "noise is -1: give 0 or more"),
        ({"minutes": -1}, rows(), "minutes is -1: give more than 0"),
        ({"device": "toaster"}, rows(), "device is 'toaster'"),
        ({"device": "meta"}, rows(), "device is 'meta', and there is none here"),
        ({"device": "cuda:77"}, rows(), "device is 'cuda:77', and there is none here"),
        ({"lr": True}, rows(), "lr is True: give a number"),
        ({}, rows().reshape(-1, 1, 4, 4), r"give X\.reshape\(.*image_shape=\(1, 4, 4\)"),
        ({}, rows().reshape(-1, 4, 4), r"give X\.reshape\(.*image_shape=\(1, 4, 4\)"),
        ({}, 1e-310 * rows(), "Column 0 of X has .* give values in another unit"),
    ],
)
def test_what_cannot_be_is_said(changes, X, said):
    with pytest.raises(InputError, match=said):
        GlowDensity(**{**SMALL, **changes}).fit(X)


@pytest.mark.parametrize("n_samples", [2.5, "3", None, True])
def test_a_number_of_samples_is_a_whole_one(fitted, n_samples):
    with pytest.raises(InputError, match=r"n_samples is .*: give a whole number"):
        fitted.sample(n_samples)
    assert fitted.sample(np.int64(2)).shape == (2, 16)


def test_images_that_are_no_rows_are_not_scored(fitted):
    with pytest.raises(InputError, match=r"X has the shape \(40, 4, 4\), and rows are asked for"):
        fitted.score_samples(rows().reshape(-1, 4, 4))


def test_a_column_that_only_rounding_changes_is_constant():
    X = rows()
    X[:, 3] = np.where(X[:, 3] > 0, 0.3, 0.1 + 0.2)
    assert X[:, 3].min() < X[:, 3].max()
    assert GlowDensity(**SMALL).fit(X).scale_[3] == 1


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_it_learns_whatever_is_around_it(fitted, around):
    with around():
        again = GlowDensity(**SMALL).fit(rows())
    assert np.array_equal(again.score_samples(rows()), fitted.score_samples(rows()))


def test_training_that_fails_leaves_no_density():
    density = GlowDensity(**SMALL).fit(rows())
    said = r"is NaN or infinite; give a smaller lr, or rows without"
    with pytest.raises(TrainingError, match=said) as caught:
        density.set_params(lr=1e6, images=4_000).fit(rows())
    assert "checkpoint" not in str(caught.value) and "--" not in str(caught.value)
    with pytest.raises(NotFittedError):
        density.score_samples(rows())


def test_colours_have_three_planes():
    fitted = GlowDensity(**SMALL, image_shape=(3, 2, 2)).fit(rows(values=12))
    assert fitted.model_.config.image_shape == (3, 2, 2)
    assert fitted.sample(2).shape == (2, 12)


def test_ctrl_c_is_an_interruption_and_no_model(monkeypatch):
    original = Objective.forward

    def interrupted(self, x, labels=None):
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, x, labels)

    monkeypatch.setattr(Objective, "forward", interrupted)
    density = GlowDensity(**{**SMALL, "images": 80})
    with pytest.raises(KeyboardInterrupt):
        density.fit(rows())
    assert not hasattr(density, "model_")


def test_training_is_quiet_unless_asked(capsys):
    GlowDensity(**SMALL).fit(rows())
    assert capsys.readouterr() == ("", "")


def test_importing_the_package_loads_neither_library():
    code = (
        "import sys, glowflow; glowflow.InputError; print({'torch', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
