"""A backward pass that computes each step's input from its output instead of keeping it.

Of a chain of steps only the input and the output are kept. Going back, each step is inverted, and
its network is run once, with gradients: that run serves the inversion and the gradient. Memory is
that of one step, whatever the depth; the price is one more forward pass of the networks, a fourth
beside one forward and two backward (Gomez et al. 2017, "The Reversible Residual Network").
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..bijections import AdditiveCoupling, AffineCoupling, Coupling, FlowStep
from ..bijections.base import from_rows, per_sample, to_rows, without_autocast
from ..bijections.coupling import halves
from ..bijections.exact import has_hooks, is_batched, kind_of
from ..bijections.kept import thawed
from ..bijections.linear import mix, precise
from ..errors import InputError, TrainingError
from ..nn.coupling_network import ConditionalCouplingNetwork, CouplingNetwork

COUPLINGS = (AdditiveCoupling, AffineCoupling)
"""Whose input can be recovered from their output and one run of their network."""
NETWORKS = (CouplingNetwork, ConditionalCouplingNetwork)
DRIFT_LIMIT = {
    torch.float64: 1e-6,
    torch.float32: 1e-2,
    torch.bfloat16: 3e-2,
    torch.float16: 3e-2,
}
"""Largest drift that spoils no gradient, by what the networks compute in."""


class DriftGuard:
    """Compares the input that the backward pass recovers with the true one, at intervals.

    drift = max|recovered − true| / range, of which the range is the larger of max|true| and what
    the first step's shift moves the input by: an input of zeros has rounding errors of that size.
    Reading it waits for the device, so it is read at the first backward pass and then at every
    `every`-th. Of inputs that are not finite nothing is asked.

    Args:
        every: backward passes between two readings.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.passes = 0
        self.drift = 0.0
        """The newest reading."""

    def __call__(
        self, recovered: Tensor, true: Tensor, limit: float, shift: Tensor | None = None
    ) -> None:
        """Compare, if it is time to.

        Args:
            recovered: the input as it was recovered.
            true: as it was.
            limit: the largest drift.
            shift: of the first step, in units of the input, (channels,).

        Raises:
            TrainingError: the drift is above `limit`.
        """
        if not true.numel():
            return
        self.passes += 1
        if (self.passes - 1) % self.every or torch._C._len_torch_dispatch_stack():
            return
        extent = true.abs().max()
        if shift is not None:
            extent = torch.maximum(extent, shift.abs().max())
        drift = float((recovered - true).abs().max() / extent.clamp(min=1e-12))
        if not math.isfinite(drift) and not bool(torch.isfinite(true).all()):
            return
        self.drift = drift
        if not self.drift <= limit:
            raise TrainingError(
                f"The input of the {true.shape[1]}-channel steps, recovered from their output, is "
                f"off by {self.drift:.1e} of its range (limit {limit:.0e}), which would spoil the "
                "gradients: train with --memory stored, or with --coupling-scale bounded."
            )


def why_not_reversible(steps: list[FlowStep]) -> str | None:
    """What these steps have whose input cannot be recovered; None if there is nothing.

    A network that is run twice must do the same twice, which is known of this package's own.
    """
    for step in steps:
        coupling: Any = step.coupling
        if type(coupling) not in COUPLINGS or "forward" in coupling.__dict__:
            return f"a coupling of class {kind_of(coupling).__name__}"
        if has_hooks(coupling):
            return "couplings with hooks"
        network: Any = coupling.network
        if type(network) not in NETWORKS or "forward" in network.__dict__:
            return f"a coupling network of class {kind_of(network).__name__}"
        if has_hooks(network) or not network.has_exact_layers():
            return "coupling networks with hooks or other layers"
        if not all(map(_has_own_weights, (network.first, network.second, network.last))):
            return "coupling networks whose weights are not their parameters"
    return None


def _has_own_weights(layer: torch.nn.Module) -> bool:
    """Whether its weights are its parameters, and not computed from others (replicas have none)."""
    weights = ("weight", "edge", "context_weight", "b", "logs")
    return all(w in layer._parameters or getattr(layer, w, None) is None for w in weights)


