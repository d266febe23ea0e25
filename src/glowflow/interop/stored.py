"""Tensors that stay in their file until somebody asks for one."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CheckpointError, in_one_line

SHOWN = 24
"""Names that a message lists one by one."""
LONGEST_NAME = 512
SAID = 200
"""Characters of what other libraries say of a damaged file: some quote all of it."""


class Stored(Mapping[str, Tensor]):
    """Tensors by name, each read from the disk when it is asked for, and not kept.

    Args:
        readers: what reads each of them.
    """

    def __init__(self, readers: Mapping[str, Callable[[], Tensor]]) -> None:
        self._readers = dict(readers)

    def __getitem__(self, name: str) -> Tensor:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def __contains__(self, name: object) -> bool:
        return name in self._readers


def checked_name(name: str) -> str:
    """The name of a tensor, if it is one that a message can hold.

    Raises:
        ValueError: it is not.
    """
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a name is longer than {LONGEST_NAME} characters, or is no text")
    return name


def damaged(path: Path, error: Exception, or_else: str = "") -> CheckpointError:
    """What to raise of a file that cannot be read, or is something else; PyTorch's advice is left
    out."""
    said = re.split(r"(?<=\w)\. |: Please|Exception raised", in_one_line(error))[0]
    short = said if len(said) <= SAID else f"{said[:SAID]}..."
    return CheckpointError(f"{path} is damaged{or_else} ({short}): get it again.")


def read_numbers(path: Path, dtype: Any, count: int, start: int) -> NDArray[Any]:
    """`count` numbers that begin at the byte `start` of a file, whose size was looked at before.

    Raises:
        CheckpointError: the file has fewer.
    """
    values = np.fromfile(path, dtype=dtype, count=count, offset=start)
    if len(values) < count:
        raise CheckpointError(f"{path} ends before its last tensor: get it again.")
    return values


def as_tensor(values: NDArray[Any], shape: Sequence[int]) -> Tensor:
    """A tensor of this shape, in the byte order of this machine."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(native).reshape(tuple(shape))


def listed(names: Sequence[str]) -> str:
    """Every name of a list, in few words: where there are many, those that differ in numbers alone
    stand together, as model/{0-5}/{0-31}/f1/W or blocks.{0-3}.prior.scale."""
    if len(names) <= SHOWN:
        return ", ".join(names)
    patterns: dict[tuple[str, ...], list[list[int]]] = {}
    for name in names:
        texts, numbers = _apart(name)
        patterns.setdefault(texts, []).append(numbers)
    return ", ".join(_together(texts, numbers) for texts, numbers in patterns.items())


def _apart(name: str) -> tuple[tuple[str, ...], list[int]]:
    """The texts between the numbers of a name, and these; numbers within words are text."""
    texts, numbers = [""], []
    for part in re.split(r"([/.])", name):
        if part.isascii() and part.isdigit() and len(part) < 6:
            numbers.append(int(part))
            texts.append("")
        else:
            texts[-1] += part
    return tuple(texts), numbers


def _together(texts: tuple[str, ...], numbers: list[list[int]]) -> str:
    ranges = [
        f"{{{min(column)}-{max(column)}}}" if min(column) < max(column) else str(column[0])
        for column in zip(*numbers, strict=True)
    ]
    name = "".join(text + each for text, each in zip(texts, [*ranges, ""], strict=True))
    return name if len(numbers) == 1 else f"{name} ({len(numbers)} of them)"
