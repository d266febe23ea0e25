"""A small run that the tests of training and of what it trains share."""

import os
import signal

import numpy as np
import pytest

from glowflow import Architecture, DataConfig
from glowflow.data.types import ImageData, Splits
from glowflow.training.config import TrainConfig
from glowflow.training.loop import train
from glowflow.training.metrics import read_metrics
from glowflow.training.objective import Objective

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


def stop_in(step, folder, splits, config, number=signal.SIGINT):
    """A run that gets a signal while this step is under way."""
    original, seen = Objective.forward, []

    def counting(self, x, labels=None):
        seen.append(1)
        if len(seen) == step:
            os.kill(os.getpid(), number)
        return original(self, x, labels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objective, "forward", counting)
        trained = run(config, splits, folder)
    assert trained.interrupted
    assert trained.step == step
    return trained
