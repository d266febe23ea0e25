"""What the commands leave behind."""

import json
import platform
import shutil
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import MARK, make_new, make_numbered, replacing, write_text

if TYPE_CHECKING:
    import torch

    from ..studies.study import Findings

LIBRARIES = ("glowflow", "torch", "numpy", "accelerate", "safetensors", "pillow", "scikit-learn")


_made: list[tuple[Path, bool]] = []
"""Folders of the results of this command, and whether they were there before, empty."""


def keep_made() -> None:
    """From here on what a command has left stays, whatever becomes of it."""
    _made.clear()


def remove_made() -> None:
    """Take away what a command that is refused has left."""
    for folder, was_there in _made:
        shutil.rmtree(folder, ignore_errors=True)
        if was_there:
            folder.mkdir(exist_ok=True)
    _made.clear()


def new_folder(out: Path | None, name: str) -> Path:
    """The folder for results: `out`, or a new one under runs/.

    Raises:
        InputError: it is not empty, or cannot be written.
    """
    was_there = out is not None and out.is_dir()
    if out is None:
        folder = make_numbered(dated_folder(name))
        (folder / MARK).touch()
    else:
        folder = out
        make_new(folder)
    _made.append((folder, was_there))
    return folder


def dated_folder(name: str) -> Path:
    """A folder under runs/ that is named after what is in it and the time."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def describe_environment(device: "torch.device", seed: int) -> dict[str, Any]:
    """What a reader needs to repeat the run."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": name,
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def write_findings(folder: Path, name: str, findings: "Findings") -> None:
    """Write NAME.md, index.html and the pictures."""
    for file, content in findings.files(name).items():
        with replacing(folder / file) as path:
            path.write_bytes(content)


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(facts, indent=2) + "\n")
