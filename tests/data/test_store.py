"""The array: how it is split, limited, checked and described."""

import shutil
from collections import namedtuple
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowflow import DataConfig, InputError
from glowflow.data.partition import complete_partition, hash_of, limit_parts, split_of
from glowflow.data.store import READ_AHEAD, Selection, read_splits, replace_folder, store
from glowflow.data.types import TEST, TRAIN, VALID, Count, Source, Splits
from glowflow.models.conditions import Condition
from glowflow.photos.images import UnreadableImageError

HASH = 16561718806954029357
counts = st.lists(st.integers(0, 60), min_size=3, max_size=3).filter(lambda n: sum(n) >= 3)
shares = st.floats(0.01, 0.49)


def named(count):
    return [f"{i}.png" for i in range(count)]


@given(counts, shares, st.randoms(), st.sampled_from(["hash", "shuffle"]))
@settings(deadline=None)
def test_own_parts_are_kept_and_missing_ones_are_made(sizes, held_out, shuffler, split):
    own = np.repeat([TRAIN, VALID, TEST], sizes)
    shuffler.shuffle(own)
    names = named(len(own))
    got = complete_partition(names, own, held_out, split)
    train, valid, test = sizes
    if not valid and not test:
        assert (got == split_of(names, held_out, split)).all()
    elif valid and test:
        assert (got == own).all()
    else:
        assert ((got == TEST) == (own != TRAIN)).all()
        if split == "shuffle":
            assert (got == VALID).sum() == min(max(1, round(train * held_out)), train // 2)
        elif train > 1:
            assert 1 <= (got == VALID).sum() < train
    assert (complete_partition(names, own, held_out, split) == got).all()


@given(st.sets(st.text(max_size=8), min_size=30, max_size=80), st.text(max_size=8), shares)
@settings(deadline=None)
def test_another_name_moves_nobody(names, another, held_out):
    names = sorted(names - {another})
    before = split_of(names, held_out)
    uniform = np.array([hash_of(name) / 2**64 for name in names])
    plain = np.where(uniform < held_out, VALID, np.where(uniform < 2 * held_out, TEST, TRAIN))
    after = split_of([another, *names], held_out)[1:]
    if set(plain) == {TRAIN, VALID, TEST}:  # else a part had to be filled
        assert (before == plain).all()
        assert (after == before).all()


def test_the_hash_is_the_same_everywhere():
    assert hash_of("000001.png") == HASH


@given(counts, shares, st.integers(3, 200))
@settings(deadline=None)
def test_a_limit_is_kept_in_every_part(sizes, held_out, limit):
    partition = np.repeat([TRAIN, VALID, TEST], sizes)
    names = named(len(partition))
    chosen = limit_parts(names, partition, limit, held_out)
    assert len(chosen) <= limit
    assert len(set(chosen)) == len(chosen)
    assert (np.diff(chosen) > 0).all()
    for part, size in enumerate(sizes):
        assert min(size, 1) <= (partition[chosen] == part).sum() <= size
    if limit >= sum(sizes):
        assert len(chosen) == sum(sizes)
    if limit < sum(sizes):
        more = limit_parts([*names, "more"], np.append(partition, TRAIN), limit, held_out)
        assert len(set(chosen) - set(more)) <= 1


def source(count, **changes):
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    return Source(
        title="numbers",
        shape=(1, 2, 2),
        dtype="uint8",
        names=tuple(map(str, range(count))),
        read=lambda i: images[i],
        **changes,
    )


def stored(source, cache, fingerprint="a", limit=None):
    folder = store(
        fingerprint,
        lambda: source,
        Selection(limit=limit),
        strict=False,
        skip_small=False,
        cache=cache,
        progress=False,
    )
    return read_splits(folder)


def values(splits):
    return [p.images[:, 0, 0, 0].tolist() for p in (splits.train, splits.valid, splits.test)]


def test_reading_in_order_gives_the_same_array(cache):
    seen = []
    plain = source(50)

    def read(index):
        seen.append(index)
        return plain.read(index)

    ordered = Source(**{**vars(plain), "read": read, "in_order": True})
    first, second = stored(plain, cache, "a"), stored(ordered, cache, "b")
    assert seen == list(range(50))
    assert first.checksum == second.checksum
    assert first.train.names == second.train.names


def test_more_images_than_are_read_ahead(cache):
    count = 2 * READ_AHEAD + 7
    images = np.arange(count, dtype=np.float32)
    many = Source(
        title="many",
        shape=(1, 1, 1),
        dtype="float32",
        names=tuple(map(str, range(count))),
        read=lambda i: images[i].reshape(1, 1, 1),
    )
    assert sorted(chain(*values(stored(many, cache)))) == list(range(count))


def test_train_and_one_other_part(cache):
    partition = np.repeat([TRAIN, VALID], [8, 4])
    train, valid, test = values(stored(source(12, partition=partition), cache))
    assert test == [8, 9, 10, 11]
    assert len(valid) == 1
    assert sorted(train + valid) == list(range(8))


def test_limit_is_part_of_the_key(cache):
    assert [len(v) for v in values(stored(source(50), cache, limit=20))] == [16, 2, 2]
    assert sum(len(v) for v in values(stored(source(50), cache))) == 50


def test_a_limit_below_three_is_refused():
    with pytest.raises(InputError, match="limit is 2"):
        DataConfig(limit=2)


def test_a_disk_that_is_too_small(cache, monkeypatch):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 7))
    with pytest.raises(InputError, match=r"has 0.0 GB free: give a --limit"):
        stored(source(5), cache)
    assert list((cache / "arrays").iterdir()) == []


