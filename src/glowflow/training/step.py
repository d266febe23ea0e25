"""One step of the optimiser."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from accelerate import Accelerator
from torch import Tensor, nn

from ..bijections.batchnorm import BatchNorm
from ..models.flow import ImageFlow
from ..processes import (
    mean_over_processes,
    on_every_process,
    process_count,
    sum_over_processes,
)
from .diagnosis import find_nonfinite, find_nonfinite_gradient
from .state import TrainingState


@dataclass(frozen=True)
class TrainingStep:
    """A step on one batch; no weight is changed if a value is not finite."""

    accelerator: Accelerator
    objective: nn.Module
    """`Objective`, as the accelerator has prepared it."""
    accumulate: int
    """Parts of this process's share, computed one after another."""
    clip: float
    """Largest norm of the gradient."""

    def __call__(
        self, state: TrainingState, x: Tensor, labels: Tensor | None, rate: float
    ) -> tuple[float, float]:
        """Move the weights and their average.

        Args:
            state: is one step further afterwards.
            x: this process's share of the batch.
            labels: of a class-conditional model.
            rate: learning rate.

        Returns:
            Bits/dim of the whole batch, and the gradient's norm before it is clipped.

        Raises:
            TrainingError: the loss or the gradient is not finite; the message names where.
        """
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.zero_grad()
        bits = self._compute_gradient(state, x, labels)
        norm = float(nn.utils.clip_grad_norm_(state.model.parameters(), self.clip))
        if not math.isfinite(norm):
            _stop(state, lambda: find_nonfinite_gradient(state.model) or "the gradient's norm")
        state.optimizer.step()
        _average_statistics(state.model)
        if state.average is not None:
            state.average.update_parameters(state.model)
        state.step += 1
        state.images += state.run.batch_size
        return bits, norm

    def _compute_gradient(self, state: TrainingState, x: Tensor, labels: Tensor | None) -> float:
        """Add up the gradients of the parts; all processes meet in the last one's backward pass."""
        bits, parts = 0.0, self.accumulate
        for part in range(parts):
            some = x[part::parts]
            their_labels = None if labels is None else labels[part::parts]
            last = part == parts - 1
            with nullcontext() if last else self.accelerator.no_sync(self.objective):
                loss, bits_of_part = self.objective(some, their_labels)
                bits += float(bits_of_part.detach()) / parts
                if last or not math.isfinite(bits):
                    break
                self.accelerator.backward(loss / parts)
        bits = mean_over_processes(bits)
        if not math.isfinite(bits):
            forward = partial(state.model, some, their_labels)
            _stop(state, lambda: find_nonfinite(state.model, forward))
            _stop(state, lambda: "the log-likelihood")
        self.accelerator.backward(loss / parts)
        return bits


def _stop(state: TrainingState, find: Callable[[], str | None]) -> None:
    """Stop every process, if one of them finds the place."""

    def stop() -> None:
        if (where := find()) is not None:
            raise state.not_finite(where)

    on_every_process(stop)


def _average_statistics(model: ImageFlow) -> None:
    """Give every process the mean of the running statistics of batch normalisations."""
    if process_count() > 1:
        for module in model.modules():
            if isinstance(module, BatchNorm):
                for statistic in (module.mean, module.var):
                    statistic.copy_(sum_over_processes(statistic) / process_count())
