"""The inverse of one picture as a program with no Python in it, for who drags a slider.

Half of the time of a small picture is Python between the operators; and while Python computes, the
thread that answers the browser waits for its lock.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..models.flow import ImageFlow, Latents

Program = Callable[[Latents, Tensor | None], Tensor]
"""From the code of one picture, and its label where there are classes, to x."""
RUNS = 3
"""Until PyTorch has made up its mind about a program."""


def program_of(model: ImageFlow) -> Program | None:
    """x of one code by the operators that `model.decode` calls, recorded.

    The model has to stay as it is, and frozen. The program is taken only if it gives the very
    bits of `decode`, for codes and a class that it was not recorded with.

    Returns:
        None where the model does more than call operators one after another.
    """
    classes = model.config.classes
    labelled = [torch.full((1,), label, device=model.device) for label in (0, classes - 1)]
    first, *others = [_code(model, seed) for seed in range(RUNS + 1)]
    given = (*first, labelled[0]) if classes else first

    def inverse(*inputs: Tensor) -> Tensor:
        code, label = (inputs[:-1], inputs[-1]) if classes else (inputs, None)
        x: Tensor = model.inverse(code, label)[0]
        return x

    def program(code: Latents, label: Tensor | None) -> Tensor:
        x: Tensor = traced(*code) if label is None else traced(*code, label)
        return x

    label = labelled[1] if classes else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of shapes, which are the model's own
        try:
            traced: Any = torch.jit.trace(inverse, given, check_trace=False)  # type: ignore[no-untyped-call]
            _simplify(traced.graph)
            same = [
                torch.equal(program(c, label).nan_to_num(), model.decode(c, label).nan_to_num())
                for c in others
            ]
        except Exception:  # whatever the parts of a model raise when they are recorded, or run so
            return None
    return program if all(same) else None


def _simplify(graph: torch.Graph) -> None:
    """Put the sizes of tensors into the program, which asks for them at each step otherwise."""
    torch._C._jit_pass_inline(graph)
    torch._C._jit_pass_peephole(graph, disable_shape_peepholes=False)
    torch._C._jit_pass_constant_propagation(graph)
    torch._C._jit_pass_dce(graph)


def _code(model: ImageFlow, seed: int) -> Latents:
    generator = torch.Generator().manual_seed(seed)
    shapes = model.latent_shapes
    drawn = (torch.randn(1, *shape, generator=generator) for shape in shapes)
    return tuple(eps.to(model.device, model.dtype) for eps in drawn)
