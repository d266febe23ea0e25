"""Dequantisation noise with a shape that is learned (Flow++, section 3.1)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .base import Bijection, sum_per_sample, without_autocast
from .coupling import conditioned
from .fitted import require_precision
from .squeeze import Squeeze

BOUND = 3.0
"""Largest |shift| and −log scale: u' of the middle of a bin stays in 0.047 to 0.953 of it."""
WIDEST = 0.5
"""Largest log scale: wider noise would lie at the ends of its bin."""
NEEDS = "The learned noise has places within the bins of bytes"


class VariationalDequantization(Bijection):
    """x = (k + u)/2ⁿ − ½ ↦ (k + u')/2ⁿ − ½ with logit u' = s(k)·logit u + m(k), k whole.

    Every bin of the bytes is mapped onto itself, by a scale and a shift that a network of all
    bytes of the image gives. With u uniform, u' has the density q(u' | k) = 1/|du'/du|, so that

        E_u [log p(x') + log|det dx'/dx|] = E_q [log p(x') − log q(u' | k)] ≤ log P(k) + D log 2ⁿ,

    the variational bound: noise from U(0, 1), as everywhere, becomes the noise that makes the bound
    tightest, and whatever computes log p(x) of uniform noise computes it. Bytes do not change in
    either direction. log-det Σ [log s + log u'(1 − u') − log u(1 − u)].

    Args:
        bits: n.
        network: maps the squeezed (batch, 4C, H/2, W/2) bytes, centred in their bins, to
            (batch, 8C, H/2, W/2).

    Source: Ho et al. 2019, "Flow++", section 3.1; there q is a flow with couplings among the u'.
    """

    def __init__(self, bits: int, network: nn.Module) -> None:
        super().__init__()
        self.bits = bits
        self.network = network
        self.squeeze = Squeeze()

    def extra_repr(self) -> str:
        """Bits, for `print`."""
        return f"bits={self.bits}"

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return x' and its log-determinant in nats."""
        shaped, by_value = self.by_value(x, context)
        return shaped, sum_per_sample(by_value)

    @without_autocast
    def by_value(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Tensor, Float[Tensor, "batch channels height width"]]:
        """Return x' and each value's part of the log-determinant."""
        require_precision(x, NEEDS)
        whole, logit = self._apart(x)
        shift, log_scale = self._shape(whole, context)
        shaped = logit * log_scale.exp() + shift
        log_det = log_scale + _log_slope(shaped) - _log_slope(logit)
        return self._together(whole, shaped), log_det

    @without_autocast
    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return x and its log-determinant in nats."""
        require_precision(y, NEEDS)
        whole, shaped = self._apart(y)
        shift, log_scale = self._shape(whole, context)
        logit = (shaped - shift) * (-log_scale).exp()
        log_det = _log_slope(logit) - _log_slope(shaped) - log_scale
        return self._together(whole, logit), sum_per_sample(log_det)

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Initialise the network (where it can be) from the bytes of `x`."""
        initialize = getattr(self.network, "initialize", None)
        if initialize is not None:
            initialize(self._bytes(self._apart(x)[0]))
        return self(x, context)

    def _apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """k and logit u."""
        grid = (x + 0.5) * 2**self.bits
        whole = grid.detach().floor()
        return whole, torch.logit((grid - whole).clamp(*self._ends(x)))

    def _together(self, whole: Tensor, logit: Tensor) -> Tensor:
        u = torch.sigmoid(logit).clamp(*self._ends(whole))
        return (whole + u) / 2**self.bits - 0.5

    def _ends(self, x: Tensor) -> tuple[float, float]:
        """How near to 0 and 1 u comes: rounding must not leave the bin."""
        least = 2**self.bits * torch.finfo(x.dtype).eps
        return least, 1.0 - least

    def _bytes(self, whole: Tensor) -> Tensor:
        squeezed: Tensor = self.squeeze((whole + 0.5) / 2**self.bits - 0.5)[0]
        return squeezed

    def _shape(self, whole: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """m and log s."""
        h = self.squeeze.inverse(conditioned(self.network, self._bytes(whole), context))[0]
        shift, raw = h.chunk(2, dim=1)
        log_scale = torch.where(raw < 0, _bounded(raw, BOUND), _bounded(raw, WIDEST))
        return _bounded(shift, BOUND), log_scale


def _bounded(raw: Tensor, most: float) -> Tensor:
    return most * torch.tanh(raw / most)


def _log_slope(logit: Tensor) -> Tensor:
    """log u(1 − u) of u = sigmoid(logit)."""
    return F.logsigmoid(logit) + F.logsigmoid(-logit)