def forward_without_activations(
    steps: list[FlowStep],
    x: Float[Tensor, "batch channels *grid"],
    A: tuple[Float[Tensor, "channels channels"], ...],
    c: tuple[Float[Tensor, " channels"], ...],
    guard: DriftGuard,
    context: Tensor | None = None,
) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
    """coupling(A x + c) for each step, and the couplings' log-determinant in nats.

    Only the input, the output, the context and the weights are kept for the backward pass, by
    autograd, which refuses a backward pass after one of them was changed.

    Args:
        steps: of which `why_not_reversible` says nothing.
        x: the first step's input.
        A: matrix of each step's linear map.
        c: shift of each step's linear map.
        guard: compares x with what is recovered of it.
        context: what all couplings are conditioned on; its gradient is the sum of theirs.
    """
    network: Any = steps[0].coupling.network
    way_back = _WayBack(len(steps), guard, DRIFT_LIMIT[network.compute_dtype or x.dtype])
    if not isinstance(network, ConditionalCouplingNetwork):
        context = None  # labels, which these networks do not ask for
    total = per_sample(0.0, x)
    for index, (step, A_k, c_k) in enumerate(zip(steps, A, c, strict=True)):
        coupling: Any = step.coupling
        weights = dict(coupling.network.named_parameters())
        x, by_coupling = _Step.apply(  # type: ignore[no-untyped-call]
            way_back, index, coupling, tuple(weights), x, A_k, c_k, context, *weights.values()
        )
        total = total + by_coupling
    return x, total


class _WayBack:
    """How far a backward pass has come along the chain: what one step leaves for the one before.

    A pass starts at the last step, whatever passes were made or broken off before it.
    """

    def __init__(self, steps: int, guard: DriftGuard, limit: float) -> None:
        self.steps, self.guard, self.limit = steps, guard, limit
        self._next = -1
        self._y: Tensor | None = None
        self._gradients: Tensor | None = None

    def start(self, y: Tensor) -> None:
        """Begin a pass at the last step's output."""
        self._next, self._y, self._gradients = self.steps - 1, y, None

    def output(self, index: int) -> Tensor:
        """The output of this step."""
        if index != self._next or self._y is None:
            raise InputError(
                "memory='reversible' goes back through a graph once at a time: wait for the other "
                "backward pass, or call model.use(memory='stored') before the forward pass."
            )
        return self._y

    def gradients(self, A: Tensor) -> tuple[Tensor, Tensor]:
        """Where the gradients of the A and the c of the step that is inverted next go.

        They outlive the step. Allocated one by one between what does not, they would keep the
        memory round them from being used again, so that it would grow with the steps.
        """
        if self._gradients is None:
            self._gradients = A.new_empty(self.steps, len(A), len(A) + 1)
        of_step = self._gradients[self._next]
        return of_step[:, :-1], of_step[:, -1]

    def back(self, x: Tensor) -> None:
        """Leave a step's input, which is the output of the one before."""
        self._next -= 1
        self._y = x if self._next >= 0 else None


