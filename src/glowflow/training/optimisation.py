"""How the weights move: learning rate, optimiser, moving average, and what is computed in."""

import math
import time
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..models.config import Precision
from ..models.flow import ImageFlow
from .config import TrainConfig


def learning_rate(config: TrainConfig, images: int, done: float) -> float:
    """Linear warm-up in images, then the decay over the share `done` (0 to 1) of the run."""
    warmup = min(1.0, images / config.warmup_images) if config.warmup_images else 1.0
    match config.decay:
        case "constant":
            decay = 1.0
        case "linear":
            decay = 1.0 - done
        case "cosine":
            decay = 0.5 * (1.0 + math.cos(math.pi * done))
    return config.lr * warmup * decay


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, over all trainable weights."""
    match config.optimizer:
        case "adamax":
            return torch.optim.Adamax(model.parameters(), lr=config.lr, foreach=True)
        case "adam":
            return torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr=config.lr, fused=True)


def choose_precision(model: ImageFlow, precision: str) -> Precision:
    """`float32` or `bf16`; for `auto`, what a coupling network's convolution is faster in."""
    if precision != "auto":
        return "bf16" if precision == "bf16" else "float32"
    faster = bf16_is_faster(model.config.hidden_channels, model.device)
    return "bf16" if faster else "float32"


def bf16_is_faster(channels: int, device: torch.device, repeats: int = 5) -> bool:
    """Measure whether a 1x1 convolution takes less than 0.8 of its float32 time in bfloat16."""

    def seconds(dtype: torch.dtype) -> float:
        x = torch.randn(16, 16, 16, channels, device=device, dtype=dtype).permute(0, 3, 1, 2)
        weight = torch.randn(channels, channels, 1, 1, device=device, dtype=dtype)
        best = math.inf
        for _ in range(repeats):
            start = time.perf_counter()
            float(F.conv2d(x, weight)[0, 0, 0, 0])
            best = min(best, time.perf_counter() - start)
        return best

    with torch.no_grad():
        return seconds(torch.bfloat16) < 0.8 * seconds(torch.float32)


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile works here; if not, say why on stderr."""
    try:
        torch.compile(lambda x: 2 * x + 1)(torch.ones(4, device=device))
    except Exception as error:  # compilers fail in many ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        Console(stderr=True).print(
            f"torch.compile does not work here, so the run goes on without it ({reason}).",
            markup=False,
        )
        return False
    return True


def make_average(config: TrainConfig, model: nn.Module) -> AveragedModel:
    """Moving average with decay min(ema, (1 + t)/(10 + t)) at step t, so that it starts fast.

    The running statistics of batch normalisations are averaged with the weights that they are of.
    """

    def update(average: Any, current: Any, steps: Any) -> None:
        decay = min(config.ema, (1 + float(steps)) / (10 + float(steps)))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, current, 1.0 - decay)
        else:
            torch._foreach_copy_(average, current)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
