"""The models of this package by name."""

from pathlib import Path

import torch

from ..errors import CheckpointError
from .conditional import ConditionalGlow
from .conditions import ConditionalGlowConfig
from .config import GlowConfig, RealNVPConfig
from .flow import ImageFlow
from .glow import Glow
from .hub import Hub
from .pretrained import read_model_type
from .realnvp import RealNVP

MODELS: dict[str, type[ImageFlow]] = {
    "glow": Glow,
    "conditional-glow": ConditionalGlow,
    "realnvp": RealNVP,
}


def make_model(config: GlowConfig | RealNVPConfig) -> ImageFlow:
    """A new model, of the kind that the configuration is for."""
    if isinstance(config, RealNVPConfig):
        return RealNVP(config)
    if isinstance(config, ConditionalGlowConfig):
        return ConditionalGlow(config)
    return Glow(config)


def load_model(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> ImageFlow:
    """Read a model of whatever kind from a folder, a Hugging Face hub id, or by the name of one
    that is shipped; in eval mode.

    Args as `ImageFlow.from_pretrained`.

    Raises:
        CheckpointError: nothing is there, the hub refuses or is silent, it is damaged, or its kind
            is unknown.
    """
    hub = Hub(revision, token, cache_dir, local_files_only)
    found = read_model_type(source, hub)
    if found not in MODELS:
        raise CheckpointError(
            f"{source} is a model of type {found!r}: this version reads {', '.join(MODELS)}."
        )
    return MODELS[found].from_pretrained(source, device=device, **vars(hub))
