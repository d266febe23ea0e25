"""A mean with its standard error."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


def mean_and_error(
    values: "NDArray[np.float64]", groups: "NDArray[Any] | None" = None
) -> tuple[float, float | None]:
    """Mean m = Σ v / N and its standard error sqrt(Σ (v − m)² / (N − 1) / N), in the values' unit.

    Values of a group, as squares of one photograph, are alike. Of G groups the error is
    sqrt(G / (G − 1) · Σ_g (Σ_{v in g} (v − m))²) / N, which is the same where each has one value.

    Args:
        values: one figure an image, float64 of shape (N,).
        groups: the group of each, (N,); None where they are independent.
    """
    import numpy as np

    mean = float(values.mean())
    sums: Any = values - mean
    if groups is not None:
        sums = np.bincount(np.unique(groups, return_inverse=True)[1], sums)
    count = len(sums)
    if count < 2:
        return mean, None
    return mean, math.sqrt(count / (count - 1) * float(np.square(sums).sum())) / len(values)
