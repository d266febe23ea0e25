"""Random shifts and flips: what they do to an image, and what they depend on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.loader import measure

from glowflow import Glow, GlowConfig
from glowflow.data.augmentation import shift_some
from glowflow.training.batches import noise_for, training_input
from tests.training.runs import CONFIG, splits  # noqa: F401


def shifted(images, pixels, seed=0):
    return shift_some(images, pixels, torch.Generator().manual_seed(seed))


def test_a_shift_moves_the_whole_image_and_repeats_its_edge():
    images = torch.randint(0, 256, (64, 3, 6, 5), dtype=torch.uint8)
    found = set()
    for before, after in zip(images, shifted(images, 2), strict=True):
        padded = np.pad(before.numpy(), ((0, 0), (2, 2), (2, 2)), mode="edge")
        offsets = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(padded[:, y : y + 6, x : x + 5], after.numpy())
        ]
        assert offsets
        found.update(offsets)
    assert len(found) > 15  # of 25, in 64 draws


def test_no_shift_is_the_image_itself():
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(shifted(images, 0), images)


@pytest.fixture
def model():
    config = GlowConfig(image_shape=(1, 8, 8), levels=1, steps=1, hidden_channels=4)
    return Glow(config)


def test_the_input_of_a_step_depends_on_seed_and_step_alone(model):
    images = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    config = replace(CONFIG, flip=True, shift=2)

    def of(config, step):
        torch.manual_seed(int(torch.randint(10**6, ())))  # which must not matter
        return training_input(
            model, images, noise_for(config.seed, step, images.device), shift=2, flip=True
        )

    assert torch.equal(of(config, 3), of(config, 3))
    assert not torch.equal(of(config, 3), of(config, 4))
    assert not torch.equal(of(config, 3), of(replace(config, seed=1), 3))


def test_repeated_edges_have_noise_of_their_own(model):
    images = torch.zeros(16, 1, 8, 8, dtype=torch.uint8)
    x = training_input(model, images, torch.Generator(), shift=3)
    assert x.unique().numel() > 0.99 * x.numel()


def test_without_augmentation_the_input_is_as_it_was(model):
    """A checkpoint of a run without shifts goes on with the same noise."""
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    x = training_input(model, images, noise_for(CONFIG.seed, 5, images.device))
    noise = torch.Generator().manual_seed((CONFIG.seed * 1_000_003 + 5 + 1) % 2**63)
    assert torch.equal(x, model.to_float(images, generator=noise))


def test_the_benchmark_measures_both(splits):  # noqa: F811
    facts = measure(replace(CONFIG, flip=True, shift=1), splits, seconds=0.05, rounds=2)
    assert facts["loader, images/s"] > facts["training, images/s"] > 0
    assert facts["batch"] == CONFIG.batch_size
