"""Where a NaN or an infinity came from."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NUMBERED = {
    "levels": "level",
    "steps": "step",
    "scales": "scale",
    "checkerboard": "checkerboard coupling",
    "channelwise": "channel coupling",
}
"""Modules that are counted, and the word for one of them."""


def find_nonfinite(model: nn.Module, run: Callable[[], object]) -> str | None:
    """Name the first thing that is not finite: a weight, or what a layer makes in `run()`.

    Args:
        model: its modules are watched.
        run: calls the model's forward.

    Returns:
        For example "the output of level 2, step 5, coupling", or None if all is finite.
    """
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            return f"the weight {describe(name)}"
    places: list[str] = []

    def look(values: Any, what: str) -> None:
        if not places and not _finite(values):
            places.append(what)

    handles = []
    for name, module in model.named_modules():
        if name:
            place = describe(name)
            handles += [
                module.register_forward_pre_hook(
                    lambda _, inputs, place=place: look(inputs, f"the input of {place}")
                ),
                module.register_forward_hook(
                    lambda _, __, output, place=place: look(output, f"the output of {place}")
                ),
            ]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return places[0] if places else None


def find_nonfinite_gradient(model: nn.Module) -> str | None:
    """Name the last weight, in the order of the forward pass, with a gradient that is not finite.

    The backward pass meets it first.
    """
    for name, weight in reversed(list(model.named_parameters())):
        if weight.grad is not None and not bool(torch.isfinite(weight.grad).all()):
            return f"the gradient of {describe(name)}"
    return None


def describe(name: str) -> str:
    """Turn a module's path into words: `levels.1.steps.4.actnorm.b` is level 2, step 5, actnorm."""
    parts = name.split(".")
    words = []
    while parts:
        part = parts.pop(0)
        if part in NUMBERED and parts and parts[0].isdigit():
            words.append(f"{NUMBERED[part]} {int(parts.pop(0)) + 1}")
        elif part in ("squeeze", "actnorm", "permutation", "coupling", "norm", "split"):
            words.append(part)
        else:
            words.append(".".join([part, *parts]))
            break
    return ", ".join(words)


def _finite(output: Any) -> bool:
    if isinstance(output, Tensor):
        return bool(torch.isfinite(output).all())
    if isinstance(output, (tuple, list)):
        return all(_finite(part) for part in output)
    return True
