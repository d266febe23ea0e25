"""CelebA-HQ's TFRecord files, written here byte by byte."""

import struct

import numpy as np
import pytest

from glowflow import InputError
from glowflow.data.formats.crc32c import masked_crc32c
from glowflow.data.formats.tfrecord import parse_example
from glowflow.data.sources.celeba import ATTRIBUTES


def checksum(content):
    """Bit by bit, straight from the definition."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(value):
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def integers(values, packed=True):
    if packed:
        return field(3, field(1, b"".join(map(varint, values))))
    return field(3, b"".join(varint(1 << 3) + varint(v) for v in values))


def example(features):
    entries = [field(1, field(1, k.encode()) + field(2, v)) for k, v in features.items()]
    return field(1, b"".join(entries))


def image(i, side):
    pixels = np.full((side, side, 3), 10 * i, dtype=np.uint8)
    pixels[0, 1] = (1, 2, 3)
    return pixels


def face(i, side=8, **changes):
    pixels = image(i, side)
    return example(
        {
            "shape": integers(pixels.shape),
            "data": field(1, field(1, pixels.tobytes())),
            "label": integers([0]),
            "attr": integers([1 if (i + a) % 3 == 0 else -1 for a in range(40)]),
            **changes,
        }
    )


def record(content):
    length = struct.pack("<Q", len(content))
    return length + checksum(length) + content + checksum(content)


def write(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(record, contents)))


@pytest.fixture
def folder(tmp_path):
    """Two shards to train on and one to validate, at 8x8 (r03) and 4x4 (r02)."""
    root = tmp_path / "celeba-tfr"
    for log2, side in ((3, 8), (2, 4)):
        for shard in range(2):
            name = f"train-r{log2:02d}-s-{shard:04d}-of-0002.tfrecords"
            write(root / "train" / name, [face(6 * shard + i, side) for i in range(6)])
        name = f"validation-r{log2:02d}-s-0000-of-0001.tfrecords"
        write(root / "validation" / name, [face(20 + i, side) for i in range(3)])
    return root


SHARD = "train/train-r03-s-0001-of-0002.tfrecords"


def test_images_and_attributes(folder, read):
    splits = read(folder)
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [10, 2, 3]
    assert splits.dataset == "celebahq"
    assert splits.source == "CelebA-HQ: 15 images, 8x8 RGB"
    assert splits.completeness == "incomplete: train 12 of 27,000, validation 3 of 3,000"
    assert splits.train.attribute_names == ATTRIBUTES
    assert splits.train.labels is None
    seen = []
    for part in (splits.train, splits.valid, splits.test):
        for got, truth in zip(part.images, part.attributes, strict=True):
            i = int(got[0, 0, 0]) // 10
            seen.append(i)
            assert np.array_equal(got, image(i, 8).transpose(2, 0, 1))
            assert truth.tolist() == [(i + a) % 3 == 0 for a in range(40)]
            assert (i >= 20) == (part is splits.test)
    assert sorted(seen) == [*range(12), 20, 21, 22]


def test_the_size_that_is_asked_for_is_read(folder, read):
    splits = read(folder, size=(4, 4))
    assert all(name.startswith("train-r02") for name in splits.train.names)
    assert np.array_equal(splits.test.images[0], image(20, 4).transpose(2, 0, 1))
    assert all("-r03" in name for name in read(folder, size=(2, 2)).train.names)


def test_other_records(tmp_path, read):
    for part, count in (("train", 8), ("test", 2)):
        contents = [
            face(i, label=integers([i % 3], packed=False), attr=integers([])) for i in range(count)
        ]
        write(tmp_path / "set" / f"{part}.tfrecords", contents)
    splits = read(tmp_path / "set")
    assert (splits.dataset, splits.counts, splits.train.attributes) == ("", (), None)
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [5, 3, 2]
    for got, label in zip(splits.train.images, splits.train.labels, strict=True):
        assert label == int(got[0, 0, 0]) // 10 % 3


def test_missing_shard(folder, read):
    (folder / SHARD).unlink()
    with pytest.raises(InputError, match="1 of the 2 files train-r03-…; number 1 is the first"):
        read(folder)


@pytest.mark.parametrize("position", [3, 9, 40, -1])
def test_a_changed_byte(folder, read, position):
    content = bytearray((folder / SHARD).read_bytes())
    content[position] ^= 1
    (folder / SHARD).write_bytes(content)
    with pytest.raises(InputError, match=r"Record \d of .*s-0001.* is damaged \(.*checksum"):
        read(folder)


@pytest.mark.parametrize("cut", [1, 4, 5, 100, 600])
def test_truncated(folder, read, cut):
    content = (folder / SHARD).read_bytes()
    assert len(content) % 6 == 0
    (folder / SHARD).write_bytes(content[:-cut])
    with pytest.raises(InputError, match=r"damaged \((the file ends in it|its length)"):
        read(folder)


@pytest.mark.parametrize(
    "content",
    [
        face(0, shape=integers([8, 8])),
        face(0, shape=integers([8, 8, 4])),
        face(0, shape=integers([8, -8, -3])),
        face(0, data=integers([1])),
        example({"data": field(1, field(1, b"x"))}),
        b"",
        b"\x0a\x05\x0a",
        b"\x0b\x01",
        b"\xff" * 20,
    ],
)
def test_records_of_another_kind(folder, read, content):
    write(folder / SHARD, [face(0), content])
    with pytest.raises(InputError, match=r"tfrecords\[1\] in .* has no `shape`"):
        read(folder)


def test_records_that_differ(folder, read):
    write(folder / SHARD, [face(0, 8), face(0, 16)])
    with pytest.raises(InputError, match="differ in shape"):
        read(folder)


def test_empty_files(tmp_path, read):
    write(tmp_path / "set" / "train.tfrecords", [])
    with pytest.raises(InputError, match="0 records"):
        read(tmp_path / "set")


def test_checksum():
    assert checksum(b"123456789") == masked_crc32c(b"123456789")
    crc = 0xE3069283  # published check value of CRC-32C
    assert masked_crc32c(b"123456789") == struct.pack(
        "<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    )
    random = np.random.default_rng(0)
    for length in [*range(40), 255, 256, 257, 1000]:
        content = random.bytes(length)
        assert masked_crc32c(content) == checksum(content), length


def test_other_features_are_passed_over():
    floats = field(2, field(1, struct.pack("<2f", 1, 2)))
    features = parse_example(example({"f": floats, "i": integers([-1, 2**40])}))
    assert features["f"].integers == ()
    assert features["i"].integers == (-1, 2**40)
