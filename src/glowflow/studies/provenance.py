"""Where figures come from: the machine, and the commit."""

import platform
import subprocess
from pathlib import Path

import torch

FOLDER = Path(__file__).parents[1]


def hardware(device: str) -> str:
    """What computes, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    name = models[0] if models else name
    return f"{name} ({device}), {threads} thread{'s' if threads > 1 else ''}"


def commit() -> str | None:
    """The commit of the package, with `-dirty` if its files differ from it.

    None for an installed one, where git does not know its files.
    """
    if _git("ls-files", "--error-unmatch", Path(__file__).name, folder="studies") is None:
        return None
    head = _git("rev-parse", "HEAD")
    return f"{head}-dirty" if _git("status", "--porcelain", "--", ".") else head


def _git(*arguments: str, folder: str = "") -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(FOLDER / folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
