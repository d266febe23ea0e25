"""K steps of flow, as one map that costs little more than its couplings."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..bijections import (
    ActNorm,
    Chain,
    FlowStep,
    Invertible1x1Conv,
    Permutation,
    PlainInvertible1x1Conv,
)
from ..bijections.actnorm import LOG_SCALE_FACTOR
from ..bijections.base import Bijection, per_sample, pixels, without_autocast
from ..bijections.exact import is_exactly, is_transformed, is_untouched, kind_of
from ..bijections.kept import Kept
from ..bijections.linear import mix
from .reversible import DriftGuard, forward_without_activations, why_not_reversible

MIXINGS = (Invertible1x1Conv, PlainInvertible1x1Conv, Permutation)
"""Whose matrices are all that a step needs of them."""


class Steps(Chain, Kept):
    """The chain of K steps of flow with the same number of channels.

    Actnorm and mixing of a step are one linear map of the channels,
    W (s·(x + b)) = A x + c with s = exp(3·logs), A = W diag(s), c = A b. A and c are built for all
    steps at once, and their log-determinants are sums of parameters,
    h·w·Σ_steps (log|det W| + Σ_channels 3·logs).

    That is done where every step is a `FlowStep` of an `ActNorm` and one kind of mixing, as they
    are in this package and without hooks; the coupling may be any. Other steps are called one after
    another, which gives the same numbers.

    `reversible` says how the backward pass gets a step's activations: kept from the forward pass
    (False), or computed again from the step's output (True), so that memory does not grow with
    K; see `reversible.py`.

    Args:
        steps: the K steps, in order.
    """

    reversible: bool = False

    def __init__(self, steps: Iterable[Bijection]) -> None:
        super().__init__(steps)
        self.guard = DriftGuard()

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return the last step's output and the sum of the log-determinants in nats."""
        steps = self._known_steps()
        recomputed = self.reversible and torch.is_grad_enabled() and not is_transformed()
        if recomputed and (reason := "other steps" if steps is None else why_not_reversible(steps)):
            warnings.warn(
                f"memory='reversible' does not reach the steps of {x.shape[1]} channels, which "
                f"have {reason}: their activations are stored.",
                stacklevel=2,
            )
            recomputed = False
        if steps is None:
            return super().forward(x, context)
        A, c, log_det = self.kept("forward", lambda: _linear_maps(steps), lambda: _linear(steps))
        total = per_sample(pixels(x) * log_det, x)
        if recomputed:
            y, by_couplings = forward_without_activations(steps, x, A, c, self.guard, context)
            return y, total + by_couplings
        for step, A_k, c_k in zip(steps, A, c, strict=True):
            x, by_coupling = step.coupling(mix(x, A_k, c_k), context)
            total = total + by_coupling
        return x, total

    @without_autocast
    def inverse(
        self, y: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return the first step's input and minus the sum of the log-determinants in nats."""
        steps = self._known_steps()
        if steps is None:
            return super().inverse(y, context)
        A_inverse, minus_b, log_det = self.kept(
            "inverse", lambda: _inverse_linear_maps(steps), lambda: _linear(steps)
        )
        total = per_sample(pixels(y) * log_det, y)
        maps = list(zip(steps, A_inverse, minus_b, strict=True))
        for step, A_inverse_k, minus_b_k in reversed(maps):
            y, by_coupling = step.coupling.inverse(y, context)
            y = mix(y, A_inverse_k, minus_b_k)
            total = total + by_coupling
        return y, total

    def _known_steps(self) -> list[FlowStep] | None:
        """The steps, if what each does before its coupling is known to be one linear map."""
        steps: list[FlowStep] = list(self)  # type: ignore[arg-type]
        if not all(map(_is_plain, steps)):
            return None
        linear = all(
            is_exactly(step.actnorm, ActNorm) and is_exactly(step.permutation, *MIXINGS)
            for step in steps
        )
        of_one_kind = len({kind_of(step.permutation) for step in steps}) == 1
        return steps if linear and of_one_kind else None


def _is_plain(step: Bijection) -> bool:
    """Whether it is the three parts of a step one after another, and called as such."""
    return (
        isinstance(step, FlowStep)
        and type(step).forward is FlowStep.forward
        and type(step).inverse is FlowStep.inverse
        and len(step) == 3
        and is_untouched(step)
    )


def _linear_maps(
    steps: list[FlowStep],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Float[Tensor, ""]]:
    """A and c of each step, and the sum of log|det A| over the steps, in nats a pixel."""
    b, log_scale, mixings = _stacked(steps)
    W = type(mixings[0]).matrices(mixings).to(b.dtype)
    A = W * log_scale.exp()[:, None, :]
    c = (A @ b[:, :, None])[:, :, 0]
    return A.unbind(), c.unbind(), _log_abs_det(log_scale, mixings)


def _inverse_linear_maps(
    steps: list[FlowStep],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Float[Tensor, ""]]:
    """A⁻¹ = diag(1/s) W⁻¹ and −b of each step, for x = A⁻¹ y − b; −Σ log|det A|."""
    b, log_scale, mixings = _stacked(steps)
    inverses = type(mixings[0]).inverse_matrices(mixings)
    A_inverse = (-log_scale.to(inverses)).exp()[:, :, None] * inverses
    return A_inverse.to(b).unbind(), (-b).unbind(), -_log_abs_det(log_scale, mixings)


def _stacked(steps: list[FlowStep]) -> tuple[Tensor, Tensor, list[Any]]:
    actnorms: list[Any] = [step.actnorm for step in steps]
    b = torch.stack([actnorm.b for actnorm in actnorms])
    log_scale = LOG_SCALE_FACTOR * torch.stack([actnorm.logs for actnorm in actnorms])
    return b, log_scale, [step.permutation for step in steps]


def _linear(steps: list[FlowStep]) -> list[torch.nn.Module]:
    return [part for step in steps for part in (step.actnorm, step.permutation)]


def _log_abs_det(
    log_scale: Float[Tensor, "steps channels"], mixings: list[Any]
) -> Float[Tensor, ""]:
    """Σ_steps (log|det W| + Σ_channels 3·logs), in nats a pixel."""
    return type(mixings[0]).log_abs_dets(mixings).sum() + log_scale.sum()
