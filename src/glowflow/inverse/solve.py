"""Inverse problems with a trained prior: what a field was, given what was observed of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..data.extras import extra
from ..errors import InputError
from ..progress import bar_with_time_left
from .curvature import batches, curvature
from .hmc import hmc
from .problem import Problem

MOST_RHAT = 1.05
LEAST_ESS = 100.0
MAP_STEPS = 300
FIRST_NOISE = 10.0
"""Where the way uphill begins: times what the field of ε = 0 misses the observation by."""
ANNEALED = 2 / 3
"""Of the steps, after which the noise is the observation's."""


@dataclass(frozen=True)
class Solution:
    """Draws of the posterior of one observation, and whether they can be believed."""

    best: Float[Tensor, " c *grid"]
    """The field at the most probable latents that were found (MAP in latent space)."""
    samples: Float[Tensor, "chains draws c *grid"]
    log_posterior: Float[Tensor, "chains draws"]
    rhat: NDArray[np.float64]
    """(c, *grid) rank-normalised split R̂ of each value."""
    ess: NDArray[np.float64]
    """(c, *grid) bulk effective sample size of each value, of all chains together."""
    acceptance: float
    divergences: int
    step_size: float

    @property
    def mean(self) -> Float[Tensor, " c *grid"]:
        """Of the posterior."""
        return self.samples.flatten(0, 1).mean(dim=0)

    @property
    def std(self) -> Float[Tensor, " c *grid"]:
        """Of the posterior, of each value."""
        return self.samples.flatten(0, 1).std(dim=0)

    @property
    def why_not_converged(self) -> str:
        """What is wrong with the chains, in a clause; empty if nothing is."""
        reasons = []
        if not self.rhat.max() <= MOST_RHAT:
            reasons.append(f"R-hat is up to {self.rhat.max():.3f} (at most {MOST_RHAT:g})")
        if not self.ess.min() >= LEAST_ESS:
            reasons.append(f"some values have {self.ess.min():.0f} effective draws (at least "
                           f"{LEAST_ESS:.0f})")  # fmt: skip
        if self.divergences:
            reasons.append(f"{self.divergences} trajectories diverged")
        return "; ".join(reasons)


def solve(
    problem: Problem,
    *,
    chains: int = 4,
    draws: int = 500,
    warmup: int = 500,
    keep: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Solution:
    """The most probable latents by Adam from several draws of the prior, then chains from these,
    scaled by the posterior's curvature at the best of them (`curvature`).

    On the way uphill the noise falls to the observation's: with much noise the posterior has the
    one hill of the prior, which all chains climb and then follow.

    Args:
        problem: what was observed, and of what prior.
        chains: begun at different draws of the prior, and moved uphill before they are let go, so
            that a posterior with several hills shows in R̂.
        draws: of each chain.
        warmup: iterations that adapt and are thrown away.
        keep: draws of each chain whose fields are kept, evenly spread; by default all.
        seed: the same gives the same draws, on one kind of device.
        progress: show a bar.

    Raises:
        InputError: there are fewer than two chains or ten draws, the density or a gradient of it
            is not finite where the chains begin, or ArviZ is not installed.
    """
    if chains < 2 or draws < 10 or warmup < 50:
        raise InputError(
            f"There are {chains} chains of {draws} draws after {warmup}: give 2 chains, 10 draws "
            "and a warm-up of 50 at least."
        )
    stats = extra("arviz_stats.base", "science", "Solving needs").array_stats
    generator = torch.Generator(problem.observed.device).manual_seed(seed % 2**63)
    start = torch.randn(
        chains, problem.dims, generator=generator,
        dtype=problem.observed.dtype, device=problem.observed.device,
    )  # fmt: skip
    rows = batches(problem)
    total = MAP_STEPS + rows + warmup + draws
    with problem.model.frozen(), bar_with_time_left("solving", total, visible=progress) as show:
        found = _uphill(problem, start, lambda done, words: show(done, "uphill", words))
        with torch.no_grad():
            heights = problem.log_posterior(found)
        if not bool(torch.isfinite(heights).all()):
            raise InputError(
                "The posterior is not finite where the chains begin: the prior's inverse "
                "overflows; give a larger noise, or a model trained with --coupling-scale bounded."
            )
        begun = found + 0.1 * torch.randn(
            found.shape, generator=generator, dtype=found.dtype, device=found.device
        )
        best = found[heights.argmax()]
        scaling = curvature(
            problem, best, lambda done: show(MAP_STEPS + done, "curvature", f"{done} of {rows}")
        )
        made = hmc(
            lambda u: problem.log_posterior(scaling.latents(u)),
            scaling.scaled(begun),
            draws=draws,
            warmup=warmup,
            generator=generator,
            shown=lambda done, words: show(MAP_STEPS + rows + done, "chains", words),
        )
        kept = torch.linspace(0, draws - 1, min(keep or draws, draws)).round().long()
        with torch.no_grad():
            highest = problem.field(best[None])[0].cpu()
            fields = torch.stack(
                [problem.field(scaling.latents(made.draws[:, k])).cpu() for k in kept], dim=1
            )
    as_array = fields.double().numpy()
    return Solution(
        best=highest,
        samples=fields,
        log_posterior=made.log_density.cpu(),
        rhat=_of_values(stats.rhat, as_array),
        ess=_of_values(stats.ess, as_array),
        acceptance=float(made.acceptance.mean()),
        divergences=made.divergences,
        step_size=made.step_size,
    )


def _of_values(measure: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """R̂ or ESS of each value; values that do not move in any chain have no say."""
    found = np.asarray(measure(values, chain_axis=0, draw_axis=1), dtype=np.float64)
    still = np.ptp(values, axis=(0, 1)) <= 1e-12 * (1 + np.abs(values).max(axis=(0, 1)))
    neutral = 1.0 if measure.__name__ == "rhat" else float(values.shape[0] * values.shape[1])
    return np.where(still, neutral, found)


def _uphill(problem: Problem, start: Tensor, shown: Any) -> Tensor:
    """Adam on −log p(ε | y), its rate falling to zero and its noise to the observation's, from
    every start (graduated non-convexity: Blake & Zisserman 1987, "Visual Reconstruction")."""
    with torch.no_grad():
        misfit = (problem.observed - problem.made(torch.zeros_like(start[:1]))) / problem.noise
        first = FIRST_NOISE * max(1.0, float(misfit.square().mean().sqrt().nan_to_num(1.0)))
    flat = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([flat], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, MAP_STEPS)
    for step in range(MAP_STEPS):
        annealed = first ** max(0.0, 1 - step / (ANNEALED * MAP_STEPS))
        with torch.enable_grad():
            loss = -problem.log_posterior(flat, annealed).sum()
            (flat.grad,) = torch.autograd.grad(loss, flat)
        optimizer.step()
        schedule.step()
        shown(step + 1, f"log posterior {-float(loss.detach()) / len(flat):,.0f}")
    return flat.detach()
