"""Studies that train: what a trial leaves, how it is gone on with, and what is made of several."""

import dataclasses
import json
import signal

import numpy as np
import pytest
import torch

from glowflow import Glow, GlowConfig, InputError
from glowflow.data.config import DataConfig
from glowflow.data.types import ImageData, Splits
from glowflow.errors import CheckpointError
from glowflow.evaluation.estimate import Estimate
from glowflow.files import in_use
from glowflow.models.config import Architecture, RealNVPConfig
from glowflow.models.realnvp import RealNVP
from glowflow.studies.trained import permutations, trials
from glowflow.studies.trained.comparison import TrialComparison, verdict
from glowflow.studies.trained.curves import mean_curve
from glowflow.studies.trained.depth import Depth, memory_of_step
from glowflow.studies.trained.lu import LU
from glowflow.studies.trained.lu_agreement import agreement, decomposed, initialised
from glowflow.studies.trained.lu_costs import Crossover, crossover
from glowflow.studies.trained.realnvp import BesideRealNVP, sentence
from glowflow.studies.trained.realnvp_matching import match_parameters
from glowflow.studies.trained.results import TrialResult, difference, of, over_seeds
from glowflow.studies.trained.study import TrainedStudy, Trial
from glowflow.studies.trained.trials import begin, run_folder, run_trials
from glowflow.training import tracking
from glowflow.training.loop import train
from tests.conftest import perturb

SHAPE = (1, 8, 8)


class Nothing(TrainedStudy):
    """Has settings, and no trials of its own."""

    def trials(self):
        return []

    def measure(self, splits, folder, *, device, progress=True):
        raise NotImplementedError


STUDY = Nothing(images=48, seeds=2, hidden_channels=4, batch_size=8, test_images=8, draws=2)
SMALL = Architecture(levels=1, steps=1, hidden_channels=4, coupling_scale="bounded")


@pytest.fixture(scope="module")
def splits():
    images = np.random.default_rng(0).integers(0, 256, (48, *SHAPE), dtype=np.uint8)
    data = ImageData(images)
    return Splits(data.part(0, 32), data.part(32, 40), data.part(40, 48), "noise", "0")


def trial(name="a", seed=0, **given):
    config = STUDY.trial(name, seed, SMALL).config
    return Trial(name, dataclasses.replace(config, **given))


def run(some, splits, folder):
    return run_trials(STUDY, some, splits, folder, device="cpu", progress=False)


def ended(name, seed, bits, **given):
    return TrialResult(name, seed, 10, 48, 1.0, 48.0, bits, bits, (), "here", **given)


def test_a_trial_is_a_run_with_a_result_that_is_taken_again(splits, tmp_path, monkeypatch):
    wanted = [trial("a", 0), trial("a", 1)]
    first = run(wanted, splits, tmp_path)
    for seed, result in enumerate(first):
        folder = tmp_path / "trials" / f"a-s{seed}"
        assert {"train.yaml", "metrics.jsonl", "model.safetensors", "result.json"} <= {
            path.name for path in folder.iterdir()
        }
        model = Glow.from_pretrained(folder)
        assert result.parameters == sum(weight.numel() for weight in model.parameters())
        scored = [
            float(trials.validate(model, splits.test, limit=8, batch_size=64, seed=draw))
            for draw in (0, 1)
        ]
        assert result.test_bits_per_dim == pytest.approx(np.mean(scored), abs=1e-6)
        assert [point[0] for point in result.curve] == [8, 16, 24, 32, 40, 48]
        assert result.images == 48 and result.images_per_second > 0 and not result.stopped
    assert first[0].test_bits_per_dim != first[1].test_bits_per_dim

    monkeypatch.setattr(trials, "train", None)
    assert run(wanted, splits, tmp_path) == first


