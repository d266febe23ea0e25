"""Each check on cases where the answer is known: the right posterior passes, a wrong one fails."""

import numpy as np
import pytest

from glowflow import InputError
from glowflow.calibration import (
    all_passed,
    c2st,
    check_posterior,
    check_samples,
    interval_coverage,
    is_within,
    one_point,
    power_spectrum,
    predictive_check,
    sbc_ranks,
    shares_below,
    simultaneous_band,
    spectrum_ratio,
    tarp_ranks,
    uniformity,
)


def linear_gaussian(seed, count=400, draws=199, shape=(2,), width=1.0, shift=0.0):
    """θ ~ N(0, 1), y ~ N(θ, 1): the posterior is N(y/2, 1/2), here `width` as wide and moved."""
    rng = np.random.default_rng(seed)
    truths = rng.normal(size=(count, *shape))
    data = truths + rng.normal(size=truths.shape)
    noise = rng.normal(size=(count, draws, *shape))
    return truths, data[:, None] / 2 + shift + noise * np.sqrt(0.5) * width, data


def failed(checks):
    return {verdict.check for verdict in checks.verdicts if not verdict.passed}


@pytest.mark.parametrize("shape", [(), (2,), (1, 6, 6)])
def test_the_right_posterior_passes(shape):
    truths, samples, _ = linear_gaussian(0, shape=shape)
    assert failed(check_posterior(truths, samples)) == set()


@pytest.mark.parametrize("width", [0.8, 1.3])
def test_a_posterior_of_the_wrong_width_fails_everywhere(width):
    truths, samples, _ = linear_gaussian(1, width=width, count=800)
    found = failed(check_posterior(truths, samples))
    assert {
        "ranks of each value",
        "coverage of central intervals",
        "expected coverage (TARP)",
    } <= found


def test_a_moved_posterior_has_ranks_at_one_end():
    truths, samples, _ = linear_gaussian(2, shift=0.4)
    ranks = sbc_ranks(truths, samples)
    assert ranks.by_value.mean() < 0.4 * ranks.draws
    assert ranks.p_values().max() < 1e-6
    band = simultaneous_band(len(truths), ranks.draws)
    assert not is_within(ranks.by_summary["mean"], ranks.draws, band)


def test_one_wrong_pixel_is_found_and_is_the_one():
    truths, samples, _ = linear_gaussian(3, shape=(1, 4, 4))
    samples[:, :, 0, 2, 1] *= 0.6
    p = sbc_ranks(truths, samples).p_values()
    assert np.unravel_index(p.argmin(), p.shape) == (0, 2, 1)
    assert p.min() < 1e-6 < np.sort(p.ravel())[1]


def test_wrong_correlations_are_seen_by_the_summaries_and_tarp_alone():
    """Each pixel's marginal is right, and the draws' pixels do not belong together."""
    rng = np.random.default_rng(4)
    common = rng.normal(size=(400, 1))
    truths = np.repeat(common, 16, axis=1)
    samples = rng.normal(size=(400, 199, 16))
    found = failed(check_posterior(truths, samples))
    assert "ranks of each value" not in found
    assert {"ranks of the mean", "ranks of the standard deviation"} <= found
    assert "expected coverage (TARP)" in found


def test_p_values_are_uniform_where_ranks_are():
    rng = np.random.default_rng(5)
    p = uniformity(rng.integers(0, 100, size=(500, 2000)), 99)
    assert abs((p < 0.05).mean() - 0.05) < 0.02
    assert abs((p < 0.5).mean() - 0.5) < 0.05


def test_ranks_by_hand():
    ranks = sbc_ranks(np.array([[0.5], [3.0]]), np.array([[[0.0], [1.0]], [[0.0], [1.0]]]))
    assert ranks.by_value.tolist() == [[1], [2]]


def test_ties_are_broken_evenly():
    ranks = sbc_ranks(np.zeros((3000, 1)), np.zeros((3000, 9, 1)))
    assert uniformity(ranks.by_value, 9)[0] > 1e-3


@pytest.mark.parametrize(("count", "draws"), [(100, 19), (1000, 99)])
def test_the_band_holds_as_often_as_it_says(count, draws):
    rng = np.random.default_rng(6)
    band = simultaneous_band(count, draws, 0.9)
    inside = [is_within(rng.integers(0, draws + 1, size=count), draws, band) for _ in range(1000)]
    assert 0.87 < np.mean(inside) < 0.95  # a little more, as shares are multiples of 1/N


def test_shares_below_by_hand():
    band = simultaneous_band(4, 3)
    assert shares_below(np.array([0, 1, 2, 3]), 3, band).tolist() == [0.25, 0.5, 0.75]


def test_coverage_is_that_of_the_intervals():
    truths, samples, _ = linear_gaussian(7, count=2000, draws=99, shape=(4,))
    coverage = interval_coverage(sbc_ranks(truths, samples))
    assert len(coverage.nominal) == 10
    assert np.abs(coverage.empirical - coverage.nominal).max() < 0.02
    assert np.allclose(coverage.nominal, np.round(coverage.nominal * 100) / 100)


