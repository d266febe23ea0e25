"""LSUN's databases."""

import io
import sys

import lmdb
import numpy as np
import pytest
from PIL import Image

from glowflow import InputError


def write(path, count, first=0):
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=10 << 20) as base, base.begin(write=True) as transaction:
        for i in range(first, first + count):
            file = io.BytesIO()
            Image.new("RGB", (96, 80), (10 * i, 50, 200)).save(file, "WEBP", lossless=True)
            transaction.put(f"{i:040x}".encode(), file.getvalue())
    return path


@pytest.fixture
def bedroom(tmp_path):
    write(tmp_path / "lsun" / "bedroom_train_lmdb", 10)
    write(tmp_path / "lsun" / "bedroom_val_lmdb", 3, first=20)
    return tmp_path / "lsun"


def test_train_and_val(bedroom, read):
    splits = read(bedroom)
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [8, 2, 3]
    assert splits.train.image_shape == (3, 64, 64)
    assert splits.test.images[:, 0, 5, 5].tolist() == [200, 210, 220]
    assert splits.test.names[0] == f"bedroom_val_lmdb/{20:040x}"
    assert (splits.dataset, splits.train.labels) == ("lsun-bedroom", None)
    assert splits.source == "LSUN bedroom: 13 images, 64x64 RGB"
    assert splits.completeness == (
        "incomplete: bedroom train 10 of 3,033,042, bedroom val 3 of 300"
    )


def test_one_database(bedroom, read):
    splits = read(bedroom / "bedroom_train_lmdb")
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [8, 1, 1]
    assert splits.dataset == "lsun-bedroom"


def test_several_categories_are_classes(bedroom, read):
    write(bedroom / "tower_train_lmdb", 5)
    splits = read(bedroom)
    assert splits.train.class_names == ("bedroom", "tower")
    for name, label in zip(splits.train.names, splits.train.labels, strict=True):
        assert name.startswith(("bedroom", "tower")[label])
    assert splits.dataset == ""
    assert "tower train 5 of 708,264" in splits.completeness


def test_any_other_database(tmp_path, read):
    splits = read(write(tmp_path / "photos", 10), size=(32, 32))
    assert (splits.dataset, splits.counts) == ("", ())
    assert splits.source == "photos: 10 images, 32x32 RGB"


def test_nothing_is_written_beside_it(bedroom, read):
    before = sorted(p.name for p in bedroom.rglob("*"))
    read(bedroom)
    assert sorted(p.name for p in bedroom.rglob("*")) == before


def test_broken_image_is_named(bedroom, read):
    path = bedroom / "bedroom_train_lmdb"
    with lmdb.open(str(path), map_size=10 << 20) as base, base.begin(write=True) as transaction:
        transaction.put(b"broken", b"no image")
    assert [s.split(":")[0] for s in read(bedroom).skipped] == ["bedroom_train_lmdb/broken"]


def test_damaged(bedroom, read):
    (bedroom / "bedroom_train_lmdb" / "data.mdb").write_bytes(bytes(np.zeros(20000, np.uint8)))
    with pytest.raises(InputError, match="bedroom_train_lmdb: it is damaged"):
        read(bedroom)


def test_without_the_package(bedroom, read, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(InputError, match=r"package lmdb: pip install 'glowflow\[lsun\]'"):
        read(bedroom)
