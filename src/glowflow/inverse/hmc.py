"""Hamiltonian Monte Carlo, several chains in one batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LogDensity = Callable[[Float[Tensor, "chains dims"]], Float[Tensor, " chains"]]
TARGET = 0.8
"""Share of proposals to accept, on average."""
DIVERGENT = 1000.0
"""Error of the energy above which a trajectory has left the density."""


@dataclass(frozen=True)
class Chains:
    """What chains have drawn after their warm-up."""

    draws: Float[Tensor, "chains draws dims"]
    log_density: Float[Tensor, "chains draws"]
    acceptance: Float[Tensor, " chains"]
    """Mean probability of acceptance of each."""
    divergences: int
    """Trajectories of all chains that ended far from where energy is kept."""
    step_size: float
    """Geometric mean over the chains."""


class StepSize:
    """Dual averaging of log ε towards the wanted acceptance (Hoffman & Gelman 2014, 3.2)."""

    def __init__(self, start: Float[Tensor, " chains"]) -> None:
        self.restart(start)

    def restart(self, start: Float[Tensor, " chains"]) -> None:
        """Begin again at this step size."""
        self.log = start.log()
        self.anchor = self.log + math.log(10.0)
        self.averaged = torch.zeros_like(self.log)
        self.error = torch.zeros_like(self.log)
        self.count = 0

    def update(self, acceptance: Float[Tensor, " chains"]) -> None:
        """Take one proposal's probability of acceptance into account."""
        self.count += 1
        weight = 1 / (self.count + 10)
        self.error = (1 - weight) * self.error + weight * (TARGET - acceptance)
        self.log = self.anchor - math.sqrt(self.count) / 0.05 * self.error
        decay = self.count**-0.75
        self.averaged = decay * self.log + (1 - decay) * self.averaged


def hmc(
    log_density: LogDensity,
    start: Float[Tensor, "chains dims"],
    *,
    draws: int,
    warmup: int,
    most_steps: int = 32,
    generator: torch.Generator,
    shown: Callable[[int, str], None] | None = None,
) -> Chains:
    """Draw from exp(log_density): momenta p ~ N(0, M), leapfrog steps of H = −log π + pᵀM⁻¹p/2,
    accepted with probability min(1, exp(H₀ − H₁)).

    M⁻¹ is diagonal: the variances of the draws of all chains, adapted in windows of the warm-up
    that double in length. Each chain has its own step size. A trajectory is about 3/2 long in the
    adapted metric, a quarter of a normal distribution's orbit, give or take a half.

    Args:
        log_density: of a batch of chains, up to a constant, in nats.
        start: where each chain begins.
        draws: of each chain, after the warm-up.
        warmup: iterations that adapt and are thrown away.
        most_steps: leapfrog steps of a trajectory, at most.
        generator: of all that is random, on the chains' device.
        shown: called with the iterations done and the acceptance in words.

    Source: Neal 2011, "MCMC using Hamiltonian dynamics"; Hoffman and Gelman 2014, "The No-U-Turn
    Sampler", for the adaptation.
    """
    x = start.detach().clone()
    chains, dims = x.shape
    value, slope = _with_gradient(log_density, x)
    inverse_mass = torch.ones(dims, dtype=x.dtype, device=x.device)
    size = StepSize(x.new_full((chains,), 0.1))
    windows, moments = _windows(warmup), _Moments(x)
    kept, densities = x.new_empty(chains, draws, dims), x.new_empty(chains, draws)
    accepted, divergences = x.new_zeros(chains), 0
    for iteration in range(warmup + draws):
        adapting = iteration < warmup
        step = (size.log if adapting else size.averaged).exp()
        jitter = 0.5 + float(torch.rand((), generator=generator, device=x.device))
        count = max(1, min(most_steps, round(jitter * 1.5 / float(step.median()))))
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        momentum = noise / inverse_mass.sqrt()
        new, new_value, new_slope, end = _leapfrog(
            log_density, x, slope, momentum, step[:, None], inverse_mass, count
        )
        change = (
            new_value - value + 0.5 * (inverse_mass * (momentum**2 - end**2)).sum(dim=1)
        ).nan_to_num(nan=-math.inf)
        acceptance = change.clamp(max=0).exp()
        uniform = torch.rand(chains, generator=generator, dtype=x.dtype, device=x.device)
        taken = uniform < acceptance
        x = torch.where(taken[:, None], new, x)
        slope = torch.where(taken[:, None], new_slope, slope)
        value = torch.where(taken, new_value, value)
        if adapting:
            size.update(acceptance)
            moments.add(x)
            if iteration in windows:
                inverse_mass = moments.variance()
                moments = _Moments(x)
                size.restart(size.averaged.exp())
        else:
            kept[:, iteration - warmup], densities[:, iteration - warmup] = x, value
            accepted += acceptance
            divergences += int((change < -DIVERGENT).sum())
        if shown is not None:
            shown(iteration + 1, f"acceptance {float(acceptance.mean()):.2f}")
    return Chains(kept, densities, accepted / draws, divergences, float(size.averaged.mean().exp()))


def _leapfrog(
    log_density: LogDensity,
    x: Tensor,
    slope: Tensor,
    momentum: Tensor,
    step: Tensor,
    inverse_mass: Tensor,
    count: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where a trajectory ends, its log-density and gradient there, and its momentum."""
    momentum = momentum + 0.5 * step * slope
    for index in range(count):
        x = x + step * inverse_mass * momentum
        value, slope = _with_gradient(log_density, x)
        momentum = momentum + (step if index < count - 1 else 0.5 * step) * slope
    return x, value, slope, momentum


def _with_gradient(log_density: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = log_density(x)
        (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


def _windows(warmup: int) -> set[int]:
    """Iterations after which the metric is set anew: the last tenth adapts the step size alone."""
    ends, length, end = set(), max(20, warmup // 16), warmup // 10
    last = warmup - max(10, warmup // 10)
    while end + length < last:
        end += length
        length *= 2
        if end + length >= last:
            end = last
        ends.add(end)
    return ends


class _Moments:
    """Variances of the chains' draws, drawn towards 1 where these are few."""

    def __init__(self, x: Tensor) -> None:
        self.count, self.dtype = 0, x.dtype
        self.sum = torch.zeros_like(x, dtype=torch.float64)
        self.squares = torch.zeros_like(self.sum)

    def add(self, x: Tensor) -> None:
        self.count += 1
        self.sum += x
        self.squares += x.double() ** 2

    def variance(self) -> Tensor:
        """Of all chains together about each one's mean, so that chains apart do not widen it."""
        within = (self.squares / self.count - (self.sum / self.count) ** 2).mean(dim=0)
        n = self.count * len(self.sum)
        return ((n * within + 5.0) / (n + 5.0)).clamp(min=1e-8).to(self.dtype)
