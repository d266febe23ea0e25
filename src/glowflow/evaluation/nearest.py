"""Nearest images: whether a model draws what it has seen."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AT_ONCE = 1024
"""Images that are compared at once."""
EXACT = "donot_use_mm_for_euclid_dist"
"""By differences: |a|² + |b|² − 2ab loses what is between near images."""


def nearest(
    images: NDArray[Any], among: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest of `among` (M, C, H, W) to each image (N, C, H, W), by root mean square.

    Returns:
        Indices (N,) into `among`, and the distances (N,), in units of the values.
    """
    rows = _as_rows(images)
    best = torch.full((len(rows),), math.inf)
    index = torch.zeros(len(rows), dtype=torch.int64)
    for start in range(0, len(among), AT_ONCE):
        others = _as_rows(among[start : start + AT_ONCE])
        closest = torch.cdist(rows, others, compute_mode=EXACT).min(dim=1)
        better = closest.values < best
        best = torch.where(better, closest.values, best)
        index = torch.where(better, closest.indices + start, index)
    return index.numpy(), best.double().numpy() / rows.shape[1] ** 0.5


def _as_rows(images: NDArray[Any]) -> Tensor:
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float32))