def test_errors_count_simulations_and_not_pixels():
    """Pixels that are all the same say no more than one."""
    truths, samples, _ = linear_gaussian(8, shape=(1,))
    one = interval_coverage(sbc_ranks(truths, samples))
    repeated = sbc_ranks(np.repeat(truths, 50, axis=1), np.repeat(samples, 50, axis=2))
    error = interval_coverage(repeated).standard_error
    assert np.allclose(error, one.standard_error, rtol=0.1)


def test_tarp_ranks_by_hand():
    truths = np.array([[0.0], [10.0]])
    samples = np.array([[[9.0], [-3.0], [1.0]], [[0.0], [4.0], [11.0]]])
    ranks, draws = tarp_ranks(truths, samples)  # the reference of each is the other truth
    assert draws == 3
    assert ranks.tolist() == [2, 2]


def test_a_classifier_finds_what_differs_and_no_more():
    rng = np.random.default_rng(9)
    x = rng.normal(size=(1000, 3))
    assert c2st(x, rng.normal(size=(1000, 3))).accuracy < 0.55
    other = c2st(x, rng.normal([1.0, 0, 0], 1.0, size=(1000, 3)))
    assert 0.65 < other.accuracy < 0.72  # the best there is: Φ(1/2) = 0.69
    assert other.p_value < 1e-9
    assert c2st(rng.normal(size=(500, 300)), 1.2 * rng.normal(size=(500, 300))).accuracy > 0.8


def test_the_draws_of_the_right_posterior_are_a_reference():
    truths, samples, data = linear_gaussian(10, count=10, draws=99)
    rng = np.random.default_rng(11)
    right = data[:, None] / 2 + rng.normal(size=samples.shape) * np.sqrt(0.5)
    good = check_posterior(truths, samples, reference=right)
    bad = check_posterior(truths, samples + 0.7, reference=right)
    assert good.two_sample.accuracy < 0.57 < 0.6 < bad.two_sample.accuracy


def test_power_of_a_wave():
    """A wave a·cos(2π k x) has a²/4 in each of two modes."""
    x = np.arange(32) / 32
    wave = 3.0 * np.cos(2 * np.pi * 5 * x)
    fields = np.broadcast_to(wave, (2, 1, 32, 32))
    spectrum = power_spectrum(fields)
    shell = list(spectrum.wavenumber).index(5)
    assert np.isclose(spectrum.power[shell] * spectrum.modes[shell], 3.0**2 / 2)
    assert np.allclose(np.delete(spectrum.power, shell), 0)


@pytest.mark.parametrize("grid", [(64,), (16, 24), (8, 8, 8)])
def test_white_noise_is_flat_with_its_error(grid):
    rng = np.random.default_rng(12)
    spectrum = power_spectrum(2.0 * rng.normal(size=(300, 2, *grid)))
    expected = 4.0 / np.prod(grid)
    assert (np.abs(spectrum.power - expected) < 4.5 * spectrum.standard_error).all()
    ratio = spectrum_ratio(spectrum, power_spectrum(2.0 * rng.normal(size=(300, 2, *grid))))
    assert (np.abs(ratio.ratio - 1) < 4.5 * ratio.standard_error).all()


@pytest.mark.parametrize("grid", [(64,), (16, 24), (8, 8, 8)])
def test_power_of_a_moving_average(grid):
    """x_p = e_p + a e_(p−1) along the last axis has P(k) = |1 + a exp(−2πi k/n)|²/n of all n."""
    a, rng = 0.8, np.random.default_rng(13)
    noise = rng.normal(size=(600, 1, *grid))
    spectrum = power_spectrum(noise + a * np.roll(noise, 1, axis=-1))
    frequencies = np.meshgrid(*(np.fft.fftfreq(n) for n in grid), indexing="ij")
    power = np.abs(1 + a * np.exp(-2j * np.pi * frequencies[-1])) ** 2 / np.prod(grid)
    shell = np.round(np.sqrt(sum(f**2 for f in frequencies)) * max(grid))
    expected = np.array([power[shell == k].mean() for k in spectrum.wavenumber])
    assert (np.abs(spectrum.power - expected) < 4.5 * spectrum.standard_error).all()


def test_one_point_statistics_of_known_distributions():
    rng = np.random.default_rng(13)
    found = one_point(rng.exponential(size=(500, 400)))
    for name, value in {
        "mean": 1.0,
        "standard deviation": 1.0,
        "skewness": 2.0,
        "excess kurtosis": 6.0,
    }.items():
        assert abs(found.statistics[name] - value) < 4 * found.standard_errors[name]
        assert found.standard_errors[name] > 0


