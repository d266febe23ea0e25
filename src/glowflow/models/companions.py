"""Files that belong to one model, and how a model is told from all others."""

import hashlib
import json
from dataclasses import asdict

import torch

from ..models.flow import ImageFlow


def identity(model: ImageFlow) -> str:
    """SHA-256 of the configuration and of every weight: another model has another one."""
    digest = hashlib.sha256(json.dumps(asdict(model.config), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
