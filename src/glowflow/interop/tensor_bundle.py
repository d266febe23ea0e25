"""TensorFlow 1 checkpoints, without TensorFlow: an index, and files of bare numbers beside it.

The index is a table of LevelDB: blocks of entries sorted by name, each block with a checksum, and
at the end the place of the block that says where the others are. The entry "" describes the
checkpoint, every other one a tensor: its dtype, shape, file, place and checksum.
"""

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.formats.crc32c import crc32c, masked, masked_crc32c
from ..data.formats.protobuf import BYTES, Buffer, Field, fields, integers, varint
from ..errors import CheckpointError
from .stored import LONGEST_NAME, Stored, as_tensor, checked_name, read_numbers

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
"""The last bytes of an index."""
FOOTER = 48
TRAILER = 5
"""Bytes behind a block: its compression, and its checksum."""
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 9: "<i8", 10: "|b1",
          14: "<u2", 19: "<f2"}  # fmt: skip
"""TensorFlow's numbers of dtypes, in NumPy's words; 14 is bfloat16, which NumPy has as bytes."""
BFLOAT16 = 14
MOST_DIMS = 8
PIECE = 1 << 24
"""Bytes that are read at once where only the checksum is wanted."""


@dataclass(frozen=True)
class Entry:
    """A tensor of a checkpoint, as the index describes it."""

    name: str
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def read_bundle(prefix: Path) -> Mapping[str, Tensor]:
    """The tensors of the checkpoint of which `prefix` is the name without `.index`.

    All checksums are compared; a tensor is read when it is asked for.

    Raises:
        CheckpointError: a file is missing, damaged, cut off, or of another kind.
    """
    index = prefix.with_name(prefix.name + ".index")
    try:
        content = index.read_bytes()
    except OSError as error:
        raise CheckpointError(f"Cannot read {index} ({error.strerror}): give another.") from error
    try:
        shards, entries = parse_index(content)
    except (ValueError, IndexError, struct.error) as error:
        raise CheckpointError(
            f"{index} is damaged, or no index of a TensorFlow checkpoint ({error}): get it again."
        ) from error
    paths = {
        shard: prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")
        for shard in sorted({entry.shard for entry in entries})
    }
    for shard, path in paths.items():
        _check_shard(path, [entry for entry in entries if entry.shard == shard])
    return Stored({entry.name: partial(_read, paths[entry.shard], entry) for entry in entries})


def parse_index(content: bytes) -> tuple[int, list[Entry]]:
    """The number of data files, and the tensors in the order of their names.

    Raises:
        ValueError: it is damaged, or another kind of file.
    """
    if len(content) < FOOTER or content[-8:] != MAGIC:
        raise ValueError("its last bytes are others")
    footer = len(content) - FOOTER
    at = footer
    for _ in range(2):  # offset and size of the metaindex, which is empty
        _, at = varint(content, at, len(content))
    handles = list(_entries(_block(content, *_handle(content, at, len(content)))))
    names: list[bytes] = []
    values: list[bytes] = []
    reached = 0
    for _, handle in handles:
        offset, size = _handle(handle, 0, len(handle))
        if offset < reached:
            raise ValueError("its blocks overlap")
        reached = offset + size + TRAILER
        for name, value in _entries(_block(content, offset, size)):
            names.append(name)
            values.append(value)
    if any(a >= b for a, b in pairwise(names)):
        raise ValueError("its names are not sorted")
    if not names or names[0] != b"":
        raise ValueError("it has no header")
    shards = _parse_header(values[0])
    entries = [
        _parse_entry(checked_name(name.decode()), value, shards)
        for name, value in zip(names[1:], values[1:], strict=True)
    ]
    return shards, entries


def _handle(content: bytes, at: int, stop: int) -> tuple[int, int]:
    offset, at = varint(content, at, stop)
    size, _ = varint(content, at, stop)
    return offset, size


