"""The wire format of protocol buffers: messages are fields, each with a number and a type."""

import mmap
from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Types of fields."""

Buffer = bytes | memoryview | mmap.mmap


class Field(NamedTuple):
    """A field, and where in the buffer its value is."""

    number: int
    type: int
    start: int
    stop: int


def fields(content: Buffer, start: int = 0, stop: int | None = None) -> Iterator[Field]:
    """Each field of the message between two places, in the order of the file.

    Raises:
        ValueError: there is no message, or it is cut off.
    """
    at, end = start, len(content) if stop is None else stop
    while at < end:
        tag, at = varint(content, at, end)
        kind = tag & 7
        if kind == VARINT:
            after = varint(content, at, end)[1]
        elif kind == BYTES:
            size, at = varint(content, at, end)
            after = at + size
        elif kind in (FIXED64, FIXED32):
            after = at + (8 if kind == FIXED64 else 4)
        else:
            raise ValueError(f"a field has the type {kind}")
        if after > end:
            raise ValueError("a field is longer than its message")
        yield Field(tag >> 3, kind, at, after)
        at = after


def varint(content: Buffer, start: int, stop: int) -> tuple[int, int]:
    """An unsigned number of up to ten bytes, and where it ends.

    Raises:
        ValueError: it is longer, or goes beyond `stop`.
    """
    value = 0
    for at in range(start, min(stop, start + 10)):
        byte = content[at]
        value |= (byte & 127) << 7 * (at - start)
        if byte < 128:
            return value, at + 1
    raise ValueError("a number is cut off")


def signed(value: int) -> int:
    """A number of 64 bits with a sign, from the unsigned one."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def integers(content: Buffer, field: Field) -> Iterator[int]:
    """The values of a repeated field of integers, packed or not."""
    at = field.start
    while at < field.stop:
        value, at = varint(content, at, field.stop)
        yield signed(value)
