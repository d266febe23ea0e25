"""What a device is good at: bfloat16, torch.compile."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from rich.console import Console

from ..models.config import Precision
from ..models.flow import ImageFlow


def choose_precision(model: ImageFlow, precision: str) -> Precision:
    """`float32` or `bf16`; for `auto`, what a coupling network's convolution is faster in, but no
    bf16 in a model of float64, which is wanted for its digits."""
    if precision == "auto" and model.dtype == torch.float64:
        return "float32"
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


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Within it PyTorch has operations alone that give the same bits each time, if that is wanted;
    one that it lacks is an error of its own."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA begins
    before = torch.are_deterministic_algorithms_enabled()
    tuned, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = tuned


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