def test_samples_of_the_data_pass_and_blurred_ones_do_not():
    rng = np.random.default_rng(14)
    data = rng.normal(size=(1200, 1, 8, 8))
    assert all_passed(check_samples(data[:600], data[600:]).verdicts)
    blurred = (data + np.roll(data, 1, axis=3)) / np.sqrt(2)
    found = failed(check_samples(blurred[:600], data[600:]))
    assert "power spectrum" in found
    skewed = np.where(data > 0, 1.3 * data, 0.6 * data)
    assert "one-point statistics" in failed(check_samples(skewed[:600], data[600:]))


def test_predictive_checks_see_a_model_that_cannot_make_the_data():
    rng = np.random.default_rng(15)
    observed = rng.standard_t(2, size=(300, 50))
    replicated = rng.normal(size=(300, 100, 50)) * observed.std(axis=1)[:, None, None]
    assert predictive_check(observed, replicated).extreme()["largest value"] > 30
    fine = predictive_check(rng.normal(size=(300, 50)), rng.normal(size=(300, 100, 50)))
    assert max(fine.extreme().values()) < 18
    with pytest.raises(InputError, match="give 100 at least"):
        predictive_check(observed, replicated[:, :99])


def test_predictive_p_values_by_hand():
    """Shares above, ties counted half."""
    replicated = np.repeat([[0.0], [1.0], [1.0], [2.0]], 25, axis=0)[None]
    found = predictive_check(np.array([[1.0]]), replicated, statistics={"x": lambda x: x[..., 0]})
    assert found.p_values["x"].tolist() == [0.5]


@pytest.mark.parametrize("count", [15, pytest.param(60, marks=pytest.mark.slow)])
def test_predictive_checks_seldom_fail_the_right_posterior(count):
    fails = 0
    for seed in range(100):
        truths, samples, observed = linear_gaussian(seed, count=count, draws=150, shape=(3,))
        noise = np.random.default_rng(1000 + seed).normal(size=samples.shape)
        checks = check_posterior(truths, samples, observed=observed, replicated=samples + noise)
        fails += "posterior predictive checks" in failed(checks)
    assert fails <= 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, s: (t, s[:, 0]), "give (N, …) and (N, S, …)"),
        (lambda t, s: (t[:5], s), "give (N, …) and (N, S, …)"),
        (lambda t, s: (t[:, :1], s), "they must be of one shape"),
        (lambda t, s: (t, np.where(s == s[3, 2, 1], np.nan, s)), "at (3, 2, 1)"),
        (lambda t, s: (t.astype(str), s), "give numbers"),
        (lambda t, s: (t[:6], s[:6]), "give 10 simulations"),
        (lambda t, s: (t, s, s[:7]), "7 reference draws and 50 truths"),
        (lambda t, s: (t, s, s[..., :1]), "must be of one shape"),
        (lambda t, s: (t, s[:, :5]), "intervals of different probability"),
        (lambda t, s: (t, s[:, :0]), "there is nothing to check"),
    ],
)
def test_what_cannot_be_checked_is_a_sentence(change, says):
    truths, samples, _ = linear_gaussian(16, count=50, draws=39)
    with pytest.raises(InputError, match=says.replace("(", r"\(").replace(")", r"\)")):
        truths, samples, *reference = change(truths, samples)
        check_posterior(truths, samples, reference=reference[0] if reference else None)


def test_power_where_the_data_have_none_is_found():
    rng = np.random.default_rng(18)
    places = 2 * np.pi * np.arange(32) / 32
    waves = rng.normal(1, 0.2, (200, 1, 1)) * np.cos(places + rng.uniform(0, 6.28, (200, 1, 1)))
    noisy = waves + 0.15 * rng.normal(size=(200, 1, 32))
    found = failed(check_samples(noisy, waves))
    assert "power spectrum" in found


@pytest.mark.parametrize(
    ("samples", "data", "says"),
    [
        (np.ones((40, 1, 8, 8)), np.ones((60, 1, 8, 8)), "constant over its places"),
        (np.ones((40, 1, 1, 1)), np.ones((60, 1, 1, 1)), "two values along a side"),
        (np.ones((40, 1, 16, 16)), np.ones((40, 1, 16, 8)), "different grids"),
        (np.ones((1, 1, 8)), np.ones((40, 1, 8)), "give two at least"),
    ],
)
def test_fields_that_have_no_spectrum_are_a_sentence(samples, data, says):
    with pytest.raises(InputError, match=says):
        check_samples(samples, data)


def test_a_constant_channel_is_no_difference():
    fields = np.random.default_rng(19).normal(size=(120, 2, 8, 8))
    fields[:, 1] = 0
    assert "one-point statistics" not in failed(check_samples(fields[:60], fields[60:]))


def test_values_on_the_disk_are_read_in_parts(tmp_path, monkeypatch):
    truths, samples, _ = linear_gaussian(17, count=60, draws=39)
    np.save(tmp_path / "samples.npy", samples)
    whole = sbc_ranks(truths, samples)
    monkeypatch.setattr("glowflow.calibration.arrays.AT_ONCE", 500)
    parts = sbc_ranks(truths, np.load(tmp_path / "samples.npy", mmap_mode="r"))
    assert (whole.by_value == parts.by_value).all()