def test_an_interrupted_trial_ends_as_if_it_had_not_been(splits, tmp_path, monkeypatch):
    wanted = [trial("a"), trial("b")]
    whole = run(wanted, splits, tmp_path / "whole")
    write = tracking.write_metrics

    def interrupt(folder, line):
        write(folder, line)
        if folder.name == "b-s0" and line.images == 16:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "write_metrics", interrupt)
        run(wanted, splits, tmp_path / "parts")
    assert (tmp_path / "parts" / "trials" / "a-s0" / "result.json").is_file()
    assert not (tmp_path / "parts" / "trials" / "b-s0" / "result.json").exists()
    parts = run(wanted, splits, tmp_path / "parts")
    for one, other in zip(whole, parts, strict=True):
        assert one.test_bits_per_dim == other.test_bits_per_dim
        assert [(n, bits) for n, _, bits in one.curve] == [(n, bits) for n, _, bits in other.curve]


def test_a_trial_killed_before_its_first_checkpoint_starts_again(splits, tmp_path):
    left = tmp_path / "trials" / "a-s0"
    left.mkdir(parents=True)
    (left / "train.yaml").write_text("images: 1\n", encoding="utf-8")
    assert run([trial()], splits, tmp_path)[0].images == 48


def test_one_seed_has_one_order_and_one_noise(splits, tmp_path):
    same = run([trial("a"), trial("b")], splits, tmp_path)
    assert difference(same, "b", "a") == Estimate(0.0, None)


def test_a_trial_that_cannot_go_on_is_a_result(splits, tmp_path):
    results = run([trial("good"), trial("bad", lr=1e30, clip=1e30)], splits, tmp_path)
    good, bad = results
    assert bad.stopped.startswith("Training stopped at step") and bad.test_bits_per_dim is None
    assert bad.parameters == good.parameters
    assert over_seeds([bad], "test_bits_per_dim") is None
    assert over_seeds(results, "test_bits_per_dim") == Estimate(good.test_bits_per_dim, None)
    assert difference(results, "bad", "good") is None
    comparison = TrialComparison(STUDY, splits, [trial()], results, {"bad": "good"})
    table, stopped = comparison.findings("", "", comparison.section("")).sections
    assert stopped.table.lines == [["bad, seed 0", bad.stopped]]
    line = dict(zip(table.table.heads, table.table.lines[0], strict=True))
    assert line["trials ended"] == "0 of 1"


def test_a_damaged_result_is_named(splits, tmp_path):
    run([trial()], splits, tmp_path)
    path = tmp_path / "trials" / "a-s0" / "result.json"
    before = json.loads(path.read_text(encoding="utf-8"))["test_bits_per_dim"]
    path.write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="delete it"):
        run([trial()], splits, tmp_path)
    path.unlink()
    assert run([trial()], splits, tmp_path)[0].test_bits_per_dim == before


def test_minutes_end_a_trial_instead_of_images(splits, tmp_path):
    timed = dataclasses.replace(STUDY, minutes=0.02).trial("a", 0, SMALL)
    (result,) = run([timed], splits, tmp_path)
    assert result.seconds >= 1.2 and result.images != STUDY.images


def test_averages_are_over_seeds_and_differences_are_paired():
    results = [ended("a", seed, bits) for seed, bits in enumerate((1.0, 2.0, 6.0))]
    results += [ended("b", seed, bits) for seed, bits in enumerate((1.1, 2.2, 6.3))]
    results += [ended("b", 3, 100.0)]
    mean = over_seeds(of(results, "a"), "test_bits_per_dim")
    assert mean.mean == pytest.approx(3.0)
    assert mean.standard_error == pytest.approx(np.std([1, 2, 6], ddof=1) / np.sqrt(3))
    paired = difference(results, "b", "a")
    assert paired.mean == pytest.approx(0.2)
    assert paired.standard_error == pytest.approx(0.1 / np.sqrt(3))


def test_a_difference_is_called_one_beyond_two_standard_errors():
    assert verdict(Estimate(0.021, 0.01)) == "worse" and verdict(Estimate(-0.021, 0.01)) == "better"
    assert verdict(Estimate(0.019, 0.01)) == "not told apart"
    assert "one seed" in verdict(Estimate(1.0, None))
    results = [ended("1x1-affine", s, b) for s, b in enumerate((1.0, 2.0, 3.0))]
    results += [ended("reverse-affine", s, b) for s, b in enumerate((1.51, 2.5, 3.49))]
    assert "reverse +0.500 ± 0.006 (worse)" in permutations.sentence(results)


