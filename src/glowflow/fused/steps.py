"""K steps of flow, as one map that costs little more than its couplings."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from ..bijections import Chain, ChannelMixing, FlowStep
from ..bijections.actnorm import LOG_SCALE_FACTOR
from ..bijections.base import per_sample, pixels
from ..bijections.kept import Kept, own_weights
from ..bijections.linear import mix
from .reversible import DRIFT_LIMIT, DriftGuard, Trail, step_without_activations


class Steps(Chain, Kept):
    """The chain of K steps of flow with the same number of channels and one kind of mixing.

    Actnorm and mixing of a step are one linear map of the channels,
    W (s·(x + b)) = A x + c with s = exp(3·logs), A = W diag(s), c = A b. A and c are built for all
    steps at once, and their log-determinants are sums of parameters,
    h·w·Σ_steps (log|det W| + Σ_channels 3·logs).

    `reversible` says how the backward pass gets a step's activations: kept from the forward pass
    (False), or computed again from the step's output (True), so that memory does not grow with
    K; see `reversible.py`.

    Args:
        steps: the K steps, in order.
    """

    reversible: bool = False

    def __init__(self, steps: Iterable[FlowStep]) -> None:
        super().__init__(steps)
        self.guard = DriftGuard()

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return the last step's output and the sum of the log-determinants in nats."""
        A, c, log_det = self.kept("forward", self._linear_maps, self._linear_weights)
        total = per_sample(pixels(x) * log_det, x)
        if self.reversible and torch.is_grad_enabled():
            y, by_couplings = self._forward_without_activations(x, A, c)
            return y, total + by_couplings
        for step, A_k, c_k in zip(self._steps(), A, c, strict=True):
            x, by_coupling = step.coupling(mix(x, A_k, c_k))
            total = total + by_coupling
        return x, total

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return the first step's input and minus the sum of the log-determinants in nats."""
        A_inverse, minus_b, log_det = self.kept(
            "inverse", self._inverse_linear_maps, self._linear_weights
        )
        total = per_sample(pixels(y) * log_det, y)
        maps = list(zip(self._steps(), A_inverse, minus_b, strict=True))
        for step, A_inverse_k, minus_b_k in reversed(maps):
            y, by_coupling = step.coupling.inverse(y)
            y = mix(y, A_inverse_k, minus_b_k)
            total = total + by_coupling
        return y, total

    def _forward_without_activations(
        self, x: Tensor, A: tuple[Tensor, ...], c: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        network = self._steps()[0].coupling.network
        limit = DRIFT_LIMIT[getattr(network, "compute_dtype", None) or x.dtype]
        trail = Trail(x.detach(), len(self), self.guard, limit)
        total = per_sample(0.0, x)
        for step, A_k, c_k in zip(self._steps(), A, c, strict=True):
            x, by_coupling = step_without_activations(trail, step.coupling, x, A_k, c_k)
            total = total + by_coupling
        trail.y = x.detach()
        return x, total

    def _linear_maps(
        self,
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Float[Tensor, ""]]:
        """A and c of each step, and the sum of log|det A| over the steps, in nats a pixel."""
        b, log_scale, mixings = self._stacked()
        A = type(mixings[0]).matrices(mixings) * log_scale.exp()[:, None, :]
        c = (A @ b[:, :, None])[:, :, 0]
        return A.unbind(), c.unbind(), _log_abs_det(log_scale, mixings)

    def _inverse_linear_maps(
        self,
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Float[Tensor, ""]]:
        """A⁻¹ = diag(1/s) W⁻¹ and −b of each step, for x = A⁻¹ y − b; −Σ log|det A|."""
        b, log_scale, mixings = self._stacked()
        inverses = type(mixings[0]).inverse_matrices(mixings)
        A_inverse = (-log_scale.to(inverses)).exp()[:, :, None] * inverses
        return A_inverse.to(b).unbind(), (-b).unbind(), -_log_abs_det(log_scale, mixings)

    def _stacked(self) -> tuple[Tensor, Tensor, list[ChannelMixing]]:
        steps = self._steps()
        b = torch.stack([step.actnorm.b for step in steps])
        log_scale = LOG_SCALE_FACTOR * torch.stack([step.actnorm.logs for step in steps])
        return b, log_scale, [step.permutation for step in steps]

    def _linear_weights(self) -> list[Tensor]:
        return own_weights(*(p for step in self._steps() for p in (step.actnorm, step.permutation)))

    def _steps(self) -> list[FlowStep]:
        return list(self)  # type: ignore[arg-type]


def _log_abs_det(
    log_scale: Float[Tensor, "steps channels"], mixings: list[ChannelMixing]
) -> Float[Tensor, ""]:
    """Σ_steps (log|det W| + Σ_channels 3·logs), in nats a pixel."""
    return type(mixings[0]).log_abs_dets(mixings).sum() + log_scale.sum()
