"""Glow: a generative flow with invertible 1x1 convolutions (Kingma & Dhariwal 2018)."""

from importlib.metadata import version

from .config import Architecture, DataConfig, GlowConfig
from .errors import CheckpointError, GlowflowError, InputError, TrainingError
from .glow import Glow

__version__ = version("glowflow")

__all__ = [
    "Architecture",
    "CheckpointError",
    "DataConfig",
    "Glow",
    "GlowConfig",
    "GlowflowError",
    "InputError",
    "TrainingError",
    "__version__",
]