def test_curves_are_averaged_where_the_shortest_has_points():
    long = ended("a", 0, 1.0)
    curves = (((8, 1.0, 5.0), (16, 2.0, 3.0)), ((4, 1.0, 8.0), (12, 3.0, 4.0), (20, 4.0, 0.0)))
    results = [dataclasses.replace(long, seed=s, curve=curve) for s, curve in enumerate(curves)]
    where, mean, error = mean_curve(results)
    assert where.tolist() == [8, 16]
    assert mean.tolist() == [5.5, 2.5] and error.tolist() == pytest.approx([0.5, 0.5])
    where, mean, _ = mean_curve(results, "seconds")
    assert where.tolist() == [1, 2] and mean.tolist() == [6.5, 4.5]


def test_only_the_same_settings_go_on(tmp_path):
    folder = tmp_path / "study"
    settings = {"images": 8, "size": (8, 8)}
    begin(folder, "lu", settings)
    begin(folder, "lu", settings)
    with pytest.raises(InputError, match="started with images 8, and this is 9"):
        begin(folder, "lu", {**settings, "images": 9})
    with pytest.raises(InputError, match="started with study lu"):
        begin(folder, "depth", settings)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="is not empty"):
        begin(other, "lu", settings)
    assert [path.name for path in other.iterdir()] == ["mine.txt"]


BAD = {"seeds": 0, "seed": -1, "test_images": 0, "draws": 0}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings(splits, name):
    study = dataclasses.replace(STUDY, **{name: BAD[name]})
    with pytest.raises(InputError, match=f"{name} is {BAD[name]}"):
        study.check(splits)


@pytest.mark.parametrize("name", ["batch_size", "lr", "bits"])
def test_zero_is_not_the_default(name):
    with pytest.raises(InputError, match=f"{name} is 0"):
        dataclasses.replace(STUDY, **{name: 0}).trial("a", 0, SMALL)


def test_digits_are_trained_as_glow_train_does():
    config = Nothing(data=DataConfig(data="digits")).trial("a", 3, SMALL).config
    assert (config.model.bits, config.batch_size, config.seed) == (4, 64, 3)


def test_the_paper_s_six_configurations():
    wanted = permutations.Permutations(seeds=2).trials()
    kinds = {(t.config.model.permutation, t.config.model.coupling) for t in wanted}
    assert len(wanted) == 12 and len({t.name for t in wanted}) == 6
    assert kinds == {(p, c) for p in ("reverse", "shuffle", "lu") for c in ("additive", "affine")}


@pytest.mark.parametrize(("target", "shape"), [(60_000, (1, 16, 16)), (400_000, (3, 12, 20))])
def test_a_realnvp_has_as_many_parameters(target, shape):
    model = RealNVP(RealNVPConfig.of(match_parameters(target, shape), shape))
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(target, rel=0.05)


def test_a_realnvp_has_the_images_and_the_time_of_the_glow_of_its_seed():
    study = BesideRealNVP(seeds=2)
    model = match_parameters(60_000, SHAPE)
    glows = [ended("glow", 0, 1.0), ended("glow", 1, None, stopped="NaN")]
    by_images, by_time = study.realnvp_trials(model, glows)
    (glow, _) = study.trials()
    assert {t.config.batch_size for t in (glow, by_images, by_time)} == {16}
    assert (by_images.config.images, by_images.config.minutes) == (48, None)
    assert by_time.config.minutes == pytest.approx(1 / 60) and by_time.config.images > 10**6
    assert {t.config.seed for t in (by_images, by_time)} == {0}
    assert {t.config.optimizer for t in (by_images, by_time)} == {"adam"}


