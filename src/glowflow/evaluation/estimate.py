"""A mean over images, with its standard error."""

import math

import numpy as np
from numpy.typing import NDArray


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float | None]:
    """Mean m = Σ v / N and its standard error sqrt(Σ (v − m)² / (N − 1) / N), in the values' unit.

    Args:
        values: one figure an image, float64 of shape (N,).
    """
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None
    return mean, float(values.std(ddof=1)) / math.sqrt(len(values))
