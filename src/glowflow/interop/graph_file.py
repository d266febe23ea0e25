"""The constants of a frozen TensorFlow graph, without TensorFlow and without running it.

A graph is a protocol buffer of nodes; here those are read that hold constants, and the shapes of
the placeholders. Numbers stay in the file until somebody asks for them.
"""

import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.formats.protobuf import BYTES, VARINT, Buffer, Field, fields, integers, varint
from ..errors import CheckpointError
from .stored import as_tensor, checked_name, read_numbers
from .tensor_bundle import BFLOAT16, DTYPES, parse_shape

FIXED_VALUES = {1: 5, 2: 6}
"""Fields of values of float32 and float64, which are stored as they are."""
COUNTED_VALUES = {3: 7, 4: 7, 5: 7, 6: 7, 9: 10, 10: 11, BFLOAT16: 13, 19: 13}
"""Fields of values that are stored as integers; of half precision these are the bits."""
FILLED = 4
"""Times the file's size that constants may take of which only one value is stored."""


@dataclass(frozen=True)
class Constant:
    """A constant, and where its numbers are."""

    name: str
    dtype: int
    """TensorFlow's number."""
    shape: tuple[int, ...]
    places: tuple[Field, ...]
    """Of `tensor_content`, or of the values, of which the last one goes on to the end."""
    whole: bool
    """Whether it is the former."""
    path: Path

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers, and not texts or handles."""
        return self.dtype in DTYPES

    @property
    def is_float(self) -> bool:
        """Whether these may be weights."""
        return self.dtype in (1, 2, BFLOAT16, 19)

    @property
    def count(self) -> int:
        """How many there are."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def bytes(self) -> int:
        """That they take in memory."""
        return self.count * np.dtype(DTYPES[self.dtype]).itemsize

    def read(self) -> Tensor:
        """The numbers, in the dtype of the file.

        Raises:
            CheckpointError: there are not as many as the shape says.
        """
        values = self._values()
        if len(values) > self.count or (self.whole and len(values) < self.count):
            raise CheckpointError(
                f"{self.name} in {self.path} has {len(values):,} numbers for a shape of "
                f"{self.shape}: the file is damaged; get it again."
            )
        if len(values) < self.count:
            last = values[-1] if len(values) else 0
            filled = np.full(self.count, last, dtype=values.dtype)
            filled[: len(values)] = values
            values = filled
        if self.dtype == BFLOAT16:
            return as_tensor(values.view("<i2"), self.shape).view(torch.bfloat16)
        return as_tensor(values, self.shape)

    def _values(self) -> NDArray[Any]:
        dtype = np.dtype(DTYPES[self.dtype])
        if self.whole or self.dtype in FIXED_VALUES:
            parts = [
                read_numbers(self.path, dtype, (p.stop - p.start) // dtype.itemsize, p.start)
                for p in self.places
            ]
            return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])
        with self.path.open("rb") as file:
            numbers = []
            for place in self.places:
                file.seek(place.start)
                packed = file.read(place.stop - place.start)
                numbers += list(integers(packed, Field(0, 0, 0, len(packed))))
        bits = np.array(numbers, dtype=np.int64)
        return bits.astype("<u2").view(dtype) if self.dtype == 19 else bits.astype(dtype)


@dataclass(frozen=True)
class Graph:
    """What a graph file says."""

    constants: dict[str, Constant] = field(default_factory=dict)
    placeholders: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of what is fed; a size that is left open is absent."""
    ops: set[str] = field(default_factory=set)
    """Kinds of the nodes."""


def read_graph(path: Path) -> Graph:
    """The constants and placeholders of a graph file.

    Raises:
        CheckpointError: it is damaged, cut off, or another kind of file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as all_:
            graph = Graph()
            for node in fields(all_):
                if node.number == 1 and node.type == BYTES:
                    _add_node(graph, all_, node, path)
                elif node.number > 4:
                    raise ValueError(f"it has a field {node.number}")
            _check_sizes(graph, len(all_))
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} is damaged, or no frozen graph of TensorFlow ({error}): get it again."
        ) from error
    except OSError as error:
        raise CheckpointError(f"Cannot read {path} ({error.strerror}): give another.") from error
    return graph


