"""TFRecord files and the examples in them, without TensorFlow."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError

CRC_DELTA = 0xA282EAD8
CRC_START = bytes.fromhex("54641f64")
"""Their remainder is 32 ones."""


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and content of each record: length (8 bytes), its checksum (4), content, checksum (4).

    Raises:
        InputError: the file is cut off, or a checksum differs.
    """
    with path.open("rb") as file:
        number = 0
        while header := file.read(12):
            length = int.from_bytes(header[:8], "little")
            if len(header) < 12 or masked_crc32c(header[:8]) != header[8:]:
                raise _damaged(path, number, "its length is cut off or has another checksum")
            start = file.tell()
            content = file.read(length)
            checksum = file.read(4)
            if len(content) < length or len(checksum) < 4:
                raise _damaged(path, number, "the file ends in it")
            if masked_crc32c(content) != checksum:
                raise _damaged(path, number, "its checksum differs")
            yield start, content
            number += 1


def _damaged(path: Path, number: int, reason: str) -> InputError:
    return InputError(f"Record {number} of {path} is damaged ({reason}): get the file again.")


def masked_crc32c(content: bytes) -> bytes:
    """CRC-32C (Castagnoli), rotated by 15 bits and moved by a constant, as in TFRecord files.

    The remainder of two pieces is the first one's, moved over the length of the second, xor the
    second one's: all bytes are taken in pairs, then all pairs, and so on. Zeros in front count for
    nothing, and `CRC_START` brings about the customary start of 32 ones.
    """
    content = CRC_START + content
    room = 1 << (len(content) - 1).bit_length()
    padded = np.zeros(room, dtype=np.uint8)
    padded[room - len(content) :] = np.frombuffer(content, dtype=np.uint8)
    remainder, level = _remainders()[padded], 0
    while len(remainder) > 1:
        remainder = _move(remainder[0::2], level) ^ remainder[1::2]
        level += 1
    crc = int(remainder[0]) ^ 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + CRC_DELTA) & 0xFFFFFFFF
    return masked.to_bytes(4, "little")


@cache
def _remainders() -> NDArray[np.uint32]:
    """Of each byte (256,)."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    return table


def _move(remainder: NDArray[np.uint32], level: int) -> NDArray[np.uint32]:
    """The remainder with 2^level zero bytes behind it."""
    a, b, c, d = _moves(level)
    return (
        a[remainder & 255] ^ b[remainder >> 8 & 255] ^ c[remainder >> 16 & 255] ^ d[remainder >> 24]
    )


@cache
def _moves(level: int) -> NDArray[np.uint32]:
    """`_move` of each value of each of the four bytes (4, 256)."""
    values = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16], [24]], dtype=np.uint32)
    if level == 0:
        return _remainders()[values & 255] ^ (values >> 8)
    return _move(_move(values, level - 1), level - 1)


class Feature(NamedTuple):
    """One feature of an example: a string, as a place in the record, or integers."""

    start: int = 0
    size: int = 0
    integers: tuple[int, ...] = ()


def parse_example(content: bytes) -> dict[str, Feature]:
    """The features of a serialised `tf.train.Example`, without those that are floats.

    Example = {1: Features}, Features = {1: repeated {1: name, 2: Feature}}, Feature =
    {1: {1: repeated bytes}} or {3: {1: repeated integer, packed or not}}.

    Raises:
        ValueError: the content is something else.
        IndexError: it is cut off.
    """
    features = {}
    for _, start, stop in _fields(content, 0, len(content), 1):
        for _, entry, entry_stop in _fields(content, start, stop, 1):
            ((_, key, key_stop),) = _fields(content, entry, entry_stop, 1)
            ((_, value, value_stop),) = _fields(content, entry, entry_stop, 2)
            name = content[key:key_stop].decode("utf-8")
            features[name] = _feature(content, value, value_stop)
    return features


def _feature(content: bytes, start: int, stop: int) -> Feature:
    for _, first, last in _fields(content, start, stop, 1):
        ((_, at, end),) = _fields(content, first, last, 1)
        return Feature(start=at, size=end - at)
    integers: list[int] = []
    for _, first, last in _fields(content, start, stop, 3):
        for wire, at, end in _fields(content, first, last, 1):
            if wire == 0:
                integers.append(_signed(_varint(content, at)[0]))
            while wire == 2 and at < end:
                value, at = _varint(content, at)
                integers.append(_signed(value))
    return Feature(integers=tuple(integers))


def _fields(content: bytes, at: int, stop: int, wanted: int) -> Iterator[tuple[int, int, int]]:
    """Wire type, start and end of each field with the number `wanted` of a protobuf message."""
    while at < stop:
        tag, at = _varint(content, at)
        wire = tag & 7
        if wire == 0:
            end = _varint(content, at)[1]
        elif wire == 2:
            size, at = _varint(content, at)
            end = at + size
        elif wire in (1, 5):
            end = at + (8 if wire == 1 else 4)
        else:
            raise ValueError(f"wire type {wire}")
        if end > stop:
            raise ValueError("a field is longer than its message")
        if tag >> 3 == wanted:
            yield wire, at, end
        at = end


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
