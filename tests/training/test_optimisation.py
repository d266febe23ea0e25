"""How the weights move: the learning rate, the end of the run, the average."""

import math
from dataclasses import replace

import pytest
import torch

from glowflow import InputError
from glowflow.training.optimisation import Schedule, make_average

from .runs import CONFIG


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


@pytest.mark.parametrize(
    "setting", [{"minutes": math.inf}, {"minutes": math.nan}, {"minutes": 0}, {"lr": math.inf}]
)
def test_time_without_end_and_endless_steps_are_refused(setting):
    (name,) = setting
    with pytest.raises(InputError, match=f"{name} is {setting[name]}: give "):
        replace(CONFIG, **setting)
