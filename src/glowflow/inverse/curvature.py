"""How strongly an observation holds each direction of the latents, for chains to be scaled by."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from ..models.flow import IMAGES_AT_ONCE
from .problem import Problem

LARGEST = 4096
"""Observed values for whose gradients there is a row each; with more, chains are not scaled."""
LEAST = 1e-2
"""Curvature, beside the prior's 1, that is worth a direction."""


@dataclass(frozen=True)
class Scaling:
    """ε = centre + L u with L = (I + JᵀJ)^−½ = I + V diag(shrink) Vᵀ.

    J is the gradient of A(x(ε))/σ at the centre, V its right singular vectors, and
    shrink = 1/√(1 + s²) − 1 of its singular values s. If x(ε) and A were linear, u given y would
    be standard normal. An operator that is not only makes L less fitting: any L leaves the
    density of ε as it is.
    """

    centre: Float[Tensor, " dims"]
    V: Float[Tensor, "dims directions"]
    shrink: Float[Tensor, " directions"]
    grow: Float[Tensor, " directions"]
    """√(1 + s²) − 1, of the inverse."""

    def latents(self, u: Float[Tensor, "chains dims"]) -> Float[Tensor, "chains dims"]:
        """ε of u."""
        return self.centre + u + (u @ self.V * self.shrink) @ self.V.T

    def scaled(self, latents: Float[Tensor, "chains dims"]) -> Float[Tensor, "chains dims"]:
        """u of ε."""
        away = latents - self.centre
        return away + (away @ self.V * self.grow) @ self.V.T


def batches(problem: Problem) -> int:
    """How many `curvature` computes one after another; 0 where there are too many values."""
    values = problem.observed.numel()
    return 0 if values > LARGEST else -(-values // IMAGES_AT_ONCE)


def curvature(
    problem: Problem, at: Float[Tensor, " dims"], shown: Callable[[int], None]
) -> Scaling:
    """The scaling by the Gauss-Newton curvature I + JᵀJ of −log p(ε | y) at these latents.

    Args:
        problem: of at most `LARGEST` observed values; none at all if there are more.
        at: most probable latents, say.
        shown: called with how many of `batches` are done.

    Raises:
        InputError: a gradient is not finite there.

    Source: Martin et al. 2012, "A stochastic Newton MCMC method for large-scale statistical
    inverse problems".
    """
    count = batches(problem)
    if not count:
        return Scaling(at, at.new_zeros(len(at), 0), at.new_zeros(0), at.new_zeros(0))
    rows = []
    for index, some in enumerate(
        torch.split(torch.arange(problem.observed.numel()), IMAGES_AT_ONCE)
    ):
        with torch.enable_grad():
            copies = at.expand(len(some), -1).clone().requires_grad_()
            values = (problem.made(copies) / problem.noise).flatten(1)
            picked = values.gather(1, some.to(values.device)[:, None]).sum()
            rows.append(torch.autograd.grad(picked, copies)[0])
        shown(index + 1)
    J = torch.cat(rows).double()
    squared = J @ J.T if len(J) <= J.shape[1] else J.T @ J
    if not bool(torch.isfinite(squared).all()):
        raise InputError(
            "The gradient of what is observed is not finite at the most probable latents: the "
            "operator or the prior's inverse has none there; give an operator that is smooth, a "
            "larger noise, or a model trained with --coupling-scale bounded."
        )
    eigenvalues, vectors = torch.linalg.eigh(squared)
    kept = eigenvalues > LEAST
    V, squares = vectors[:, kept], eigenvalues[kept]
    if len(J) <= J.shape[1]:
        V = J.T @ V / squares.sqrt()
    scale = (1 + squares).sqrt()
    return Scaling(at, V.to(at), (1 / scale - 1).to(at), (scale - 1).to(at))
