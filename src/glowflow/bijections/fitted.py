"""Maps that are fitted to images once, and then stay."""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from .base import Bijection


class FittedMap(Bijection):
    """A bijection whose buffers are set from images, the first time; a subclass says how."""

    initialized: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("initialized", torch.tensor(False))

    @torch.no_grad()
    def fit(self, x: Float[Tensor, "batch channels *grid"], noise_variance: float = 0.0) -> None:
        """Fit the map to these images, unless it was fitted before; the more, the better.

        Args:
            x: images without dequantisation noise.
            noise_variance: of that noise.
        """
        if self.initialized:
            return
        self._fit(x, noise_variance)
        self.initialized.fill_(True)

    @abstractmethod
    def _fit(self, x: Tensor, noise_variance: float) -> None: ...

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Fit the map to these images, unless it was fitted before, and apply it."""
        self.fit(x)
        return self(x, context)


def require_precision(x: Tensor, what: str) -> None:
    """Refuse images in half precision, in which what is said runs together."""
    if x.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"{what}, which {x.dtype} cannot tell apart: use float32, or "
            "use(precision='bf16') for the networks alone."
        )
