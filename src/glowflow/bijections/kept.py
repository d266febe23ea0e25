"""Values computed from weights, kept while a model is frozen and at no other time."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from operator import is_
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

from .exact import is_parametrized, is_transformed

Value = TypeVar("Value")

WEIGHTS = frozenset(("weight", "b", "logs", "lower", "upper", "log_s"))
"""Names of weights; one that is a plain attribute is somebody else's, and may change unseen."""
_FROZEN: WeakSet[nn.Module] = WeakSet()
"""Modules inside whose block we are; to look through their parts again takes a while."""


class Kept(nn.Module):
    """A module that computes matrices from weights, and keeps them inside `frozen`.

    Outside of `frozen` nothing is kept from one call to the next, so that nothing can be stale.
    """

    _values: dict[Hashable, tuple[list[Tensor], list[int], Any]] | None = None

    def kept(
        self, name: Hashable, compute: Callable[[], Value], modules: Callable[[], list[nn.Module]]
    ) -> Value:
        """`compute()`, or inside `frozen` what it gave for the weights of these modules."""
        values = self._values
        if values is None or is_traced() or "_is_replica" in self.__dict__:
            return compute()
        of = modules()
        for module in of:
            if module._forward_pre_hooks or is_parametrized(module):
                return compute()
            if not module.__dict__.keys().isdisjoint(WEIGHTS):
                return compute()
        weights = own_weights(of)
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
            return compute()
        versions = _versions(weights)
        name = (name, torch.is_inference_mode_enabled())
        entry = values.get(name)
        if entry is None or entry[1] != versions or not all(map(is_, entry[0], weights)):
            entry = values[name] = (weights, versions, compute())
        value: Value = entry[2]
        return value

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {name: value for name, value in state.items() if name != "_values"}


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep what the module's parts compute from their weights until the block ends.

    For calls without gradients of the weights, which are not to change in the block. A change that
    PyTorch counts is followed; a write through `.data`, or by a fused optimiser, is not seen.
    """
    if module in _FROZEN:
        yield
        return
    entered = [m for m in module.modules() if isinstance(m, Kept) and m._values is None]
    for part in entered:
        part._values = {}
    _FROZEN.add(module)
    try:
        yield
    finally:
        _FROZEN.discard(module)
        for part in entered:
            part._values = None


@contextmanager
def thawed(module: nn.Module) -> Iterator[None]:
    """The opposite of `frozen`, inside of it."""
    values = {m: m._values for m in module.modules() if isinstance(m, Kept)}
    for part in values:
        part._values = None
    try:
        yield
    finally:
        for part, value in values.items():
            part._values = value


def own_weights(modules: list[nn.Module]) -> list[Tensor]:
    """Parameters and buffers of these modules themselves, faster than `parameters()` gives them."""
    return [
        weight
        for module in modules
        for weights in (module._parameters, module._buffers)
        for weight in weights.values()
        if weight is not None
    ]


def _versions(weights: list[Tensor]) -> list[int]:
    try:
        return [weight._version for weight in weights]
    except RuntimeError:  # inference tensors have none
        return [0 if weight.is_inference() else weight._version for weight in weights]


def is_traced() -> bool:
    """Whether tensors may stand for others: under compilation, transforms and fake tensors."""
    return is_transformed() or torch._C._len_torch_dispatch_stack() > 0