def test_lu_and_plain_start_as_one_function_and_can_stay_one(splits):
    config = GlowConfig(image_shape=SHAPE, levels=2, steps=2, hidden_channels=4)
    images = torch.from_numpy(splits.train.images.copy())
    plain, other = (initialised(config, kind, splits.train, 5) for kind in ("plain", "lu"))
    start = agreement("", plain, other, images)
    assert start.dtype == "float32" and start.latents < 1e-5 and start.log_det < 1e-3
    moved = perturb(plain).double()
    exact = agreement("", moved, decomposed(moved), images)
    assert exact.dtype == "float64" and exact.latents < 1e-10 and exact.log_det < 1e-9
    assert agreement("", moved, other.double(), images).latents > 1e-3


def test_both_kinds_of_trial_start_from_the_same_start(splits, tmp_path):
    study = LU(seeds=1, images=16, batch_size=16, levels=1, steps=2, hidden_channels=4)
    images, starts = torch.from_numpy(splits.train.images.copy()), {}
    for one in study.trials():
        folder = tmp_path / one.name
        train(one.config, splits, folder, device="cpu", progress=False)
        before = torch.load(folder / "checkpoints" / f"{0:09d}.pt", weights_only=True)
        start = starts[one.name] = Glow(Glow.from_pretrained(folder).config)
        start.load_state_dict(before["model"])
        measured = initialised(start.config, one.name, splits.train, one.config.seed)
        for name, weight in measured.state_dict().items():
            assert torch.equal(weight, before["model"][name]), name
    found = agreement("", starts["plain"], starts["lu"], images)
    assert found.latents < 1e-4 and found.log_det < 1e-3


def test_a_realnvp_is_said_beside_the_glow_of_its_seed():
    results = [ended("glow", 0, 3.0), ended("glow", 1, 3.2)]
    results += [ended("realnvp-images", 0, 3.5), ended("realnvp-images", 1, 3.7)]
    results += [ended("realnvp-time", 0, 3.1), ended("realnvp-time", 1, None, stopped="NaN")]
    near = sentence(results, {"relative_difference": 0.02})
    assert near.startswith("Test bits/dim: Glow 3.100 ± 0.100; RealNVP with +2.0% parameters, ")
    assert "with as many images" in near and "in as much time" in near and "+0.500" in near
    far = sentence(results, {"relative_difference": -0.2})
    assert "-20.0% parameters, which is more than 5%: none of those" in far


def test_crossovers():
    widths = [10, 100, 1000]
    assert crossover(widths, [2, 2, 2], [1, 1, 4]) == Crossover("LU", pytest.approx(10**2.5))
    assert crossover(widths, [1, 1, 4], [2, 2, 2]) == Crossover("plain", pytest.approx(10**2.5))
    assert crossover(widths, [1, 1, 1], [2, 2, 2]) == Crossover("LU", None)


def test_memory_of_a_step_grows_with_depth_where_activations_are_stored(splits):
    study = Depth(levels=(1,), steps=(2, 16), seeds=1, batch_size=32)
    shallow, deep = (memory_of_step(trial, splits, "cpu") for trial in study.trials())
    assert deep["stored"] > 4 * shallow["stored"]
    assert deep["reversible"] < deep["stored"]


@pytest.mark.parametrize("levels", [(), (1, 1)])
def test_bad_depths(splits, levels):
    with pytest.raises(InputError, match="different numbers"):
        Depth(levels=levels).check(splits)


def test_a_trial_that_another_process_trains_is_left_alone(splits, tmp_path):
    study = Depth(levels=(1,), steps=(1,), seeds=1, images=32, batch_size=16, hidden_channels=4)
    (trial,) = study.trials()
    run = run_folder(tmp_path, trial.name, trial.config.seed)
    run.mkdir(parents=True)
    with in_use(run) as lock:
        lock()
        (run / "train.yaml").write_text("theirs")
        with pytest.raises(InputError, match="in use by process"):
            run_trials(study, [trial], splits, tmp_path, device="cpu", progress=False)
        assert (run / "train.yaml").read_text() == "theirs"
    run_trials(study, [trial], splits, tmp_path, device="cpu", progress=False)
    assert (run / "result.json").is_file()
