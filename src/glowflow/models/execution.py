"""How a model computes: what its memory, its precision and `torch.compile` reach, and what not."""

from typing import Any

import torch
from torch import nn

from ..bijections import Bijection, Coupling, FlowStep, MaskedCoupling
from ..errors import InputError
from ..fused.steps import Steps
from .config import Memory, Precision

RECOMPILE_LIMIT = 128
"""Graphs of one function: every level, batch size and gradient mode has its own."""


def use_memory(model: nn.Module, memory: Memory) -> None:
    """Keep the steps' activations, or recompute them.

    Raises:
        InputError: there are no steps whose activations could be recomputed.
    """
    steps = [module for module in model.modules() if isinstance(module, Steps)]
    if memory == "reversible" and not steps:
        raise InputError(
            f"A {type(model).__name__} cannot recompute its activations: use memory stored."
        )
    for some in steps:
        some.reversible = memory == "reversible"


def use_precision(model: nn.Module, precision: Precision) -> None:
    """Let the coupling networks compute in bf16, or in the dtype of the weights.

    Raises:
        InputError: a network does not follow.
    """
    for name, coupling in _couplings(model):
        network: Any = getattr(coupling, "network", None)
        if hasattr(network, "compute_dtype"):
            network.compute_dtype = torch.bfloat16 if precision == "bf16" else None
        elif precision != "float32":
            raise InputError(
                f"{name} has a network of class {type(network).__name__} without an attribute "
                "`compute_dtype`, so it would not follow precision bf16: give the class one "
                "(None, or a dtype) and compute in it, or use precision float32."
            )


def use_compile(model: nn.Module, compile: bool) -> None:
    """Run couplings and their networks through `torch.compile`, or no longer."""
    if compile:
        from torch._dynamo import config

        config.recompile_limit = max(config.recompile_limit, RECOMPILE_LIMIT)
    for _, coupling in _couplings(model):
        for module in (coupling, getattr(coupling, "network", None)):
            if module is not None:
                module._compiled_call_impl = None
                if compile:
                    module.compile(dynamic=False)


def _couplings(model: nn.Module) -> list[tuple[str, Bijection]]:
    """What stands where couplings do, whoever wrote it, by name."""
    in_steps = [
        (f"{name}.coupling", module.coupling)
        for name, module in model.named_modules()
        if isinstance(module, FlowStep)
    ]
    by_class = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, Coupling | MaskedCoupling)
    ]
    return list({id(module): (name, module) for name, module in in_steps + by_class}.values())
