"""What a benchmark ran on."""

import platform
from dataclasses import dataclass
from pathlib import Path

import torch

BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""How /proc/cpuinfo names bf16 instructions: two on x86, the last on ARM."""


@dataclass(frozen=True)
class Device:
    """The processor or GPU, and the PyTorch that drives it."""

    name: str
    kind: str
    """`cpu` or `cuda`."""
    threads: int
    """Of one PyTorch operation on the processor."""
    torch: str
    """Version."""
    capability: str
    """The processor's widest instructions that PyTorch uses, or the GPU's compute capability."""
    bf16_instructions: bool | None
    """Whether bf16 is computed in hardware; None where the system does not say."""

    def __str__(self) -> str:
        bf16 = {True: "bf16 in hardware", False: "no bf16 instructions", None: "bf16 unknown"}
        return (
            f"{self.name} ({self.kind}, {self.capability}, {bf16[self.bf16_instructions]}), "
            f"threads: {self.threads}, torch {self.torch}"
        )


def describe(device: torch.device) -> Device:
    """The facts about `device` that a reader of its figures needs."""
    threads, version = torch.get_num_threads(), torch.__version__
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return Device(
            torch.cuda.get_device_name(device),
            "cuda",
            threads,
            version,
            f"compute capability {major}.{minor}",
            torch.cuda.is_bf16_supported(including_emulation=False),
        )
    facts = read_cpuinfo()
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return Device(
        facts.get("model name") or platform.processor() or platform.machine(),
        "cpu",
        threads,
        version,
        torch.backends.cpu.get_cpu_capability(),
        bool(BF16_FLAGS & set(flags)) if flags else None,
    )


def read_cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The fields of the first processor; none where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = [line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line]
    return {name.strip(): value.strip() for name, value in pairs}
