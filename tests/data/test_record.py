"""What a run was trained on stays known, whatever happens to its folder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glowflow import CheckpointError
from glowflow.data.record import FILE, SplitRecord
from glowflow.data.types import TEST, TRAIN, ImageData, Splits

PARTS = ("train", "valid", "test")


@pytest.fixture
def photos(tmp_path, random):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(40):
        pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture
def opened(read, photos):
    return lambda: read(photos, size=(4, 4))


def of_names(train, valid, test):
    """Splits of images whose bytes are their names."""

    def data(names):
        contents = np.array([int(name) for name in names], dtype=np.uint64)
        images = np.zeros((len(names), 1, 2, 2), np.uint8)
        return ImageData(images, names=tuple(names), contents=contents)

    return Splits(data(train), data(valid), data(test), "", "")


def names(splits):
    return {part: set(getattr(splits, part).names) for part in PARTS}


def test_the_record_is_of_these_images(opened, tmp_path):
    splits = opened()
    record = SplitRecord.of(splits)
    record.save(tmp_path)
    again = SplitRecord.load(tmp_path)
    assert again is not None
    for name in ("names", "contents", "parts"):
        assert (getattr(again, name) == getattr(record, name)).all()
    assert not again.changes(splits).any
    assert again.trained(splits.train).all()
    assert not again.trained(splits.test).any()
    assert (tmp_path / FILE).stat().st_size < 17 * 40 + 400


def test_changes_are_counted(opened, photos):
    record = SplitRecord.of(opened())
    (photos / "a.png").write_bytes((photos / "000.png").read_bytes())
    (photos / "001.png").unlink()
    (photos / "002.png").write_bytes((photos / "003.png").read_bytes())
    changes = record.changes(opened())
    assert (changes.added, changes.removed, changes.changed) == (1, 1, 1)
    assert "1 images were added since the run started, 1 removed and 1 changed" in str(changes)


def test_a_picture_that_is_added_moves_nobody(opened, photos, random):
    before = names(opened())
    for name in ("000-a", "zzz", "020b"):
        pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{name}.png")
    after = names(opened())
    assert all(before[part] <= after[part] for part in PARTS)


@pytest.mark.parametrize("file", ["x.npy", "x.npz"])
def test_frames_that_are_added_to_an_array_move_nobody(read, tmp_path, random, file):
    """An image of an array goes by its number."""
    frames = random.integers(0, 256, (90, 4, 4), dtype=np.uint8)

    def opened(count):
        if file == "x.npy":
            np.save(tmp_path / file, frames[:count])
        else:
            np.savez(tmp_path / file, images=frames[:count])
        return read(tmp_path / file)

    before = opened(80)
    record, after = SplitRecord.of(before), opened(90)
    for part in PARTS:
        assert names(before)[part] <= names(after)[part]
        data = getattr(after, part)
        assert (data.images[:, 0] == frames[[int(name) for name in data.names]]).all()
    changes = record.changes(after)
    assert (changes.added, changes.removed, changes.changed) == (10, 0, 0)
    assert sum(map(len, names(after).values())) == 90


def test_a_renamed_or_copied_training_image_is_not_held_out(opened, photos):
    splits = opened()
    record = SplitRecord.of(splits)
    for number, name in enumerate(splits.train.names):
        (photos / name).rename(photos / f"renamed {number}.png")
    after = opened()
    left, trained = record.held_out(after.test)
    assert trained == sum(name.startswith("renamed") for name in after.test.names) > 0
    assert not any(name.startswith("renamed") for name in left.names)
    assert set(splits.test.names) <= set(left.names)
    kept = record.keep(after)
    assert not any(name.startswith("renamed") for name in (*kept.valid.names, *kept.test.names))
    assert len(kept.train) == len(splits.train)
    assert record.same_images(after)


lists = st.lists(st.integers(0, 40).map(str), unique=True, max_size=30)


@given(lists, lists, st.randoms())
@settings(deadline=None)
def test_recorded_images_keep_their_part(first, second, shuffler):
    def cut(some):
        some = list(some)
        shuffler.shuffle(some)
        a, b = sorted(shuffler.randint(0, len(some)) for _ in range(2))
        return of_names(some[:a], some[a:b], some[b:])

    before, after = cut(first), cut(second)
    record = SplitRecord.of(before)
    kept = names(record.keep(after))
    for part in PARTS:
        assert names(before)[part] & set(second) <= kept[part]
    assert sum(map(len, kept.values())) == len(second)
    left, _ = record.held_out(after.test)
    assert not set(left.names) & names(before)["train"]
    assert set(left.names) == names(after)["test"] - names(before)["train"]
    assert (record.parts == TRAIN).sum() == len(before.train)
    assert (record.parts == TEST).sum() == len(before.test)


def test_what_has_gone_is_asked_about_once(opened, photos, tmp_path):
    record = SplitRecord.of(opened())
    gone = (photos / "001.png").read_bytes()
    (photos / "001.png").unlink()
    now = opened()
    assert record.changes(now).removed == 1
    SplitRecord.of(now).with_former(record).save(tmp_path)
    later = SplitRecord.load(tmp_path)
    assert not later.changes(now).any
    assert later.same_images(now)
    assert SplitRecord.of(now).with_former(later).present.sum() == 39
    (photos / "001.png").write_bytes(gone)
    again = opened()
    assert later.changes(again).added == 1
    for part in PARTS:
        assert later.keep(again) is again or names(again)[part] == names(later.keep(again))[part]
    assert bool(later.trained(again.train).all())


def test_renamed_images_are_those_of_the_run_from_then_on(opened, photos, tmp_path):
    record = SplitRecord.of(opened())
    for path in sorted(photos.iterdir()):
        path.rename(photos / f"renamed {path.name}")
    now = record.keep(opened())
    SplitRecord.of(now).with_former(record).save(tmp_path)
    later = SplitRecord.load(tmp_path)
    assert not later.changes(now).any
    assert later.same_images(now)


def test_images_without_names_keep_their_part():
    def data(*contents):
        images = np.zeros((len(contents), 1, 2, 2), np.uint8)
        return ImageData(images, contents=np.array(contents, dtype=np.uint64))

    splits = Splits(data(1, 2, 3), data(3), data(4), "", "")
    record = SplitRecord.of(splits)
    assert not record.changes(splits).any
    assert record.keep(splits) is splits


def test_published_copies_stay_where_they_were_published():
    splits = of_names(["1", "2"], ["3"], ["4"])
    twin = ImageData(splits.test.images, names=("4",), contents=np.array([1], dtype=np.uint64))
    published = Splits(splits.train, splits.valid, twin, "", "")
    left, trained = SplitRecord.of(published).held_out(twin)
    assert (len(left), trained) == (1, 0)


def test_none_or_a_damaged_one(tmp_path):
    assert SplitRecord.load(tmp_path) is None
    (tmp_path / FILE).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="says what the run was trained on"):
        SplitRecord.load(tmp_path)
