"""Pickles are read, and nothing in them is run."""

import os
import pickle

import numpy as np
import pytest

from glowflow import InputError
from glowflow.data.formats.pickles import load_pickle

CONTENT = {
    "data": np.arange(12, dtype=np.uint8).reshape(2, 6),
    "labels": [3, 1],
    "batch_label": "testing batch 1 of 1",
    "mean": np.linspace(0, 1, 4),
    "bytes": b"\x00\xff",
    "nothing": None,
}


class Attack:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def written(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_contents(tmp_path, protocol, package):
    path = written(tmp_path / "a", CONTENT, protocol)
    if protocol < 4:  # in protocol 4 the length of the name is written before it
        path.write_bytes(path.read_bytes().replace(b"numpy._core", package))
    got = load_pickle(path)
    assert got.keys() == CONTENT.keys()
    assert np.array_equal(got["data"], CONTENT["data"])
    assert got["data"].dtype == np.uint8
    assert np.array_equal(got["mean"], CONTENT["mean"])
    assert {k: v for k, v in got.items() if k not in ("data", "mean")} == {
        k: v for k, v in CONTENT.items() if k not in ("data", "mean")
    }


def test_strings_of_python_2_are_latin_1(tmp_path):
    (tmp_path / "a").write_bytes(b"\x80\x02}U\x04dataU\x02\xe9\xffs.")
    assert load_pickle(tmp_path / "a") == {"data": "\xe9\xff"}


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_an_attack_does_not_run(tmp_path, protocol):
    mark = tmp_path / "mark"
    path = written(tmp_path / "a", {"data": Attack(os.mkdir, str(mark))}, protocol)
    with pytest.raises(InputError, match=rf"asks for {os.mkdir.__module__}\.mkdir.*was not run"):
        load_pickle(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.is_dir(), "the attack is harmless, and the test worthless"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("os", "system"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy.core.multiarray", "scalar"),
        ("_codecs", "decode"),
        ("numpy", "ndarray.tofile"),
    ],
)
def test_every_other_name_is_refused(tmp_path, module, name):
    (tmp_path / "a").write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(InputError, match=f"asks for {module}.{name}"):
        load_pickle(tmp_path / "a")


def test_allowed_names_cannot_be_misused(tmp_path):
    (tmp_path / "a").write_bytes(b"cnumpy\nndarray\n(I4\ntR.")
    with pytest.raises(InputError, match="damaged"):
        load_pickle(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"c_codecs\nencode\n(Vx\nVzip\ntR.")
    with pytest.raises(InputError, match="the encoding zip"):
        load_pickle(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"\x80", b"no pickle at all", b"\x80\x02}U\x04da"])
def test_damaged(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match="damaged, or not a pickle"):
        load_pickle(tmp_path / "a")


def test_truncated_anywhere(tmp_path):
    whole = pickle.dumps(CONTENT, protocol=2)
    for stop in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:stop])
        with pytest.raises(InputError, match="damaged"):
            load_pickle(tmp_path / "a")
