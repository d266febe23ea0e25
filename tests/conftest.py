"""What the tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def perturb(module: torch.nn.Module, std: float = 0.1) -> torch.nn.Module:
    """Move every weight away from its start, so that nothing is zero or the identity by luck."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            scale = std if not name.endswith("logs") else std / 3
            weight.add_(scale * torch.randn_like(weight))
    return module
