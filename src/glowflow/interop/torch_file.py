"""PyTorch's own files, of any version, without running what is in them."""

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .stored import damaged

DEEPEST = 32
"""Dictionaries within one another; more is a file that contains itself."""
OR_ELSE = ", or no file of torch.save"
KINDS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
"""What weights, flags and counters are of."""


def read_torch(path: Path) -> dict[str, Tensor]:
    """Every tensor and number in a file of `torch.save`, by its place in it: `graph.flow.layers…`.

    Numbers become tensors without axes, lists of numbers tensors with one; text is passed over.

    Args:
        path: `.pt`, `.pth`, `.pkg`, `.ckpt`, … of PyTorch 0.4 or later; its content counts.

    Raises:
        CheckpointError: there is no file, it is damaged, it holds code, or tensors that are not
            plain numbers in memory.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"Cannot read {path} ({error.strerror}): give a file.") from error
    _check_archive(path, size)
    found: dict[str, Tensor] = {}
    together = 0
    for name, value in _entries(_load(path), path, size):
        if name in found:
            raise CheckpointError(f"{path} has two entries {name}: it is damaged; get it again.")
        if isinstance(value, Tensor):
            _check_kind(name, value, path)
            together += value.numel() * value.element_size()
        else:  # a number of the file is a byte at least
            together += len(value) if isinstance(value, list) else 1
        if together > size:
            raise CheckpointError(
                f"The values in {path} lie on one another: there are more than {size:,} bytes of "
                "them, which the file has; save the weights alone, torch.save(model.state_dict(), "
                "…)."
            )
        found[name] = value.detach() if isinstance(value, Tensor) else torch.tensor(value)
    return found


def _check_archive(path: Path, size: int) -> None:
    """Refuse a zip that unpacks to more than it is."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # what damaged bytes make of zipfile
        raise damaged(path, error, OR_ELSE) from error
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > size:
        raise CheckpointError(
            f"{path} is an archive that unpacks to more than it is, which PyTorch does not write: "
            "give the file that torch.save made."
        )


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what damaged bytes make of zipfile and pickle
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise CheckpointError(
                f"{path} wants {asked[1]} to be run, and was not read: save the weights alone, "
                "torch.save(model.state_dict(), …), where the file was made."
            ) from error
        raise damaged(path, error, OR_ELSE) from error


def _entries(value: Any, path: Path, size: int) -> Iterator[tuple[str, Any]]:
    """Names and values of all that is a tensor, a number or a list of numbers."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    for _ in range(size):  # an entry takes a byte at least
        if not waiting:
            return
        name, value, depth = waiting.pop()
        if isinstance(value, Tensor | bool | int | float):
            if abs(value) < 2**63 if type(value) is int else True:
                yield name, value
        elif isinstance(value, list | tuple) and value and all(map(_is_number, value)):
            yield name, [float(number) for number in value]
        elif depth > DEEPEST:
            break
        elif isinstance(value, Mapping | list | tuple):
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            below = [(f"{name}.{key}" if name else str(key), v, depth + 1) for key, v in items]
            waiting += reversed(below)
    raise CheckpointError(f"{path} contains itself: it is damaged; get it again.")


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _check_kind(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse tensors that are not plain numbers in memory."""
    kind = type(tensor)
    if kind not in (Tensor, torch.nn.Parameter):
        what = f"a {kind.__name__}"
    elif tensor.is_nested or tensor.layout != torch.strided:
        what = "sparse"
    elif tensor.is_quantized:
        what = "quantised"
    elif tensor.is_complex():
        what = "complex"
    elif tensor.dtype not in KINDS:
        what = f"of {tensor.dtype}"
    elif tensor.device.type != "cpu":
        what = f"on the device {tensor.device}, without its values"
    elif tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        what = "a few values that are shown as many"
    else:
        return
    raise CheckpointError(
        f"In {path} the tensor {name} is {what}: give weights that are plain tensors, "
        "torch.save({name: w.contiguous() for name, w in model.state_dict().items()}, …)."
    )
