"""Muon for the weights of the networks, Adamax for all else."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn


class MuonAdamax(torch.optim.Optimizer):
    """W ← W − 0.2 η √max(m, n) · U Vᵀ for a matrix W (m, n) whose momentum is U S Vᵀ, so that the
    update's values have the root mean square 0.2 η; Adamax for all that is no matrix.

    A kernel (out, in, *window) is the matrix (out, in · window). Biases, scales, what stands for
    the edge of an image, and the factors of 1x1 convolutions are no matrices. The singular vectors
    are those of five Newton-Schulz steps in bfloat16: `torch.optim.Muon`, without weight decay.

    Args:
        named: names and parameters, in the model's order, as `named_parameters` gives them; those
            called `weight` are matrices.
        lr: η of both.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the
    scale: Liu et al. 2025, "Muon is scalable for LLM training".
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], lr: float) -> None:
        weights = list(named)
        matrices = [
            index
            for index, (name, weight) in enumerate(weights)
            if weight.dim() >= 2 and name.rpartition(".")[2] == "weight"
        ]
        group = {"params": [weight for _, weight in weights], "matrices": matrices}
        super().__init__([group], {"lr": lr})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all parameters that have gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            chosen = set(group["matrices"])
            moved = [(i, w) for i, w in enumerate(group["params"]) if w.grad is not None]
            matrices = [weight for index, weight in moved if index in chosen]
            others = [weight for index, weight in moved if index not in chosen]
            if matrices:
                by_view = {_as_matrix(weight): weight for weight in matrices}
                self._step_of(
                    torch.optim.Muon(
                        by_view, lr=group["lr"], weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
                    ),
                    by_view,
                )
            if others:
                self._step_of(
                    torch.optim.Adamax(others, lr=group["lr"], foreach=True),
                    {weight: weight for weight in others},
                )
        return loss

    def _step_of(self, optimizer: torch.optim.Optimizer, weights: dict[Tensor, Tensor]) -> None:
        """One step of an optimiser whose state is kept here, under the model's own parameters."""
        for view, weight in weights.items():
            optimizer.state[view] = self.state[weight]
        optimizer.step()


def _as_matrix(weight: Tensor) -> Tensor:
    """The same memory as (out, in · window), with its gradient."""
    view: Any = nn.Parameter(weight.detach().view(len(weight), -1))
    view.grad = None if weight.grad is None else weight.grad.reshape(len(weight), -1)
    return view