def looks_like_graph(start: bytes) -> bool:
    """Whether a file begins as one does: with a node, which begins with its name."""
    try:
        _, at = varint(start, 1, len(start))
    except ValueError:
        return False
    return start[:1] == b"\n" and start[at : at + 1] == b"\n"


def _add_node(graph: Graph, content: Buffer, node: Field, path: Path) -> None:
    name = op = ""
    attributes = []
    for part in fields(content, node.start, node.stop):
        if part.number == 1 and part.type == BYTES:
            name = checked_name(_text(content, part))
        elif part.number == 2 and part.type == BYTES:
            op = _text(content, part)
        elif part.number == 5 and part.type == BYTES:
            attributes.append(part)
    if not name or not op:
        raise ValueError("a node has no name or no kind")
    graph.ops.add(op)
    if op == "Const":
        if name in graph.constants:
            raise ValueError(f"two nodes are called {name}")
        value = _attribute(content, attributes, "value", 8)
        if value is None:
            raise ValueError(f"{name} has no value")
        graph.constants[name] = _constant(name, content, value, path)
    elif op == "Placeholder":
        shape = _attribute(content, attributes, "shape", 7)
        if shape is not None:
            graph.placeholders[name] = _open_shape(content, shape)


def _attribute(content: Buffer, attributes: list[Field], key: str, kind: int) -> Field | None:
    """The value of an attribute, where it is of this kind."""
    for attribute in attributes:
        parts = {p.number: p for p in fields(content, attribute.start, attribute.stop)}
        if 1 in parts and 2 in parts and _text(content, parts[1]) == key:
            for value in fields(content, parts[2].start, parts[2].stop):
                if value.number == kind and value.type == BYTES:
                    return value
    return None


def _constant(name: str, content: Buffer, tensor: Field, path: Path) -> Constant:
    dtype = 0
    shape: tuple[int, ...] = ()
    places: dict[int, list[Field]] = {}
    for part in fields(content, tensor.start, tensor.stop):
        if part.number == 1 and part.type == VARINT:
            dtype = next(integers(content, part))
        elif part.number == 2 and part.type == BYTES:
            shape = parse_shape(content, part)
        else:
            places.setdefault(part.number, []).append(part)
    raw = [place for place in places.get(4, []) if place.stop > place.start]
    number = FIXED_VALUES.get(dtype, COUNTED_VALUES.get(dtype, 0))
    chosen = raw[-1:] or places.get(number, [])
    return Constant(name, dtype, shape, tuple(chosen), bool(raw), path)


def _open_shape(content: Buffer, shape: Field) -> tuple[int, ...]:
    """The sizes of a shape that are known: of an open one, TensorFlow's is −1."""
    sizes = []
    for dim in fields(content, shape.start, shape.stop):
        if dim.number == 2 and dim.type == BYTES:
            known = [
                next(integers(content, part))
                for part in fields(content, dim.start, dim.stop)
                if part.number == 1 and part.type == VARINT
            ]
            sizes.append(known[-1] if known else 0)
    return tuple(size for size in sizes if size >= 0)


def _check_sizes(graph: Graph, size: int) -> None:
    """Refuse constants that a few bytes blow up."""
    numbers = [constant for constant in graph.constants.values() if constant.is_number]
    for constant in numbers:
        itemsize = np.dtype(DTYPES[constant.dtype]).itemsize
        if constant.whole and constant.places[0].stop - constant.places[0].start != constant.bytes:
            raise ValueError(f"{constant.name} has not as many bytes as its shape {constant.shape}")
        if constant.dtype in FIXED_VALUES and any(
            (place.stop - place.start) % itemsize for place in constant.places
        ):
            raise ValueError(f"{constant.name} has half a number")
    filled = sum(constant.bytes for constant in numbers if not constant.whole)
    if filled > FILLED * size + 2**20:
        raise ValueError(
            f"constants that are one number throughout would take {filled:,} bytes, and the file "
            f"has {size:,}"
        )


def _text(content: Buffer, place: Field) -> str:
    return bytes(content[place.start : place.stop]).decode()
