"""Packages that only some users need."""

from importlib import import_module
from typing import Any

from ..errors import InputError


def extra(module: str, name: str, who: str = "These data need") -> Any:
    """Import a package of the extra `name`.

    Args:
        module: the package.
        name: of the extra.
        who: what needs it, as the message of the error begins.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"{who} the package {module}: pip install 'glowflow[{name}]'.") from error
