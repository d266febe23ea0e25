"""CRC-32C: the standard's values, of any length, in one piece or in several."""

import random

import pytest

from glowflow.data.formats.crc32c import LANE, PIECE, crc32c
from tests.interop.tensorflow_files import crc32c as bit_by_bit


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_published_values(content, value):
    """RFC 3720, section B.4, and the check of the catalogue of CRCs."""
    assert crc32c(content) == value


def test_every_length_and_every_cut():
    content = random.Random(0).randbytes(4 * LANE + 5)
    for size in (*range(12), LANE - 1, LANE, LANE + 1, 2 * LANE + 3, len(content)):
        assert crc32c(content[:size]) == bit_by_bit(content[:size])
        assert crc32c(content[size:], crc32c(content[:size])) == crc32c(content)


def test_more_than_a_piece():
    content = random.Random(0).randbytes(PIECE + 3)
    assert crc32c(content[-10:], crc32c(content[:-10])) == crc32c(memoryview(content))
