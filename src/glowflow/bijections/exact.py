"""Whether a module does what its class says, and PyTorch runs it as it is.

What is faster than calling modules one by one reads their weights instead. It may do so only where
nobody has changed what a call does: by a subclass, a hook, or another `forward`.
"""

import torch
from torch import nn
from torch._C._functorch import is_batchedtensor, is_legacy_batchedtensor
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_module
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..errors import InputError


def is_exactly(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether it is of one of these classes, no subclass, and untouched.

    Parametrised weights are followed by whoever reads them as attributes, so they are allowed.
    """
    return (type(module) in kinds or kind_of(module) in kinds) and is_untouched(module)


def is_untouched(module: nn.Module) -> bool:
    """Whether a call of the module is its class's `forward`, without hooks."""
    own = module.__dict__
    return not has_hooks(module) and "forward" not in own and "inverse" not in own


def kind_of(module: nn.Module) -> type[nn.Module]:
    """The module's class, without what `register_parametrization` made of it."""
    kind = type(module)
    return kind.__bases__[0] if is_parametrized(module) else kind


def is_parametrized(module: nn.Module) -> bool:
    """Whether `register_parametrization` was called on it; PyTorch's own question is slow."""
    return "parametrizations" in module._modules


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module runs anything beside its `forward`."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )


def require_own_weights(module: nn.Module, *names: str) -> None:
    """Refuse to set weights that are computed from others.

    Raises:
        InputError: one is parametrised, pruned or replaced.
    """
    for name in names:
        if name not in module._parameters:
            raise InputError(
                f"{kind_of(module).__name__}.{name} is computed from other weights and cannot be "
                "set: set or initialise the model before it is parametrised or pruned."
            )


def compute_weights(module: nn.Module) -> None:
    """Let hooks that compute a weight before `forward` do so before `inverse`, which has no hooks.

    They are those of `torch.nn.utils.prune`, and of the older `weight_norm` and `spectral_norm`.
    """
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod | WeightNorm | SpectralNorm):
            hook(module, None)


def is_batched(tensor: torch.Tensor) -> bool:
    """Whether it stands for several: inside `vmap`, or with `is_grads_batched`."""
    return bool(is_legacy_batchedtensor(tensor) or is_batchedtensor(tensor))


def is_transformed() -> bool:
    """Whether PyTorch compiles, records or transforms: `torch.func`, `make_fx`, forward mode."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None
        or forward_ad._current_level >= 0
    )
