"""The loop: learns, resumes to the bit, stops with a cause, leaves usable files."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glowflow import Architecture, CheckpointError, DataConfig, Glow, InputError, TrainingError
from glowflow.data.types import ImageData, Splits
from glowflow.training.as_yaml import from_yaml, to_yaml
from glowflow.training.checkpoint import list_checkpoints, load_checkpoint
from glowflow.training.config import TrainConfig, read_run_config
from glowflow.training.diagnosis import describe, find_nonfinite, find_nonfinite_gradient
from glowflow.training.initialisation import model_config_for
from glowflow.training.loop import train
from glowflow.training.metrics import read_metrics
from glowflow.training.objective import Objective
from glowflow.training.optimisation import make_average

CONFIG = TrainConfig(
    data=DataConfig(data="digits"),
    model=Architecture(levels=2, steps=2, hidden_channels=8),
    images=160,
    batch_size=8,
    warmup_images=40,
    log_every=1,
    validation_images=16,
)


def images(count, seed, shape=(1, 8, 8)):
    """Smooth blobs, so that there is something to learn."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : shape[1], 0 : shape[2]]
    centre = random.uniform(2, 6, (count, 2, 1, 1))
    blob = np.exp(-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / 6)
    return (255 * np.repeat(blob[:, None], shape[0], axis=1)).astype(np.uint8)


def part(count, seed, **options):
    labels = np.arange(count) % 3
    return ImageData(images(count, seed), labels, None, ("a", "b", "c"), **options)


@pytest.fixture
def splits():
    return Splits(part(64, 0), part(16, 1), part(16, 2), "blobs", "0")


def run(config, splits, folder, **options):
    return train(config, splits, folder, device="cpu", progress=False, **options)


def losses(folder):
    return [line["bits_per_dim"] for line in read_metrics(folder) if "bits_per_dim" in line]


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


@pytest.mark.parametrize("optimizer", ["adamax", "adam", "adamw"])
def test_resumed_run_repeats_the_uninterrupted_one_to_the_bit(splits, tmp_path, optimizer):
    config = replace(CONFIG, optimizer=optimizer)
    whole = run(config, splits, tmp_path / "whole")
    half = tmp_path / "half"
    stop_after(half, splits, config, steps=9)
    assert load_checkpoint(half).step == 9
    resumed = run(config, splits, half, resume=True)
    assert losses(half) == losses(tmp_path / "whole")
    for a, b in zip(
        resumed.model.state_dict().values(), whole.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def stop_after(folder, splits, config, steps):
    """A run that is told to stop, as Ctrl-C does, while its 9th step is under way."""
    import os
    import signal

    seen = []
    original = Objective.forward

    def counting(self, x, labels=None):
        seen.append(1)
        if len(seen) == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, x, labels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objective, "forward", counting)
        trained = run(config, splits, folder)
    assert trained.interrupted
    assert trained.step == steps


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
    with pytest.raises(CheckpointError, match="another architecture"):
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
        ("splits.0.prior.conv.b", "level 1, split"),
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


def test_diagnosis_of_outputs_and_gradients():
    model = Glow(model_config_of((1, 8, 8)))
    x = torch.zeros(2, 1, 8, 8)
    assert find_nonfinite(model, lambda: model(x)) is None
    infinite = x.clone()
    infinite[0, 0, 0, 0] = math.inf
    assert "the input of level 1" in find_nonfinite(model, lambda: model(infinite))
    assert find_nonfinite_gradient(model) is None
    weight = model.get_parameter("levels.0.steps.0.coupling.network.first.b")
    weight.grad = torch.full_like(weight, math.nan)
    assert find_nonfinite_gradient(model) == (
        "the gradient of level 1, step 1, coupling, network.first.b"
    )


def model_config_of(shape):
    from glowflow import GlowConfig

    return GlowConfig.of(CONFIG.model, shape)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "levels.1.steps.4.coupling.network.last",
            "level 2, step 5, coupling, network.last",
        ),
        ("levels.0.squeeze", "level 1, squeeze"),
        ("levels.0", "level 1"),
        ("splits.2.prior", "level 3, split, prior"),
        ("top.conv", "top.conv"),
    ],
)
def test_places_in_words(name, words):
    assert describe(name) == words


def test_learning_rate():
    def rate(images, done, **changes):
        config = replace(CONFIG, **{"lr": 1e-3, "warmup_images": 100, **changes})
        return Schedule.of(config).learning_rate(images, done)

    assert rate(50, 0.0) == pytest.approx(5e-4)
    assert rate(100, 0.0) == pytest.approx(1e-3)
    assert rate(500, 0.5) == pytest.approx(5e-4)
    assert rate(500, 1.0) == pytest.approx(0.0)
    assert rate(500, 0.9, decay="constant") == 1e-3
    assert rate(500, 0.9, decay="linear") == pytest.approx(1e-4)
    assert rate(1, 0.0, warmup_images=0) == 1e-3


