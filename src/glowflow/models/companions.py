"""Companions of a model: files of what was measured with it, of no use to any other model."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import InputError, in_one_line
from ..files import replacing

FORMAT = "1"
FIRST_SETTINGS = {
    "image_shape", "bits", "classes", "hidden_channels", "levels", "steps", "coupling",
    "coupling_scale", "permutation", "learn_top", "weight_classes", "scales", "residual_blocks",
    "alpha", "batch_norm_lag", "l2",
}  # fmt: skip
"""Those of the first version."""

Content = TypeVar("Content")

DIRECTIONS_FILE = "directions.safetensors"
CALIBRATION_FILE = "calibration.safetensors"


@dataclass(frozen=True)
class CompanionKind:
    """What a companion holds, and the command that makes it."""

    name: str
    command: str
    plural: bool = False


def identity(model: nn.Module) -> str:
    """SHA-256 of the configuration and of every weight: another model has another one.

    A model keeps it from version to version: weights go by the names that they had in format 1, and
    a setting that came later counts where it is not its default.
    """
    digest = hashlib.sha256(json.dumps(_settings(model.config), sort_keys=True).encode())
    first = {_first_name(name, model.config): w for name, w in model.state_dict().items()}
    for name, tensor in sorted(first.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _settings(config: Any) -> dict[str, Any]:
    values = asdict(config)
    defaults = {f.name: f.default for f in fields(config) if f.name not in FIRST_SETTINGS}
    return {name: value for name, value in values.items() if value != defaults.get(name, MISSING)}


def _first_name(name: str, config: Any) -> str:
    """`splits.L.…`, `top.…` and `classifier.…` for what is in `levels.L.split` since."""
    match = re.fullmatch(r"levels\.(\d+)\.split\.((?:prior\.|classifier\.).*)", name)
    if not match:
        return name
    level, rest = match.groups()
    if int(level) < config.levels - 1:
        return f"splits.{level}.{rest}"
    return re.sub(r"^prior\.", "top.", rest)


def save_companion(
    path: Path,
    kind: CompanionKind,
    model: str,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, str],
) -> None:
    """Write a safetensors file; the facts and the `identity` of the model are its metadata.

    Raises:
        InputError: the folder cannot be written.
    """
    metadata = {"format": FORMAT, "kind": f"glowflow {kind.name}", "model": model, **facts}
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata)


def load_companion(
    path: Path,
    kind: CompanionKind,
    model: nn.Module,
    parse: Callable[[Mapping[str, Tensor], Mapping[str, str]], Content],
) -> Content:
    """Read a companion of this model.

    Args:
        path: of the file.
        kind: of the companion.
        model: whose it has to be.
        parse: makes it from the tensors and the metadata; raises KeyError or ValueError where they
            are not what was written.

    Raises:
        InputError: there is no such file, it is damaged or another kind of file, or it is another
            model's.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}: make one with {kind.command}.")
    what = kind.name if kind.plural else f"a {kind.name}"
    verb, pronoun = ("are", "them") if kind.plural else ("is", "it")
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("kind") != f"glowflow {kind.name}" or facts.get("format") != FORMAT:
                raise InputError(
                    f"{path} does not hold {what} of format {FORMAT}: make it with {kind.command}."
                )
            if facts["model"] != identity(model):
                raise InputError(
                    f"The {kind.name} in {path} {verb} of another model: make {pronoun} for this "
                    f"one with {kind.command}."
                )
            return parse({name: file.get_tensor(name) for name in file.keys()}, facts)  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"Cannot read {path}: it is damaged or not safetensors ({in_one_line(error)[:300]}); "
            f"make it again with {kind.command}."
        ) from error