class _Step(torch.autograd.Function):
    """y = coupling(A x + c) and its log-determinant; nothing of a step but its weights is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        way_back: _WayBack,
        index: int,
        coupling: Coupling,
        names: tuple[str, ...],
        x: Tensor,
        A: Tensor,
        c: Tensor,
        context: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        with thawed(coupling):  # gradients are wanted, although autograd has turned them off here
            y, log_det = coupling(mix(x, A, c), context)
        ctx.way_back, ctx.index, ctx.coupling, ctx.names = way_back, index, coupling, names
        ctx.network = _as_it_is(coupling.network)
        first, last = index == 0, index == way_back.steps - 1
        ends = ((x,) if first else ()) + ((y,) if last else ())
        ctx.save_for_backward(A, c, context, *weights, *ends)
        return y, log_det

    @staticmethod
    @without_autocast
    def backward(ctx: Any, grad_y: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise InputError(
                "memory='reversible' has no second derivatives: call model.use(memory='stored') "
                "before the forward pass."
            )
        if is_batched(grad_y) or is_batched(grad_log_det):
            raise InputError(
                "memory='reversible' goes back with one gradient at a time: call "
                "model.use(memory='stored') before the forward pass."
            )
        # Once: saved-tensor hooks may answer a single time.
        A, c, context, *saved = ctx.saved_tensors
        weights, ends = saved[: len(ctx.names)], saved[len(ctx.names) :]
        way_back: _WayBack = ctx.way_back
        if ctx.index == way_back.steps - 1:
            way_back.start(ends[-1].detach())
        needs_A, needs_c, needs_context, *needs_weights = ctx.needs_input_grad[5:]
        own = [w.detach().requires_grad_(n) for w, n in zip(weights, needs_weights, strict=True)]
        _set_weights(ctx.network, dict(zip(ctx.names, own, strict=True)))
        if context is not None:
            context = context.detach().requires_grad_(needs_context)
        run = _run_again(ctx.coupling, ctx.network, way_back.output(ctx.index), context)
        kept = run.x1.shape[1]
        outputs, gradients = [run.y2], [grad_y[:, kept:]]
        if run.log_det.requires_grad:
            outputs.append(run.log_det)
            gradients.append(grad_log_det)
        wanted = [w for w in (context, *own) if w is not None and w.requires_grad]
        grad_1, grad_2, *by_wanted = torch.autograd.grad(
            outputs, (run.x1, run.x2, *wanted), gradients, allow_unused=True
        )
        by_weight = iter(by_wanted)
        grad_context = next(by_weight) if needs_context else None
        with torch.no_grad():
            mixed = to_rows(torch.cat((run.x1, run.x2), dim=1))
            grad = to_rows(torch.cat((grad_y[:, :kept] + grad_1, grad_2), dim=1))
            A_inverse = torch.linalg.inv_ex(precise(A)).inverse.to(A)
            x = (mixed - c) @ A_inverse.T
            grad_A: Tensor | None = None
            grad_c: Tensor | None = None
            if needs_A or needs_c:
                rows = grad.reshape(-1, grad.shape[-1])
                grad_A, grad_c = way_back.gradients(A)
                torch.mm(rows.T, x.reshape(rows.shape), out=grad_A)
                torch.sum(rows, 0, out=grad_c)
            grad_x = from_rows(grad @ A)
            x = from_rows(x)
            if ctx.index == 0:
                way_back.guard(x, ends[0], way_back.limit, A_inverse @ c)
            way_back.back(x)
        of_weights = (next(by_weight) if w.requires_grad else None for w in own)
        return None, None, None, None, grad_x, grad_A, grad_c, grad_context, *of_weights


class _Run(NamedTuple):
    """A coupling's input, recovered from its output, and the graph from one to the other."""

    x1: Tensor
    x2: Tensor
    y2: Tensor
    log_det: Tensor


def _as_it_is(network: torch.nn.Module) -> torch.nn.Module:
    """The network as it is now, but for its weights: what is changed later, or by another thread,
    does not reach it."""
    twin = object.__new__(type(network))
    own = {n: dict(v) if isinstance(v, dict) else v for n, v in network.__dict__.items()}
    own["_parameters"] = dict.fromkeys(own["_parameters"])
    own["_modules"] = {n: m and _as_it_is(m) for n, m in own["_modules"].items()}
    own.pop("_values", None)
    twin.__dict__.update(own)
    return twin


def _set_weights(network: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Give a network of `_as_it_is` these weights."""
    for name, weight in weights.items():
        place, _, own = name.rpartition(".")
        network.get_submodule(place)._parameters[own] = weight  # type: ignore[assignment]


def _run_again(
    coupling: Coupling, network: torch.nn.Module, y: Tensor, context: Tensor | None
) -> _Run:
    """Run a coupling from the input that is recovered, with a single run of its network.

    The weights are those of the forward pass, detached, so that hooks on parameters fire once.
    """
    y1, y2 = halves(y)
    with torch.enable_grad():
        x1 = y1.detach().requires_grad_()
        h = network(x1) if context is None else network(x1, context)
        x2 = coupling.restore(y2, h.detach())[0].detach().requires_grad_()
        return _Run(x1, x2, *coupling.change(x2, h))
