"""Inverse problems with a trained prior: what a field was, given what was observed of it."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..data.extras import extra
from ..errors import InputError
from ..models.flow import ImageFlow
from ..progress import bar_with_time_left
from .curvature import batches, curvature
from .hmc import hmc
from .operators import Operator

MOST_RHAT = 1.05
LEAST_ESS = 100.0
MAP_STEPS = 300


def prior_of(model: ImageFlow) -> ImageFlow:
    """A copy in eval mode whose weights have no gradients, or the model, if it is as much."""
    if not model.training and not any(weight.requires_grad for weight in model.parameters()):
        return model
    return copy.deepcopy(model).eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Problem:
    """y = A(x) + σn, n ~ N(0, 1), with x from a flow.

    log p(ε | y) = log N(ε; 0, I) − ½‖y − A(x(ε))‖²/σ² up to a constant, in nats, over the whitened
    latents ε of all levels.

    Args:
        model: the prior, as `prior_of` gives it.
        operator: A.
        observed: (*data) y, in the model's units: −½ … ½ for images.
        noise: σ in the same units; a number, or of the shape of the data.
        labels: (1,) the class, for a class-conditional model.

    Raises:
        InputError: A gives another shape than the data's, or σ is not positive.
    """

    model: ImageFlow
    operator: Operator
    observed: Tensor
    noise: float | Tensor
    labels: Tensor | None = None
    sizes: list[int] = field(init=False)

    def __post_init__(self) -> None:
        model = prior_of(self.model)
        object.__setattr__(self, "model", model)
        observed = self.observed.to(model.device, model.dtype)
        object.__setattr__(self, "observed", observed)
        noise = torch.as_tensor(self.noise, dtype=model.dtype, device=model.device)
        if not bool((noise > 0).all()) or not bool(torch.isfinite(noise).all()):
            raise InputError("The noise must be finite and above 0 everywhere.")
        object.__setattr__(self, "noise", noise)
        object.__setattr__(self, "sizes", [math.prod(shape) for shape in model.latent_shapes])
        if not bool(torch.isfinite(observed).all()):
            raise InputError("What was observed has values that are not finite: mask them.")
        with torch.no_grad():
            made = self._apply(torch.zeros(1, *model.config.image_shape).to(observed))
        if made.shape[1:] != observed.shape:
            raise InputError(
                f"The operator makes {tuple(made.shape[1:])} of a field and "
                f"{tuple(observed.shape)} was observed: they must be of one shape."
            )

    @property
    def dims(self) -> int:
        """Latent values."""
        return sum(self.sizes)

    def field(self, flat: Float[Tensor, "chains dims"]) -> Float[Tensor, "chains c h w"]:
        """x of latents as rows."""
        rows = torch.split(flat, self.sizes, dim=1)
        latents = tuple(
            eps.reshape(-1, *shape)
            for eps, shape in zip(rows, self.model.latent_shapes, strict=True)
        )
        labels = None if self.labels is None else self.labels.to(flat.device).expand(len(flat))
        return self.model.inverse(latents, labels)[0]

    def made(self, flat: Float[Tensor, "chains dims"]) -> Float[Tensor, "chains *data"]:
        """A(x) of latents as rows."""
        return self._apply(self.field(flat))

    def log_posterior(self, flat: Float[Tensor, "chains dims"]) -> Float[Tensor, " chains"]:
        """Up to a constant, in nats; −∞ where the field is not finite."""
        misfit = (self.observed - self.made(flat)) / self.noise
        value = -0.5 * (flat**2).sum(dim=1) - 0.5 * (misfit**2).flatten(1).sum(dim=1)
        return value.nan_to_num(nan=-math.inf, neginf=-math.inf)

    def _apply(self, x: Tensor) -> Tensor:
        made = self.operator(x)
        if not isinstance(made, Tensor) or made.shape[:1] != x.shape[:1]:
            raise InputError("The operator must make a tensor of a batch of fields, one a field.")
        return made


@dataclass(frozen=True)
class Solution:
    """Draws of the posterior of one observation, and whether they can be believed."""

    best: Float[Tensor, "c h w"]
    """The field at the most probable latents that were found (MAP in latent space)."""
    samples: Float[Tensor, "chains draws c h w"]
    log_posterior: Float[Tensor, "chains draws"]
    rhat: NDArray[np.float64]
    """(c, h, w) rank-normalised split R̂ of each value."""
    ess: NDArray[np.float64]
    """(c, h, w) bulk effective sample size of each value, of all chains together."""
    acceptance: float
    divergences: int
    step_size: float

    @property
    def mean(self) -> Float[Tensor, "c h w"]:
        """Of the posterior."""
        return self.samples.flatten(0, 1).mean(dim=0)

    @property
    def std(self) -> Float[Tensor, "c h w"]:
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
        InputError: there are fewer than two chains or ten draws, the density is not finite where
            the chains begin, or ArviZ is not installed.
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
    """Adam on −log p(ε | y), its rate falling to zero, from every start."""
    flat = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([flat], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, MAP_STEPS)
    for step in range(MAP_STEPS):
        with torch.enable_grad():
            loss = -problem.log_posterior(flat).sum()
            (flat.grad,) = torch.autograd.grad(loss, flat)
        optimizer.step()
        schedule.step()
        shown(step + 1, f"log posterior {-float(loss.detach()) / len(flat):,.0f}")
    return flat.detach()
