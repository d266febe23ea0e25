"""What a configuration describes, before any of it is allocated."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..bijections.linear import Invertible1x1Conv, Permutation, require_permutations
from ..errors import CheckpointError, GlowflowError, InputError, in_one_line
from .pretrained import check_state

Model = TypeVar("Model")
ARITHMETIC = ("add", "__add__", "__radd__", "mul", "__mul__", "__rmul__")


class _Outlines(TorchFunctionMode):
    """On the device meta: what weights start from is not computed, of which the shape is enough.

    PyTorch would load its compiler for some of it, which takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        if func is torch.eye and not kwargs:
            return torch.empty(args if len(args) == 2 else 2 * args, device="meta")
        if func is torch.norm_except_dim:
            weight, _, dim = args
            return weight.new_empty([n if i == dim else 1 for i, n in enumerate(weight.shape)])
        if getattr(func, "__name__", "") in ARITHMETIC:
            tensors = [each for each in args if isinstance(each, Tensor)]
            shapes = [each.shape for each in tensors]
            shape = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
            return tensors[0].new_empty(shape)
        return func(*args, **kwargs)


def outline_of(make: Callable[[], Model]) -> Model:
    """What `make` makes, of tensors without values: it takes no memory and hardly time."""
    with torch.device("meta"), _Outlines():
        return make()


def check_outline(
    make: Callable[[], Any], config: Any, state: dict[str, Tensor], source: str, own: bool
) -> None:
    """Compare the model that a configuration describes with the weights of a file.

    The model is made of tensors without values, so that no memory is taken for what the file does
    not hold, whatever the configuration says.

    Args:
        make: makes the model.
        config: of the model.
        state: the weights.
        source: where they are from, for the message of an error.
        own: whether the model has parts of one's own, which may not be made without values.

    Raises:
        CheckpointError: they do not fit.
    """
    if config.fewest_weights > len(state):
        raise CheckpointError(
            f"{source} describes a model of {config.fewest_weights:,} weights or more, and there "
            f"are {len(state):,} in the file: it is damaged, or of another model."
        )
    try:
        outline = outline_of(make)
    except GlowflowError as error:
        raise CheckpointError(f"{source} does not describe a model: {error}") from error
    except (RuntimeError, ValueError, TypeError, OverflowError, NotImplementedError) as error:
        if own:
            return
        said = in_one_line(error)[:100]
        raise CheckpointError(
            f"{source} describes a model that cannot be made ({said}): it is damaged."
        ) from error
    check_state(outline.state_dict(), outline.with_present_names(state), source)


def check_values(model: nn.Module, source: str) -> None:
    """Look at loaded weights.

    Raises:
        CheckpointError: a weight is NaN or infinite, or the order of channels is no permutation.
    """
    for name, weight in model.state_dict().items():
        if not weight.is_floating_point() or not weight.numel():
            continue
        if not bool(torch.isfinite(torch.stack(weight.aminmax())).all()):
            raise CheckpointError(
                f"In {source} the weight {name} is not finite: the file is damaged, or of a run "
                "that failed; use another checkpoint."
            )
    for name, module in model.named_modules():
        if isinstance(module, (Invertible1x1Conv, Permutation)):
            order = module.rows if isinstance(module, Invertible1x1Conv) else module.order
            try:
                require_permutations([order])
            except InputError as error:
                raise CheckpointError(f"{source} is damaged at {name}: {error}") from error