def test_the_end_comes_by_images_or_by_minutes():
    by_images = Schedule.of(replace(CONFIG, images=200))
    assert by_images.done(50, 1e9) == 0.25
    by_minutes = Schedule.of(replace(CONFIG, images=200, minutes=2.0))
    assert by_minutes.done(50, 90.0) == 0.75
    assert by_minutes.done(200, 0.0) == 1.0


def test_average_starts_fast_and_follows_its_decay():
    weight = torch.nn.Linear(1, 1, bias=False)
    average = make_average(weight, 0.5)
    with torch.no_grad():
        weight.weight.fill_(0.0)
        average.update_parameters(weight)  # the first update copies
        weight.weight.fill_(1.0)
        average.update_parameters(weight)
        assert average.module.weight.item() == pytest.approx(1 - 2 / 11)
        for _ in range(200):
            average.update_parameters(weight)
    assert average.module.weight.item() == pytest.approx(1.0)


def test_minutes_end_the_run(splits, tmp_path):
    trained = run(replace(CONFIG, images=10**9, minutes=0.02), splits, tmp_path / "run")
    assert 1.2 <= trained.seconds < 20
    assert not trained.interrupted


def test_classes_are_trained_with_the_classifier(splits, tmp_path):
    config = replace(CONFIG, conditional=True, images=80)
    trained = run(config, splits, tmp_path / "run")
    assert trained.model.config.classes == 3
    assert trained.model.classifier.weight.abs().max() > 0
    assert trained.model.sample(2, labels=torch.tensor([0, 2])).shape == (2, 1, 8, 8)


def test_objective_adds_the_bits_of_the_labels(splits):
    config = model_config_for(replace(CONFIG, conditional=True), splits)
    model = Glow(config)
    x = torch.zeros(2, 1, 8, 8)
    loss, bits = Objective(model)(x, torch.tensor([0, 1]))
    assert (loss - bits).item() == pytest.approx(0.01 * math.log2(3), rel=1e-4)


def test_float_data_is_trained_without_dequantisation(tmp_path):
    def floats(count, seed):
        return ImageData(images(count, seed).astype(np.float32) / 100)

    splits = Splits(floats(64, 0), floats(16, 1), floats(16, 2), "floats", "0")
    trained = run(replace(CONFIG, images=80), splits, tmp_path / "run")
    assert trained.model.config.bits is None
    assert trained.model.sample(2).dtype == torch.float32


def test_data_that_do_not_fit(splits):
    unlabelled = replace(splits, train=replace(splits.train, labels=None, class_names=()))
    with pytest.raises(InputError, match="no labels"):
        model_config_for(replace(CONFIG, conditional=True), unlabelled)
    with pytest.raises(InputError, match="divisible"):
        model_config_for(replace(CONFIG, model=replace(CONFIG.model, levels=4)), splits)
    with pytest.raises(InputError, match="bits is None"):
        model_config_for(replace(CONFIG, model=replace(CONFIG.model, bits=None)), splits)


def test_bf16_is_close_and_only_inside_the_networks(splits):
    model = Glow(model_config_for(CONFIG, splits))
    x = model.to_float(torch.from_numpy(splits.train.images), noise="center")
    model.initialize(torch.from_numpy(splits.train.images))
    expected = model.log_prob(x)
    model.use(precision="bf16")
    found = model.log_prob(x)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() / 64 < 0.05
    found.sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
    model.use(precision="float32")
    assert torch.equal(model.log_prob(x), expected)


class TestYaml:
    def test_round_trip(self):
        config = replace(CONFIG, minutes=3, data=DataConfig(data="x", size=(8, 16)))
        assert from_yaml(TrainConfig, to_yaml(config), "x") == config

    def test_missing_fields_keep_their_default(self):
        config = from_yaml(TrainConfig, "lr: 0.5\nmodel: {levels: 2}", "x")
        assert config.lr == 0.5
        assert config.model.levels == 2
        assert config.batch_size == TrainConfig().batch_size
        assert from_yaml(TrainConfig, "", "x") == TrainConfig()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[", "not YAML"),
            ("- 1", "has fields"),
            ("colour: red", "'colour'"),
            ("lr: fast", "lr is 'fast'"),
            ("batch_size: 1.5", "batch_size is 1.5"),
            ("batch_size: true", "batch_size is True"),
            ("model: {coupling: volume}", "coupling is 'volume'"),
            ("model: 3", "has fields"),
            ("data: {size: [8]}", "size is"),
            ("lr: -1", "lr is -1"),
            ("ema: 1.0", "ema is 1.0"),
            ("images: 0", "images is 0"),
        ],
    )
    def test_bad_yaml(self, text, message):
        with pytest.raises(InputError, match=message):
            from_yaml(TrainConfig, text, "file.yaml")


def test_metrics_are_lines_of_json(splits, tmp_path):
    run(CONFIG, splits, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert {"step", "images", "seconds", "bits_per_dim", "grad_norm", "lr"} <= set(first)
    assert first["step"] == 1
