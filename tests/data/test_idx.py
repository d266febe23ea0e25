"""The IDX format: what is damaged is refused."""

import gzip

import numpy as np
import pytest

from glowflow import InputError
from glowflow.data.formats.idx import read_idx


def idx(array):
    array = np.asarray(array, dtype=np.uint8)
    lengths = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"\0\0\x0d\x03" + bytes(20), "begins with 00 00 0d 03"),
        (b"\0\0\x08", "begins with 00 00 08 and"),
        (b"\0\0\x08\x09", "begins with 00 00 08 09"),
        (b"\x89PNG", "begins with 89 50 4e 47"),
        (idx(np.zeros((2, 3, 3)))[:-1], "announces 2 x 3 x 3 bytes and has 17"),
        (idx(np.zeros((2, 3, 3))) + b"x", "announces 2 x 3 x 3 bytes and has 19"),
        (idx(np.zeros((2, 3, 3)))[:9], "has 0"),
        (idx(np.zeros((0, 3, 3))), "announces 0 x 3 x 3"),
    ],
)
@pytest.mark.parametrize("compress", [True, False])
def test_bad_files(tmp_path, content, message, compress):
    path = tmp_path / ("a.gz" if compress else "a")
    path.write_bytes(gzip.compress(content) if compress else content)
    with pytest.raises(InputError, match=message):
        read_idx(path)


@pytest.mark.parametrize("cut", [5, 30])
def test_truncated_gz(tmp_path, cut):
    whole = gzip.compress(idx(np.zeros((9, 3, 3))))
    (tmp_path / "a.gz").write_bytes(whole[:cut])
    with pytest.raises(InputError, match="it is damaged"):
        read_idx(tmp_path / "a.gz")
