"""Glow: a generative flow with invertible 1x1 convolutions (Kingma & Dhariwal 2018)."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from . import former
from .errors import CheckpointError, GlowflowError, InputError, NotFiniteWarning, TrainingError

if TYPE_CHECKING:
    from .data.config import DataConfig
    from .interop.density import GlowDensity
    from .interop.distribution import distribution
    from .models.conditional import ConditionalGlow
    from .models.conditions import Condition, ConditionalGlowConfig
    from .models.config import Architecture, GlowConfig, RealNVPArchitecture, RealNVPConfig
    from .models.glow import Glow
    from .models.realnvp import RealNVP
    from .models.registry import load_model

__version__ = version("glowflow")

former.install()

_WHERE = {
    "Architecture": "models.config",
    "Condition": "models.conditions",
    "ConditionalGlow": "models.conditional",
    "ConditionalGlowConfig": "models.conditions",
    "DataConfig": "data.config",
    "Glow": "models.glow",
    "GlowConfig": "models.config",
    "GlowDensity": "interop.density",
    "RealNVP": "models.realnvp",
    "RealNVPArchitecture": "models.config",
    "RealNVPConfig": "models.config",
    "distribution": "interop.distribution",
    "load_model": "models.registry",
}
"""Public names that are imported when they are first asked for: `import glowflow` is light."""

__all__ = [
    "Architecture",
    "CheckpointError",
    "Condition",
    "ConditionalGlow",
    "ConditionalGlowConfig",
    "DataConfig",
    "Glow",
    "GlowConfig",
    "GlowDensity",
    "GlowflowError",
    "InputError",
    "NotFiniteWarning",
    "RealNVP",
    "RealNVPArchitecture",
    "RealNVPConfig",
    "TrainingError",
    "__version__",
    "distribution",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'glowflow' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
