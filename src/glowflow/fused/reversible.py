"""A backward pass that computes each step's input from its output instead of keeping it.

Of a chain of steps only the input and the output are kept. Going back, each step is inverted, and
its network is run once, with gradients: that run serves the inversion and the gradient. Memory is
that of one step, whatever the depth; the price is one more forward pass of the networks, a fourth
beside one forward and two backward (Gomez et al. 2017, "The Reversible Residual Network").
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..bijections import Coupling
from ..bijections.linear import mix, precise
from ..errors import TrainingError

DRIFT_LIMIT = {torch.float64: 1e-6, torch.float32: 1e-2, torch.bfloat16: 3e-2}
"""Largest drift that spoils no gradient, by what the networks compute in."""


class DriftGuard:
    """Compares the input that the backward pass recovers with the true one, at intervals.

    drift = max|recovered − true| / max|true|. Reading it waits for the device, so it is read at
    the first backward pass and then at every `every`-th.

    Args:
        every: backward passes between two readings.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.passes = 0
        self.drift = 0.0
        """The newest reading."""

    def __call__(self, recovered: Tensor, true: Tensor, limit: float) -> None:
        """Compare, if it is time to.

        Raises:
            TrainingError: the drift is above `limit`.
        """
        self.passes += 1
        if (self.passes - 1) % self.every:
            return
        self.drift = float((recovered - true).abs().max() / true.abs().max().clamp(min=1e-12))
        if not self.drift <= limit:
            raise TrainingError(
                f"The input of the {true.shape[1]}-channel steps, recovered from their output, is "
                f"off by {self.drift:.1e} of its range (limit {limit:.0e}), which would spoil the "
                "gradients: train with --memory stored, or with --coupling-scale bounded."
            )


class Trail:
    """How far the backward pass of one chain of steps has come.

    Args:
        x: the chain's input.
        steps: number of steps.
        guard: compares x with what is recovered of it.
        limit: of the drift.
    """

    def __init__(self, x: Tensor, steps: int, guard: DriftGuard, limit: float) -> None:
        self.x, self.steps, self.guard, self.limit = x, steps, guard, limit
        self.y: Tensor | None = None
        """The output of the step that is inverted next."""
        self._gradients: Tensor | None = None

    def gradients(self, A: Tensor) -> tuple[Tensor, Tensor]:
        """Where the gradients of the A and the c of the step that is inverted next go.

        They outlive the step. Allocated one by one between what does not, they would keep the
        memory round them from being used again, so that it would grow with the steps.
        """
        if self._gradients is None:
            self._gradients = A.new_empty(self.steps, len(A), len(A) + 1)
        of_step = self._gradients[self.steps - 1]
        return of_step[:, :-1], of_step[:, -1]

    def back(self, x: Tensor) -> None:
        """Take the input of a step, which is the output of the one before."""
        self.y = x
        self.steps -= 1
        if self.steps == 0:
            self.guard(x, self.x, self.limit)
            self.y = None


def step_without_activations(
    trail: Trail,
    coupling: Coupling,
    x: Float[Tensor, "batch channels height width"],
    A: Float[Tensor, "channels channels"],
    c: Float[Tensor, " channels"],
) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
    """coupling(A x + c) and its log-determinant, with nothing kept but what `trail` keeps.

    Args:
        trail: of the chain; the caller sets `trail.y` to the last step's output.
        coupling: the step's coupling.
        x: the step's input.
        A: matrix of the step's linear map.
        c: shift of the step's linear map.
    """
    weights = tuple(w for w in coupling.parameters() if w.requires_grad)
    y, log_det = _Step.apply(  # type: ignore[no-untyped-call]
        trail, coupling, x, A, c, *weights
    )
    return y, log_det


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        trail: Trail,
        coupling: Coupling,
        x: Tensor,
        A: Tensor,
        c: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.trail, ctx.coupling, ctx.weights = trail, coupling, weights
        ctx.save_for_backward(A, c)
        y, log_det = coupling(mix(x, A, c))
        return y, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        A, c = ctx.saved_tensors
        trail: Trail = ctx.trail
        if trail.y is None:
            raise RuntimeError("The graph was gone back through before: call forward again.")
        found = ctx.coupling.rewind(trail.y)
        kept = found.x1.shape[1]
        outputs, gradients = [found.y2], [grad_y[:, kept:]]
        if found.log_det.requires_grad:
            outputs.append(found.log_det)
            gradients.append(grad_log_det)
        grad_1, grad_2, *by_weight = torch.autograd.grad(
            outputs, (found.x1, found.x2, *ctx.weights), gradients, allow_unused=True
        )
        with torch.no_grad():
            channels_last = (0, 2, 3, 1)
            mixed = torch.cat((found.x1, found.x2), dim=1).permute(channels_last)
            grad = torch.cat((grad_y[:, :kept] + grad_1, grad_2), dim=1).permute(channels_last)
            A_inverse = torch.linalg.inv_ex(precise(A)).inverse.to(A)
            x = (mixed - c) @ A_inverse.T
            rows = grad.reshape(-1, grad.shape[-1])
            grad_A, grad_c = trail.gradients(A)
            torch.mm(rows.T, x.reshape(rows.shape), out=grad_A)
            torch.sum(rows, 0, out=grad_c)
            grad_x = (grad @ A).permute(0, 3, 1, 2)
            trail.back(x.permute(0, 3, 1, 2))
        return None, None, grad_x, grad_A, grad_c, *by_weight
