"""Where a NaN or an infinity came from."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def find_nonfinite(model: nn.Module, run: Callable[[], object]) -> str | None:
    """Name the first thing that is not finite: a weight, or what a layer makes in `run()`.

    Args:
        model: its modules are watched.
        run: calls the model's forward.

    Returns:
        For example "the output of level 2, step 5, actnorm", or None if all is finite.
    """
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            return f"the weight {describe(name)}"
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            if not found and not _finite(output):
                found.append(f"the output of {describe(name)}")

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def find_nonfinite_gradient(model: nn.Module) -> str | None:
    """Name the last weight, in the order of the forward pass, with a gradient that is not finite.

    The backward pass meets it first.
    """
    for name, weight in reversed(list(model.named_parameters())):
        if weight.grad is not None and not bool(torch.isfinite(weight.grad).all()):
            return f"the gradient of {describe(name)}"
    return None


PARTS = ("actnorm", "permutation", "coupling")


def describe(name: str) -> str:
    """Turn a module's path into words: `levels.1.bijections.5…` is level 2, step 5."""
    if match := re.match(r"levels\.(\d+)(?:\.bijections\.(\d+)(?:\.bijections\.(\d+))?)?", name):
        level, step, part = match.groups()
        words = [f"level {int(level) + 1}"]
        if step is not None:
            words.append(f"step {step}" if int(step) else "squeeze")
        if part is not None:
            words.append(PARTS[int(part)])
        rest = name[match.end() :].strip(".")
        return ", ".join([*words, rest] if rest else words)
    if match := re.match(r"splits\.(\d+)", name):
        rest = name[match.end() :].strip(".")
        return f"level {int(match.group(1)) + 1}, split" + (f", {rest}" if rest else "")
    return name


def _finite(output: Any) -> bool:
    if isinstance(output, Tensor):
        return bool(torch.isfinite(output).all())
    if isinstance(output, (tuple, list)):
        return all(_finite(part) for part in output)
    return True
