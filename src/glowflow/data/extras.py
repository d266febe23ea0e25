"""Packages that only some sources need."""

from importlib import import_module
from typing import Any

from ..errors import InputError


def extra(module: str, name: str) -> Any:
    """Import a package of the extra `name`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"These data need the package {module}: pip install 'glowflow[{name}]'."
        ) from error
