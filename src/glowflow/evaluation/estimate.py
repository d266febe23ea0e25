"""A mean with its standard error."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """A mean over images or seeds, and its standard error; None for one of them."""

    mean: float
    standard_error: float | None

    @classmethod
    def of(cls, values: "NDArray[np.float64]") -> "Estimate":
        """Of one figure an image, or a seed: (N,)."""
        return cls(*mean_and_error(values))

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.3f}"
        return f"{self.mean:.3f}{error}"


def mean_and_error(values: "NDArray[np.float64]") -> tuple[float, float | None]:
    """Mean m = Σ v / N and its standard error sqrt(Σ (v − m)² / (N − 1) / N), in the values' unit.

    Args:
        values: one figure an image, float64 of shape (N,).
    """
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None
    return mean, float(values.std(ddof=1)) / math.sqrt(len(values))