def _block(content: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + TRAILER > len(content) - FOOTER:
        raise ValueError("a block goes beyond the end")
    kind, crc = content[end], content[end + 1 : end + TRAILER]
    if masked_crc32c(content[offset : end + 1]) != crc:
        raise ValueError("the checksum of a block differs")
    if kind != 0:
        raise ValueError("a block is compressed, as TensorFlow before 1.2 did it")
    return content[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each entry; a key has the beginning of the one before it left out."""
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    stop = len(block) - 4 - 4 * restarts
    if stop < 0:
        raise ValueError("a block is too short")
    at, key = 0, b""
    while at < stop:
        shared, at = varint(block, at, stop)
        unshared, at = varint(block, at, stop)
        size, at = varint(block, at, stop)
        if shared > len(key) or at + unshared + size > stop:
            raise ValueError("an entry goes beyond its block")
        key = key[:shared] + block[at : at + unshared]
        if len(key) > 4 * LONGEST_NAME:  # each shares its beginning with the one before
            raise ValueError(f"a name has more than {4 * LONGEST_NAME} bytes")
        at += unshared
        yield key, block[at : at + size]
        at += size


def _parse_header(value: bytes) -> int:
    numbers = {f.number: next(integers(value, f)) for f in fields(value) if f.type != BYTES}
    shards = numbers.get(1, 0)
    if not 1 <= shards < 100_000:
        raise ValueError(f"it names {shards} data files")
    if numbers.get(2, 0) != 0:
        raise ValueError("its numbers are big-endian, which is not read")
    return shards


def _parse_entry(name: str, value: bytes, shards: int) -> Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}
    shape: tuple[int, ...] = ()
    crc = 0
    for field in fields(value):
        if field.number == 2 and field.type == BYTES:
            shape = parse_shape(value, field)
        elif field.number == 6:
            (crc,) = struct.unpack_from("<I", value, field.start)
        elif field.number in numbers and field.type != BYTES:
            numbers[field.number] = next(integers(value, field))
        elif field.number == 7:
            raise ValueError(f"{name} is stored in slices, which are not read")
    dtype, shard, offset, size = numbers.values()
    if dtype not in DTYPES:
        raise ValueError(f"{name} is of TensorFlow's dtype {dtype}, which holds no numbers")
    if not 0 <= shard < shards or offset < 0 or size != _bytes_of(dtype, shape):
        raise ValueError(f"{name} has a place or a size that cannot be")
    return Entry(name, dtype, shape, shard, offset, size, crc)


def parse_shape(content: Buffer, field: Field) -> tuple[int, ...]:
    """The sizes of a shape, a message in which each is a message.

    Raises:
        ValueError: a size is negative, or there are more than any tensor has.
    """
    sizes = []
    for dim in fields(content, field.start, field.stop):
        if dim.number == 2 and dim.type == BYTES:
            size = 0
            for part in fields(content, dim.start, dim.stop):
                if part.number == 1 and part.type != BYTES:
                    size = next(integers(content, part))
            sizes.append(size)
    if len(sizes) > MOST_DIMS or any(size < 0 for size in sizes):
        raise ValueError("a shape cannot be")
    return tuple(sizes)


def _bytes_of(dtype: int, shape: tuple[int, ...]) -> int:
    size = np.dtype(DTYPES[dtype]).itemsize
    for length in shape:
        size *= length
    return size


def _check_shard(path: Path, entries: list[Entry]) -> None:
    """Compare places with the size of the file, and the checksums of all that is in it."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            reached = 0
            for entry in sorted(entries, key=lambda e: (e.offset, e.size)):
                if entry.offset < reached:
                    raise CheckpointError(
                        f"{entry.name} and another tensor are at the same place of {path}: the "
                        "index is damaged; get it again."
                    )
                reached = entry.offset + entry.size
                if reached > size:
                    raise CheckpointError(
                        f"{path} has {size:,} bytes and {entry.name} ends at byte {reached:,}: the "
                        "file is cut off, or of another checkpoint; get it again."
                    )
                file.seek(entry.offset)
                crc, left = 0, entry.size
                while left and (piece := file.read(min(left, PIECE))):
                    crc, left = crc32c(piece, crc), left - len(piece)
                if masked(crc) != entry.crc:
                    raise CheckpointError(
                        f"{entry.name} in {path} has another checksum than the index says: the "
                        "file is damaged, or of another checkpoint; get it again."
                    )
    except OSError as error:
        raise CheckpointError(
            f"Cannot read {path} ({error.strerror}): it belongs beside the index."
        ) from error


def _read(path: Path, entry: Entry) -> Tensor:
    dtype = np.dtype(DTYPES[entry.dtype])
    values = read_numbers(path, dtype, entry.size // dtype.itemsize, entry.offset)
    if entry.dtype == BFLOAT16:
        return as_tensor(values.view("<i2"), entry.shape).view(torch.bfloat16)
    return as_tensor(values, entry.shape)
