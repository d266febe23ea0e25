"""Refusals of settings that cannot work, each in one sentence."""

from typing import Any, get_args

from .errors import InputError


def require(condition: bool, message: str) -> None:
    """Refuse what cannot work.

    Raises:
        InputError: the condition is false.
    """
    if not condition:
        raise InputError(message)


def require_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a value that is not one of a Literal's.

    Raises:
        InputError: it is not.
    """
    allowed = get_args(choices)
    require(value in allowed, f"{name} is {value!r}: choose one of {', '.join(allowed)}.")


def require_at_least(settings: Any, least: int, *names: str) -> None:
    """Refuse fields that are below `least`; None is no number.

    Raises:
        InputError: one is.
    """
    for name in names:
        value = getattr(settings, name)
        require(
            value is None or isinstance(value, (int, float)), f"{name} is {value!r}: give a number."
        )
        require(value is None or value >= least, f"{name} is {value}: give at least {least}.")


def require_dtype(dtype: Any, device: Any) -> None:
    """Refuse float64 on a device that does not compute in it.

    Raises:
        InputError: the device is one of Apple's GPUs.
    """
    import torch

    require(
        "float64" not in str(dtype) or torch.device(device).type != "mps",
        "Apple's GPUs (mps) do not compute in float64: choose the device cpu, or float32.",
    )


def has_device(name: Any) -> bool:
    """Whether PyTorch computes here on a device of this name."""
    import torch

    try:
        return torch.empty(0, device=name).device.type != "meta"  # which computes nothing
    except (RuntimeError, AssertionError, TypeError):
        return False
