"""Values computed from weights, kept while a model is frozen and at no other time."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..errors import InputError
from .exact import is_transformed

Value = TypeVar("Value")


class Kept(nn.Module):
    """A module that computes matrices from weights, and keeps them inside `frozen`.

    Outside of `frozen` nothing is kept from one call to the next, so that nothing can be stale.
    """

    _values: dict[Hashable, tuple[list[tuple[Tensor, int]], Any]] | None = None

    def kept(
        self, name: Hashable, compute: Callable[[], Value], modules: Callable[[], list[nn.Module]]
    ) -> Value:
        """`compute()`, or inside `frozen` what it gave for the weights of these modules.

        Raises:
            InputError: a weight was changed inside `frozen`.
        """
        values = self._values
        if values is None or is_traced() or "_is_replica" in self.__dict__:
            return compute()
        of = modules()
        weights = own_weights(of)
        if any(map(is_parametrized, of)) or (
            torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
        ):
            return compute()
        entry = values.get(name)
        if entry is None or not _same(entry[0], weights):
            entry = values[name] = ([(weight, _version(weight)) for weight in weights], compute())
        value: Value = entry[1]
        return value

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {name: value for name, value in state.items() if name != "_values"}


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep what the module's parts compute from their weights until the block ends.

    For calls without gradients of the weights. The weights are not to change in the block: a change
    that PyTorch counts is refused; a write through `.data`, or by a fused optimiser, is not seen.
    """
    entered = [m for m in module.modules() if isinstance(m, Kept) and m._values is None]
    for part in entered:
        part._values = {}
    try:
        yield
    finally:
        for part in entered:
            part._values = None


def own_weights(modules: list[nn.Module]) -> list[Tensor]:
    """Parameters and buffers of these modules themselves, faster than `parameters()` gives them."""
    return [
        weight
        for module in modules
        for weights in (module._parameters, module._buffers)
        for weight in weights.values()
        if weight is not None
    ]


def is_traced() -> bool:
    """Whether tensors may stand for others: under compilation, transforms and fake tensors."""
    return is_transformed() or torch._C._len_torch_dispatch_stack() > 0


def _same(entry: list[tuple[Tensor, int]], weights: list[Tensor]) -> bool:
    if len(entry) != len(weights):
        return False
    for (kept, version), weight in zip(entry, weights, strict=True):
        if kept is not weight:
            return False
        if version != _version(weight):
            raise InputError(
                f"A weight of shape {tuple(weight.shape)} was changed inside `frozen()`: change "
                "weights outside of it."
            )
    return True


def _version(weight: Tensor) -> int:
    return 0 if weight.is_inference() else weight._version
