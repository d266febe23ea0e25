"""CRC-32C (Castagnoli), the checksum of TensorFlow's files."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

MASK_DELTA = 0xA282EAD8
PIECE = 1 << 22
"""Bytes that are summed at once."""
LANE = 64
"""Bytes of a lane: the lanes of a piece are summed side by side."""


def crc32c(content: bytes | memoryview, before: int = 0) -> int:
    """The checksum of `content`, or of what has the checksum `before` followed by it.

    The remainder of a piece that another precedes is that of the piece with the other's remainder
    added to its first four bytes; zeros in front count for nothing.
    """
    state = before ^ 0xFFFFFFFF
    for start in range(0, len(content), PIECE):
        state = _remainder(content[start : start + PIECE], state)
    return state ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """A checksum as it is stored: rotated by 15 bits and moved by a constant."""
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def masked_crc32c(content: bytes) -> bytes:
    """The masked checksum of `content`, as four bytes."""
    return masked(crc32c(content)).to_bytes(4, "little")


def _remainder(piece: bytes | memoryview, state: int) -> int:
    if len(piece) < 4:
        for byte in piece:
            state = int(_remainders()[(state ^ byte) & 255]) ^ state >> 8
        return state
    lanes = 1 << (-(-len(piece) // LANE) - 1).bit_length()
    padded = np.zeros(lanes * LANE, dtype=np.uint8)
    own = padded[len(padded) - len(piece) :]
    own[:] = np.frombuffer(piece, dtype=np.uint8)
    own[:4] ^= np.frombuffer(state.to_bytes(4, "little"), dtype=np.uint8)
    columns = np.ascontiguousarray(padded.view("<u2").reshape(lanes, -1).T)
    first, second, third, fourth = _pairs()
    remainder = np.zeros(lanes, dtype=np.uint32)
    for at in range(0, LANE // 2, 4):
        remainder = (
            first[columns[at] ^ (remainder & 0xFFFF)]
            ^ second[columns[at + 1] ^ (remainder >> 16)]
            ^ third[columns[at + 2]]
            ^ fourth[columns[at + 3]]
        )
    level = LANE.bit_length() - 1
    while len(remainder) > 1:
        remainder = _move(remainder[0::2], level) ^ remainder[1::2]
        level += 1
    return int(remainder[0])


@cache
def _remainders() -> NDArray[np.uint32]:
    """Of each byte (256,)."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    return table


@cache
def _pairs() -> tuple[NDArray[np.uint32], ...]:
    """Of each two bytes (65536,), with 6, 4, 2 and 0 zero bytes behind them."""
    values = np.arange(1 << 16, dtype=np.uint32)
    table = _moves(0)[0][values & 255] ^ values >> 8
    tables = [_moves(0)[0][table & 255] ^ table >> 8]
    for _ in range(3):
        tables.append(_move(tables[-1], 1))
    return tuple(reversed(tables))


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
