"""Which values of padded images are the source's own."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..photos.images import Seen


class Margins:
    """Counts the values inside of the margins while images are decoded."""

    def __init__(self, count: int, fit: str) -> None:
        self.inside: NDArray[np.int64] | None = None
        if fit == "pad":
            self.inside = np.zeros(count, dtype=np.int64)

    def of(self, index: int) -> Callable[[Seen], None]:
        """What `decode` tells what it has seen of image `index`."""
        return partial(self._note, index)

    def _note(self, index: int, seen: Seen) -> None:
        if self.inside is not None:
            self.inside[index] = seen.values_inside
