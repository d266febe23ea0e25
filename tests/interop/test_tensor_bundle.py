"""TensorFlow 1 checkpoints: whole ones are read, others end in a sentence."""

import numpy as np
import pytest

from glowflow import CheckpointError
from glowflow.interop.tensor_bundle import read_bundle

from . import tensorflow_files as tf

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b/scalar": np.float64(3.5),
    "b/whole": np.arange(-3, 3, dtype=np.int64),
    "c": np.ones((2, 0), dtype=np.float32),
    "d": np.array([0.5, -2], dtype=np.float16),
}


@pytest.mark.parametrize(("shards", "per_block"), [(1, 50), (1, 2), (3, 1)])
def test_all_blocks_and_all_data_files_are_read(tmp_path, shards, per_block):
    tf.write_checkpoint(tmp_path / "m", TENSORS, shards=shards, per_block=per_block)
    read = read_bundle(tmp_path / "m")
    assert list(read) == list(TENSORS)
    for name, expected in TENSORS.items():
        found = read[name].numpy()
        assert found.dtype == np.asarray(expected).dtype and np.array_equal(found, expected)


def test_the_official_checkpoint(official, golden_variables):
    read = read_bundle(official / "model_best_loss.ckpt")
    assert len(read) == 325
    assert all(np.array_equal(read[n].numpy(), value) for n, value in golden_variables.items())


def refused(prefix, message):
    with pytest.raises(CheckpointError, match=message):
        read_bundle(prefix)


LIES = {
    "another checksum": ({"crc": 0}, "a in .* has another checksum"),
    "beyond the end": ({"offset": 1000}, "the file is cut off"),
    "negative": ({"offset": -1}, "a place or a size that cannot be"),
    "a size for another shape": ({"size": 20}, "a place or a size that cannot be"),
    "larger than the file": ({"shape": (2**31, 2**31), "size": 2**64 - 1}, "cannot be"),
    "huge": ({"shape": (2**30,), "size": 2**32}, "the file is cut off"),
    "text": ({"dtype": 7}, "dtype 7, which holds no numbers"),
    "no such file": ({"shard": 3}, "a place or a size that cannot be"),
    "many axes": ({"shape": (1,) * 99}, "a shape cannot be"),
    "on another": ({"offset": 8}, "another tensor are at the same place|another checksum"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_index_that_lies(tmp_path, lie):
    change, message = LIES[lie]
    tf.write_checkpoint(
        tmp_path / "m",
        TENSORS,
        change=lambda name, entry: entry | change if name == "a" else entry,
    )
    refused(tmp_path / "m", message)


def test_many_names_for_the_same_bytes(tmp_path):
    """Or a small file would become a large model."""
    same = {f"n{i}": np.arange(4, dtype=np.float32) for i in range(9)}
    tf.write_checkpoint(tmp_path / "m", same, change=lambda _, entry: entry | {"offset": 0})
    refused(tmp_path / "m", "another tensor are at the same place")


def damaged_tables():
    good = [(b"", tf.number(1, 1)), (b"a", b""), (b"b", b"")]
    whole = tf.table(good)
    handle = tf.varint(0) + tf.varint(2**40)
    footer = len(whole) - 48
    yield "empty", b"", "its last bytes are others"
    yield "only an end", whole[-48:], "beyond the end"
    nowhere = whole[:footer] + (handle * 2).ljust(40, b"\0") + whole[-8:]
    yield "a handle into nowhere", nowhere, "beyond the end"
    yield "numbers cut off", whole[:footer] + b"\xff" * 40 + whole[-8:], "cut off"
    yield "unsorted", tf.table([good[0], good[2], good[1]]), "not sorted"
    yield "twice", tf.table([*good, good[2]]), "not sorted"
    yield "no header", tf.table(good[1:]), "no header"
    yield "big-endian", tf.table([(b"", tf.number(1, 1) + tf.number(2, 1))]), "big-endian"
    yield "no data files", tf.table([(b"", tf.number(1, 0))]), "0 data files"
    yield "slices", tf.table([good[0], (b"a", tf.text(7, b""))]), "slices"
    yield "a long name", tf.table([good[0], (b"a" * 600, b"")]), "longer than 512"
    yield "a very long name", tf.table([good[0], (b"a" * 3000, b"")]), "2048 bytes"
    yield "a name of two lines", tf.table([good[0], (b"a\nb", b"")]), "is no text"
    itself = tf.block([(b"z", b"\0\0")])
    itself = tf.block([(b"z", tf.varint(0) + tf.varint(len(itself) - 5))])
    yield "a block of itself", itself + footer_at(0, itself), "no header"
    first = tf.block([(b"", b"")])
    handles = tf.block([(b"a", tf.varint(0) + tf.varint(len(first) - 5))] * 2)
    yield "a block twice", first + handles + footer_at(len(first), handles), "overlap"


def footer_at(offset, block):
    """The end of a table whose index is this block."""
    place = tf.varint(offset) + tf.varint(len(block) - 5)
    return (place * 2).ljust(40, b"\0") + tf.struct.pack("<Q", tf.MAGIC)


@pytest.mark.parametrize(
    ("content", "message"),
    [pytest.param(content, message, id=name) for name, content, message in damaged_tables()],
)
def test_a_damaged_index(tmp_path, content, message):
    (tmp_path / "m.index").write_bytes(content)
    refused(tmp_path / "m", message)


def test_a_compressed_block_is_told(tmp_path):
    content = bytearray(tf.table([(b"", tf.number(1, 1))]))
    size = len(tf.block([(b"", tf.number(1, 1))])) - 5
    content[size] = 1
    content[size + 1 : size + 5] = tf.struct.pack(
        "<I", tf.masked(tf.crc32c(bytes(content[: size + 1])))
    )
    (tmp_path / "m.index").write_bytes(content)
    refused(tmp_path / "m", "compressed")


def test_files_that_are_missing(tmp_path):
    refused(tmp_path / "m", r"Cannot read .*m\.index")
    tf.write_checkpoint(tmp_path / "m", TENSORS)
    (tmp_path / "m.data-00000-of-00001").unlink()
    refused(tmp_path / "m", "belongs beside the index")


@pytest.mark.parametrize("place", [0, 100_000, 2_000_000])
def test_one_bit_of_the_data(official, tmp_path, place):
    """Of weights, slots or averages."""
    for path in official.glob("model_best_loss*"):
        content = bytearray(path.read_bytes())
        if ".data" in path.name:
            content[place] ^= 16
        (tmp_path / path.name).write_bytes(content)
    refused(tmp_path / "model_best_loss.ckpt", "another checksum")
