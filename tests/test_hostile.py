"""Hostile runs: each learns, or stops with the named cause; none leaves a NaN."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from glowflow import TrainingError
from glowflow.data.types import ImageData, Splits
from glowflow.training.checkpoint import list_checkpoints
from tests.training.runs import CONFIG, images, losses, run

FAST = {"lr": 10 * CONFIG.lr}
SMALL = {"batch_size": 4}
COLD = {"warmup_images": 0}
PUSHED = {**FAST, **SMALL, **COLD}


def as_they_are(seed, count):
    return images(count, seed, (3, 8, 8))


def constant_channel(seed, count):
    found = as_they_are(seed, count)
    found[:, 1] = 77
    return found


def black(seed, count):
    return np.zeros((count, 3, 8, 8), np.uint8)


def repeated(seed, count):
    return np.repeat(as_they_are(0, 1), count, axis=0)


def one_bit(seed, count):
    return np.where(as_they_are(seed, count) > 100, 255, 0).astype(np.uint8)


def noise(seed, count):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 8, 8), np.uint8)


CASES = {
    "fast": (as_they_are, FAST, {}),
    "small batch": (as_they_are, SMALL, {}),
    "cold": (as_they_are, COLD, {}),
    "fast, small, cold": (as_they_are, PUSHED, {}),
    "fast, small, cold, sigmoid": (as_they_are, PUSHED, {"coupling_scale": "sigmoid"}),
    "fast, small, cold, exp": (as_they_are, PUSHED, {"coupling_scale": "exp"}),
    "fast, small, cold, additive": (as_they_are, PUSHED, {"coupling": "additive"}),
    "fast, small, cold, plain": (as_they_are, PUSHED, {"permutation": "plain"}),
    "fast, small, cold, reversible": (as_they_are, {**PUSHED, "memory": "reversible"}, {}),
    "fast, small, cold, adam": (as_they_are, {**PUSHED, "optimizer": "adam"}, {}),
    "constant channel": (constant_channel, {}, {}),
    "constant channel, fast, small, cold": (constant_channel, PUSHED, {}),
    "black": (black, {}, {}),
    "black, fast, small, cold": (black, PUSHED, {}),
    "repeated": (repeated, {}, {}),
    "repeated, fast, small, cold": (repeated, PUSHED, {}),
    "one bit": (one_bit, {}, {"bits": 1}),
    "one bit, fast, small, cold": (one_bit, PUSHED, {"bits": 1}),
    "one bit as 8, fast, small, cold": (one_bit, PUSHED, {}),
    "noise, fast, small, cold": (noise, PUSHED, {}),
    "black, absurdly fast": (black, {"lr": 1e3, **COLD}, {}),
    "absurdly fast, without clipping": (as_they_are, {"lr": 1e3, "clip": 1e30, **COLD}, {}),
}


MILD = [
    "fast",
    "small batch",
    "cold",
    "fast, small, cold, sigmoid",
    "fast, small, cold, plain",
    "fast, small, cold, adam",
    "constant channel",
    "black",
    "repeated",
    "one bit",
    "one bit as 8, fast, small, cold",
]
"""Each of which another case holds too, and more."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) if case in MILD else case for case in CASES],
)
def test_it_learns_or_says_why_not(tmp_path, case):
    make, changes, of_model = CASES[case]
    parts = (ImageData(make(seed, count)) for seed, count in ((0, 64), (1, 16), (2, 16)))
    splits = Splits(*parts, case, "0")
    config = replace(CONFIG, images=40 * changes.get("batch_size", CONFIG.batch_size), **changes)
    model = replace(config.model, **{"coupling_scale": "bounded", **of_model})
    config = replace(config, model=model)
    folder = tmp_path / "run"
    try:
        run(config, splits, folder)
    except TrainingError as error:
        words = ("level", "gradient", "weight", "log-likelihood", "off by")
        assert any(word in str(error) for word in words), error
    else:
        found = losses(folder)
        assert np.isfinite(found).all()
        assert np.mean(found[-8:]) <= np.mean(found[:2]) + 0.05
    for path in list_checkpoints(folder):
        state = torch.load(path, weights_only=True)
        for weights in (state["model"], state["average"]):
            assert all(bool(torch.isfinite(w).all()) for w in weights.values()), path
    saved = load_file(folder / "model.safetensors")
    assert all(bool(torch.isfinite(w).all()) for w in saved.values())
