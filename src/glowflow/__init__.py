"""Glow: a generative flow with invertible 1x1 convolutions (Kingma & Dhariwal 2018)."""

from importlib.metadata import version

from .config import (
    Architecture,
    DataConfig,
    GlowConfig,
    RealNVPArchitecture,
    RealNVPConfig,
)
from .errors import CheckpointError, GlowflowError, InputError, TrainingError
from .glow import Glow
from .models import load_model
from .realnvp import RealNVP

__version__ = version("glowflow")

__all__ = [
    "Architecture",
    "CheckpointError",
    "DataConfig",
    "Glow",
    "GlowConfig",
    "GlowflowError",
    "InputError",
    "RealNVP",
    "RealNVPArchitecture",
    "RealNVPConfig",
    "TrainingError",
    "__version__",
    "load_model",
]
