"""How the weights move: the learning rate over a run, the optimiser, the moving average."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from .config import Decay, Optimizer, TrainConfig
from .muon import MuonAdamax


@dataclass(frozen=True)
class Schedule:
    """How long a run is, and its learning rate until then."""

    images: int
    """To see in all."""
    minutes: float | None
    """The end, if that comes before `images`."""
    lr: float
    """After the warm-up."""
    warmup_images: int
    decay: Decay

    @classmethod
    def of(cls, config: TrainConfig) -> "Schedule":
        """The schedule that a configuration describes."""
        return cls(config.images, config.minutes, config.lr, config.warmup_images, config.decay)

    def done(self, images: int, seconds: float) -> float:
        """The share of the run that is done, 0 to 1."""
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return max(images / self.images, by_time)

    def learning_rate(self, images: int, done: float) -> float:
        """Linear warm-up in images, then the decay over the share `done` (0 to 1) of the run."""
        warmup = min(1.0, images / self.warmup_images) if self.warmup_images else 1.0
        match self.decay:
            case "constant":
                decay = 1.0
            case "linear":
                decay = 1.0 - done
            case "cosine":
                decay = 0.5 * (1.0 + math.cos(math.pi * done))
        return self.lr * warmup * decay


def make_optimizer(model: nn.Module, name: Optimizer, lr: float) -> torch.optim.Optimizer:
    """The optimiser of this name, over all trainable weights."""
    match name:
        case "adamax":
            return torch.optim.Adamax(model.parameters(), lr=lr, foreach=True)
        case "adam":
            return torch.optim.Adam(model.parameters(), lr=lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
        case "muon":
            return MuonAdamax(model.named_parameters(), lr)


def make_average(model: nn.Module, ema: float) -> AveragedModel:
    """Moving average with decay min(ema, (1 + t)/(10 + t)) at step t, so that it starts fast.

    The running statistics of batch normalisations are averaged with the weights that they are of.
    """

    def update(average: Any, current: Any, steps: Any) -> None:
        decay = min(ema, (1 + float(steps)) / (10 + float(steps)))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, current, 1.0 - decay)
        else:
            torch._foreach_copy_(average, current)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
