"""Trackers get the figures of metrics.jsonl, by name; one that is not there is a sentence."""

import json
from dataclasses import replace

import pytest
from accelerate import Accelerator
from accelerate.utils import LoggerType
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from glowflow import InputError
from glowflow.training.as_yaml import from_yaml, to_yaml
from glowflow.training.config import TrainConfig
from glowflow.training.metrics import read_metrics
from glowflow.training.tracking import FOLDER, require_trackers

from .runs import CONFIG, run

TRACKED = replace(CONFIG, track=("tensorboard",))


def scalars(folder):
    """{name: {step: value}} of what TensorBoard would show."""
    (where,) = (folder / FOLDER).iterdir()
    events = EventAccumulator(str(where))
    events.Reload()
    return {
        name: {event.step: event.value for event in events.Scalars(name)}
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_has_the_figures_of_the_run_and_of_its_continuation(splits, tmp_path):
    folder = tmp_path / "run"
    run(replace(TRACKED, images=80, decay="constant"), splits, folder)
    run(replace(TRACKED, decay="constant"), splits, folder, resume=True)
    found, lines = scalars(folder), read_metrics(folder)
    assert found["bits_per_dim"] == pytest.approx(
        {m["step"]: m["bits_per_dim"] for m in lines if "bits_per_dim" in m}
    )
    assert set(found["bits_per_dim"]) == set(range(1, 21))
    looks = {m["step"]: m for m in lines if "round_trip_error" in m}
    assert set(looks) == set(found["round_trip_error"]) == {10, 20}
    for level in (1, 2):
        for name in ("bits_by_level", "condition_by_level", "smallest_scale_by_level"):
            expected = {step: m[name][level - 1] for step, m in looks.items()}
            assert found[f"{name}/{level}"] == pytest.approx(expected)


def test_without_trackers_there_is_no_folder(splits, tmp_path):
    run(CONFIG, splits, tmp_path / "run")
    assert not (tmp_path / "run" / FOLDER).exists()


def test_a_tracker_that_is_not_there_is_refused(monkeypatch, splits, tmp_path):
    with pytest.raises(InputError, match=r"no tracker 'tensorbord': choose among .*tensorboard"):
        run(replace(CONFIG, track=("tensorbord",)), splits, tmp_path / "run")
    monkeypatch.setattr(
        "glowflow.training.tracking.get_available_trackers", lambda: [LoggerType.WANDB]
    )
    require_trackers(["wandb"])
    with pytest.raises(InputError, match=r"pip install \"glowflow\[track\]\""):
        run(TRACKED, splits, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_does_not_start_is_a_sentence(monkeypatch, splits, tmp_path):
    def refuse(*_arguments, **_options):
        raise RuntimeError("no key\nis configured")

    monkeypatch.setattr(Accelerator, "init_trackers", refuse)
    with pytest.raises(InputError, match=r"does not start \(no key is configured\)"):
        run(TRACKED, splits, tmp_path / "run")
    assert not list(tmp_path.glob("run/*"))


def test_the_configuration_keeps_them():
    config = TrainConfig(track=("tensorboard", "wandb"))
    assert from_yaml(TrainConfig, to_yaml(config), "x") == config
    assert from_yaml(TrainConfig, "track: []", "x") == TrainConfig()
    with pytest.raises(InputError, match="track"):
        from_yaml(TrainConfig, json.dumps({"track": [1]}), "x")
    with pytest.raises(InputError, match="track"):
        from_yaml(TrainConfig, "track: tensorboard", "x")
