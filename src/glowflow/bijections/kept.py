"""What eval mode computes once from the weights, and keeps until one of them changes."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Value = TypeVar("Value")


class Kept(nn.Module):
    """A module that keeps what it computes from weights, in eval mode without gradients.

    A kept value is dropped when a weight changes: an optimiser step, a loaded state, another
    device or dtype. A write through `.data` is not seen by PyTorch and needs a call of `train()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[Hashable, tuple[object, Any]] = {}

    def kept(
        self, name: Hashable, compute: Callable[[], Value], weights: Callable[[], Iterable[Tensor]]
    ) -> Value:
        """`compute()`, or what it gave when the weights were these."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return compute()
        tensors = list(weights())
        if any(w.is_inference() for w in tensors):
            return compute()
        version = [(w.data_ptr(), w._version, w.dtype) for w in tensors]
        found = self._values.get(name)
        if found is None or found[0] != version:
            found = self._values[name] = (version, compute())
        value: Value = found[1]
        return value

    def train(self, mode: bool = True) -> "Kept":
        """Switch between training and evaluation, and forget what was kept."""
        self._values.clear()
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**state, "_values": {}}


def own_weights(*modules: nn.Module) -> list[Tensor]:
    """Parameters and buffers of these modules themselves, faster than `parameters()` finds them."""
    return [
        weight
        for module in modules
        for weights in (module._parameters, module._buffers)
        for weight in weights.values()
        if weight is not None
    ]
