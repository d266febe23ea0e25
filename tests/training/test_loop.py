"""The loop: learns, resumes to the bit, stops with a cause, leaves usable files."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glowflow import CheckpointError, Glow, InputError, TrainingError
from glowflow.data.types import ImageData, Splits
from glowflow.training import loop, validation
from glowflow.training.checkpoint import list_checkpoints, load_checkpoint
from glowflow.training.config import read_run_config
from glowflow.training.metrics import read_metrics
from glowflow.training.objective import Objective

from .runs import CONFIG, images, losses, run, stop_in


def test_learns_and_leaves_a_usable_run(splits, tmp_path):
    config = replace(CONFIG, images=1600, lr=5e-3, ema=0.9)
    trained = run(config, splits, tmp_path / "run")
    figures = losses(tmp_path / "run")
    assert trained.step == 200
    assert trained.images == 1600
    assert np.mean(figures[-20:]) < np.mean(figures[:20]) - 1.0
    last = [m for m in read_metrics(tmp_path / "run") if "valid_bits_per_dim" in m][-1]
    assert last["valid_bits_per_dim"] < np.mean(figures[:20]) - 1.0
    saved = Glow.from_pretrained(tmp_path / "run")
    x = saved.to_float(torch.from_numpy(splits.test.images), noise="center")
    assert torch.equal(saved.log_prob(x), trained.model.log_prob(x))
    assert read_run_config(tmp_path / "run") == config


def test_same_seed_same_run(splits, tmp_path):
    for name in "ab":
        run(CONFIG, splits, tmp_path / name)
    run(replace(CONFIG, seed=1), splits, tmp_path / "c")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


@pytest.mark.parametrize(
    "optimizer", ["adamax", "muon", "adam", pytest.param("adamw", marks=pytest.mark.slow)]
)
def test_resumed_run_repeats_the_uninterrupted_one_to_the_bit(splits, tmp_path, optimizer):
    config = replace(CONFIG, optimizer=optimizer)
    whole = run(config, splits, tmp_path / "whole")
    half = tmp_path / "half"
    stop_in(9, half, splits, config)
    assert load_checkpoint(half).step == 9
    resumed = run(config, splits, half, resume=True)
    assert losses(half) == losses(tmp_path / "whole")
    for a, b in zip(
        resumed.model.state_dict().values(), whole.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_newest_checkpoints_are_kept_and_whole(splits, tmp_path):
    run(replace(CONFIG, validate_every=1e-9), splits, tmp_path / "run")
    names = [path.name for path in list_checkpoints(tmp_path / "run")]
    assert names == ["000000019.pt", "000000020.pt"]
    assert not list((tmp_path / "run").rglob("*.part*"))


def test_damaged_checkpoint_is_named(splits, tmp_path):
    run(CONFIG, splits, tmp_path / "run")
    newest = list_checkpoints(tmp_path / "run")[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"000000020\.pt: it is truncated"):
        run(CONFIG, splits, tmp_path / "run", resume=True)


def test_checkpoint_with_code_in_it_is_refused(splits, tmp_path):
    run(CONFIG, splits, tmp_path / "run")

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"step": Evil()}, list_checkpoints(tmp_path / "run")[-1])
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        run(CONFIG, splits, tmp_path / "run", resume=True)
    assert not (tmp_path / "owned").exists()


def test_resume_with_another_architecture(splits, tmp_path):
    run(CONFIG, splits, tmp_path / "run")
    other = replace(CONFIG, model=replace(CONFIG.model, hidden_channels=9))
    with pytest.raises(InputError, match="has --hidden-channels 8, and 9 would change its model"):
        run(other, splits, tmp_path / "run", resume=True)


def test_nothing_is_overwritten(splits, tmp_path):
    (tmp_path / "photo.png").write_bytes(b"dear to somebody")
    with pytest.raises(InputError, match="not empty"):
        run(CONFIG, splits, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize(
    ("weight", "place"),
    [
        ("levels.1.steps.1.actnorm.logs", "level 2, step 2, actnorm"),
        ("levels.0.steps.0.permutation.log_s", "level 1, step 1, permutation"),
        ("levels.0.split.prior.conv.b", "level 1, split"),
    ],
)
def test_nan_stops_the_run_and_names_the_place(splits, tmp_path, weight, place):
    original = Objective.forward
    steps = []

    def poisoned(self, x, labels=None):
        steps.append(1)
        if len(steps) == 5:
            with torch.no_grad():
                self.model.get_parameter(weight).flatten()[0] = math.nan
        return original(self, x, labels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objective, "forward", poisoned)
        with pytest.raises(TrainingError, match=place) as caught:
            run(CONFIG, splits, tmp_path / "run")
    assert "step 5" in str(caught.value)
    kept = load_checkpoint(tmp_path / "run")
    assert all(torch.isfinite(w).all() for w in kept.model.values())
    assert "000000000.pt" in str(caught.value)


def test_absurd_learning_rate_stops_with_a_cause_and_keeps_the_checkpoint(splits, tmp_path):
    config = replace(CONFIG, lr=1e4, warmup_images=0, images=800)
    with pytest.raises(TrainingError, match=r"(level \d|gradient|weight)"):
        run(config, splits, tmp_path / "run")
    assert all(torch.isfinite(w).all() for w in load_checkpoint(tmp_path / "run").model.values())
    Glow.from_pretrained(tmp_path / "run")


def test_minutes_end_the_run(splits, tmp_path):
    trained = run(replace(CONFIG, images=10**9, minutes=0.02), splits, tmp_path / "run")
    assert 1.2 <= trained.seconds < 20
    assert not trained.interrupted


def test_classes_are_trained_with_the_classifier(splits, tmp_path):
    config = replace(CONFIG, conditional=True, images=80)
    trained = run(config, splits, tmp_path / "run")
    assert trained.model.config.classes == 3
    assert trained.model.levels[-1].split.classifier.weight.abs().max() > 0
    assert trained.model.sample(2, labels=torch.tensor([0, 2])).shape == (2, 1, 8, 8)


def test_float_data_is_trained_without_dequantisation(tmp_path):
    def floats(count, seed):
        return ImageData(images(count, seed).astype(np.float32) / 100)

    splits = Splits(floats(64, 0), floats(16, 1), floats(16, 2), "floats", "0")
    trained = run(replace(CONFIG, images=80), splits, tmp_path / "run")
    assert trained.model.config.bits is None
    assert trained.model.sample(2).dtype == torch.float32


def test_metrics_are_lines_of_json(splits, tmp_path):
    run(CONFIG, splits, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert {"step", "images", "seconds", "bits_per_dim", "grad_norm", "lr"} <= set(first)
    assert first["step"] == 1


def test_an_average_begins_where_a_run_had_none(splits, tmp_path):
    stop_in(9, tmp_path / "run", splits, replace(CONFIG, ema=0.0))
    resumed = run(replace(CONFIG, ema=0.9), splits, tmp_path / "run", resume=True)
    assert resumed.valid_bits_per_dim != resumed.valid_bits_per_dim_last
    without = run(replace(CONFIG, ema=0.0), splits, tmp_path / "without")
    assert resumed.valid_bits_per_dim_last == without.valid_bits_per_dim


def test_a_run_goes_on_with_the_first_map_that_it_chose(splits, tmp_path):
    config = replace(CONFIG, model=replace(CONFIG.model, first_map="auto"))
    run(config, splits, tmp_path / "run")
    chosen = read_run_config(tmp_path / "run").model.first_map
    assert chosen != "auto"
    resumed = run(replace(config, images=320), splits, tmp_path / "run", resume=True)
    assert resumed.images == 320
    assert read_run_config(tmp_path / "run").model.first_map == chosen


def test_slow_validations_leave_time_for_steps(splits, tmp_path, monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 0.01
        return now[0]

    for module in (loop, validation):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))

    def slow(*_):
        now[0] += 5.0

    config = replace(CONFIG, images=8 * 60, validate_every=0.1)
    run(config, splits, tmp_path / "run", on_validation=slow)
    steps = [m["step"] for m in read_metrics(tmp_path / "run") if "valid_bits_per_dim" in m]
    assert np.diff(steps[:-1]).min() >= 5  # the last one is at the end
    speeds = [m["images_per_second"] for m in read_metrics(tmp_path / "run") if "lr" in m]
    assert min(speeds) > 8 / 5.0
