"""What the demonstrations call exact: held against formulas that are written another way."""

import json
import math

import numpy as np
import pytest
import torch
from benchmarks.science import axes, counts, gaussian, solve, spectrum
from scipy.stats import multivariate_normal

from glowflow.calibration import power_spectrum

SMALL = gaussian.Observation(size=8, blur=0.8, sigma=0.4)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0)


def test_fields_have_their_spectrum(noise):
    powers = gaussian.spectrum((8, 8))
    found = power_spectrum(gaussian.draw(powers, 4000, noise)[:, None])
    ratio = spectrum.ratio_to(powers, found)
    assert np.abs(ratio.ratio - 1).max() < 5 * ratio.standard_error.max()
    assert powers.mean() == pytest.approx(1)


def test_the_posterior_is_that_of_the_joint_normal_distribution(noise):
    """By the covariances of x and of what is seen of it, not by precisions."""
    eye = np.eye(64).reshape(64, 8, 8)
    C = gaussian.filtered(eye, SMALL.powers).reshape(64, 64)
    A = gaussian.filtered(eye, SMALL.transfer).reshape(64, 64)[SMALL.seen.ravel()]
    assert not SMALL.seen.all()
    x = gaussian.draw(SMALL.powers, 3, noise)
    y = SMALL.observe(x, noise)
    gain = C @ A.T @ np.linalg.inv(A @ C @ A.T + SMALL.sigma**2 * np.eye(len(A)))
    covariance = C - gain @ A @ C
    means = y[:, SMALL.seen] @ gain.T
    assert np.allclose(SMALL.mean(y).reshape(3, -1), means)
    assert np.allclose(SMALL.covariance, covariance)
    right = [
        multivariate_normal(m, covariance).logpdf(one.ravel())
        for m, one in zip(means, x, strict=True)
    ]
    assert np.allclose(SMALL.log_prob(x, y), right)
    assert SMALL.entropy == pytest.approx(multivariate_normal(means[0], covariance).entropy())
    draws = SMALL.sample(y[:1], 20_000, noise)[0].reshape(-1, 64)
    assert np.allclose(draws.mean(0), means[0], atol=0.03)
    assert np.allclose(np.cov(draws.T), covariance, atol=0.04)


def test_the_operator_for_solve_is_the_one_of_the_posterior(noise):
    x = gaussian.draw(gaussian.Observation().powers, 2, noise)
    problem = gaussian.Observation(sigma=0.0)
    seen = np.nan_to_num(problem.observe(x, noise))
    found = gaussian.blurred_and_masked(torch.from_numpy(x)[:, None])[:, 0]
    assert np.allclose(found.numpy(), seen)


def test_signals_have_their_density(noise):
    process = axes.Autoregressive(length=6)
    lags = np.array([process.covariance[0, 0], process.covariance[0, 1], 0, 0, 0, 0])
    for k in range(2, 6):
        lags[k] = process.first * lags[k - 1] + process.second * lags[k - 2]
    covariance = lags[np.abs(np.subtract.outer(range(6), range(6)))]
    x = process.sample(20_000, noise)
    assert np.allclose(np.cov(x[:, 0].T), covariance, atol=0.06 * lags[0])
    right = multivariate_normal(np.zeros(6), covariance).logpdf(x[:5, 0])
    assert np.allclose(process.log_prob(x[:5]), right)


def test_laplace_is_at_the_mode(noise):
    problem = counts.Counts(size=4, mean=2.0)
    (new,) = problem.simulate(1, seed=3)
    mode, covariance = problem.laplace(new["y"])

    def log_posterior(g):
        rate = problem.density(g)
        return -0.5 * g @ problem.precision @ g + (new["y"].ravel() * g - rate).sum()

    for step in noise.normal(size=(20, 16)):
        assert log_posterior(mode) > log_posterior(mode + 0.01 * step)
    bend = log_posterior(mode + 1e-3 * step) + log_posterior(mode - 1e-3 * step)
    bend = (bend - 2 * log_posterior(mode)) / 1e-6
    assert bend == pytest.approx(-step @ np.linalg.inv(covariance) @ step, rel=1e-3)


def test_crps_of_a_normal_distribution(noise):
    """2φ(0) − 1/√π at its middle (Gneiting & Raftery 2007)."""
    found = counts.crps(np.zeros(1), noise.normal(size=(40_000, 1)))
    assert found[0] == pytest.approx(2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi), rel=0.01)


def test_the_linear_posterior_of_normal_simulations_is_the_right_one(noise):
    g = noise.normal(size=(50_000, 2, 2))
    y = g + 0.5 * noise.normal(size=g.shape)
    linear = counts.Linear.fitted(g, y)
    mean, covariance = linear.predict(y[0])
    assert np.allclose(mean, y[0].ravel() / 1.25, atol=0.03)
    assert np.allclose(covariance, 0.2 * np.eye(4), atol=0.01)
    assert counts.normal_log_prob(g[0].ravel(), mean, covariance) == pytest.approx(
        multivariate_normal(mean, covariance).logpdf(g[0].ravel()), rel=1e-6
    )


def test_the_page_of_a_posterior_from_a_prior_outlives_the_run(tmp_path, monkeypatch, noise):
    """Exact draws in place of `glow solve`'s are found exact."""

    def trained_run(simulations, folder, name, *options):
        run = folder / name
        run.mkdir()
        (run / "metrics.jsonl").write_text(json.dumps({"images": 640, "seconds": 90.0}))
        return run

    def exact(run, y, sigma, folder):
        np.save(folder / "samples.npy", problem.sample(y, 500, noise)[:, :, None])
        return folder

    problem = gaussian.Observation()
    monkeypatch.setattr(solve, "FIELDS", 2)
    monkeypatch.setattr(solve, "run_on", trained_run)
    monkeypatch.setattr(solve, "solved", exact)
    monkeypatch.setattr(
        "sys.argv", ["solve", "--observations", "1", "--out", str(tmp_path / "out")]
    )
    solve.main()
    assert "640 fields in 2 minutes" in (tmp_path / "out" / "gaussian-solve.md").read_text()
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["mean_distance"][0] < 0.05 and found["deviation_ratio_minus_one_rms"][0] < 0.05
