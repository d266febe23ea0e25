"""Accelerators to plan for, by their published figures."""

from dataclasses import dataclass

UTILISATION = 0.35
"""Share of its published peak that a named accelerator is taken to reach."""
USABLE = 0.9
"""Share of a device's memory that is planned with; the rest is the driver's, the libraries' and
lost between allocations."""


@dataclass(frozen=True)
class DeviceFigures:
    """The published figures of an accelerator: dense, without sparsity."""

    memory: int
    """GiB."""
    float32: float
    """Peak TFLOP/s outside the tensor cores: PyTorch's own setting for float32 leaves TF32 out."""
    bf16: float
    """Peak TFLOP/s with float32 sums."""
    bandwidth: float
    """GB/s of the memory."""


ACCELERATORS = {
    "a100": DeviceFigures(80, 19.5, 312, 2039),
    "a100-40gb": DeviceFigures(40, 19.5, 312, 1555),
    "h100": DeviceFigures(80, 66.9, 989, 3350),
    "h200": DeviceFigures(141, 66.9, 989, 4800),
    "l4": DeviceFigures(24, 30.3, 121, 300),
    "l40s": DeviceFigures(48, 91.6, 362, 864),
    "rtx3090": DeviceFigures(24, 35.6, 71, 936),
    "rtx4090": DeviceFigures(24, 82.6, 165, 1008),
}
"""By the name that `glow plan --device` takes; of a100, h100 and h200 the SXM form."""
