"""Nearest images: whether a model that draws has only memorised."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def nearest(
    images: NDArray[Any], among: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest of `among` (M, C, H, W) to each image (N, C, H, W), by root mean square.

    Returns:
        Indices (N,) into `among`, and the distances (N,), in units of the values.
    """
    flat = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32))
    best = torch.full((len(images),), math.inf)
    index = torch.zeros(len(images), dtype=torch.int64)
    for start, chunk in _chunks(among):
        other = torch.from_numpy(chunk.reshape(len(chunk), -1).astype(np.float32))
        closest = torch.cdist(flat, other).min(dim=1)
        better = closest.values < best
        best = torch.where(better, closest.values, best)
        index = torch.where(better, closest.indices + start, index)
    return index.numpy(), best.double().numpy() / flat.shape[1] ** 0.5


def _chunks(images: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    for start in range(0, len(images), 1024):
        yield start, images[start : start + 1024]