def test_conditions_need_room_too(cache, monkeypatch):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 70))  # of 20 and 60
    theta = (Condition(name="theta", kind="vector", shape=(3,)),)
    with pytest.raises(InputError, match="The array and the conditions of numbers need"):
        stored(source(5, conditions=theta), cache)
    assert list((cache / "arrays").iterdir()) == []


def test_what_cannot_be_read_leaves_no_room_behind(cache, monkeypatch):
    whole, broken, written, save = source(50), {7, 31}, [], np.save
    monkeypatch.setattr(np, "save", lambda path, x: (written.append(path.name), save(path, x)))

    def read(index):
        if index in broken:
            raise UnreadableImageError("it is broken")
        return whole.read(index)

    splits = stored(Source(**{**vars(whole), "read": read}), cache)
    kept = sorted(set(range(50)) - broken)
    assert sorted(chain(*values(splits))) == kept
    path = splits.folder / "images.npy"
    array = np.load(path)
    assert array.shape == (48, 1, 2, 2) and path.stat().st_size == 128 + array.nbytes
    assert "kept.npy" not in written  # a second array may not fit on the disk


@pytest.mark.parametrize("name", ["images.npy", "info.json"])
def test_a_damaged_array_is_named(cache, name):
    folder = stored(source(50), cache).folder
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(InputError, match=r"is damaged .*: remove that folder"):
        stored(source(50), cache)


def test_completeness():
    empty = Splits(None, None, None, "", "")
    assert empty.completeness == ""
    whole, short = Count("train", 9, (8, 9)), Count("test", 3, (4,))
    assert Splits(None, None, None, "", "", counts=(whole,)).completeness == "complete"
    some = Splits(None, None, None, "", "", counts=(whole, short))
    assert some.completeness == "incomplete: test 3 of 4"


def test_an_array_that_others_read_is_not_replaced(tmp_path):
    final = tmp_path / "array"

    def slow(folder):
        (folder / "a").write_text("slow")
        replace_folder(final, lambda other: (other / "a").write_text("fast"))

    replace_folder(final, slow)
    assert (final / "a").read_text() == "fast"
    replace_folder(final, lambda folder: (folder / "a").write_text("anew"))
    assert (final / "a").read_text() == "anew"
    assert [path.name for path in tmp_path.iterdir()] == ["array"]


def test_what_cannot_be_read_is_not_blamed_on_the_cache(tmp_path):
    def fill(_folder):
        raise PermissionError(13, "Permission denied", "/data/images/7.png")

    with pytest.raises(InputError, match=r"Cannot read /data/images/7\.png \(Permission denied\)"):
        replace_folder(tmp_path / "array", fill)
