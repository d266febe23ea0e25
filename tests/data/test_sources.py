"""Folders, arrays, digits and faces become arrays as promised."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glowflow import DataConfig, InputError
from glowflow.data import images
from glowflow.data.loader import batches
from glowflow.data.open import open_splits
from glowflow.data.partition import split_of
from glowflow.data.sources.portraits import ATTRIBUTES, choose_portraits, paint
from glowflow.data.store import cache_folder
from glowflow.data.types import ImageData
from glowflow.photos.images import read_image, resize


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def picture(width=8, height=8, mode="RGB", value=100):
    if mode == "I;16":
        return Image.fromarray(np.full((height, width), value * 257, dtype=np.uint16))
    colour = {"L": value, "RGB": (value,) * 3, "RGBA": (value, value, value, 255)}
    if mode in colour:
        return Image.new(mode, (width, height), colour[mode])
    if mode == "P":
        return picture(width, height, "RGB", value).quantize(2)
    return Image.new("RGB", (width, height), (value,) * 3).convert(mode)


def folder_of(path, count=6, **options):
    path.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(value=10 * i, **options).save(path / f"{i}.png")
    return path


def opened(source, cache, **changes):
    config = DataConfig(**{"data": str(source), "size": (4, 4), **changes})
    return open_splits(config, cache=cache, progress=False)


def everything(splits):
    return [splits.train, splits.valid, splits.test]


class TestImageFiles:
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "1", "LA", "CMYK"])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_every_mode(self, tmp_path, mode, channels):
        value = 255 if mode == "1" else 100
        name = "a.tif" if mode == "CMYK" else "a.png"
        picture(mode=mode, value=value).save(tmp_path / name)
        array = read_image(tmp_path / name, (channels, 4, 4))
        assert array.shape == (channels, 4, 4)
        assert array.dtype == np.uint8
        assert abs(int(array[0].max()) - value) <= 1
        assert array[0].min() == array[0].max()
        if channels == 4:
            assert (array[3] == 255).all()

    @pytest.mark.parametrize("value", [0, 1, 128, 255])
    def test_16_bit_grey_is_scaled(self, tmp_path, value):
        picture(mode="I;16", value=value).save(tmp_path / "a.png")
        assert (read_image(tmp_path / "a.png", (1, 8, 8)) == value).all()

    def test_transparency_becomes_white(self, tmp_path):
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
        assert (read_image(tmp_path / "a.png", (3, 4, 4)) == 255).all()

    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif"])
    def test_formats(self, tmp_path, suffix):
        picture().save(tmp_path / f"a.{suffix}")
        assert abs(int(read_image(tmp_path / f"a.{suffix}", (3, 8, 8)).mean()) - 100) <= 2

    def test_exif_rotation_is_honoured(self, tmp_path):
        image = Image.new("RGB", (8, 8))
        image.paste((255, 0, 0), (0, 0, 8, 4))  # red above
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        image.save(tmp_path / "a.png", exif=exif)
        array = read_image(tmp_path / "a.png", (3, 8, 8))
        assert array[0, :4].max() == 0
        assert array[0, 4:].min() == 255

    def test_shrinking_averages_areas(self, tmp_path):
        pattern = np.array([[0, 100], [200, 60]], dtype=np.uint8)
        Image.fromarray(np.tile(pattern, (4, 4))).save(tmp_path / "a.png")
        assert (read_image(tmp_path / "a.png", (1, 4, 4)) == 90).all()

    def test_crop_takes_the_centre_and_stretch_takes_all(self, tmp_path):
        image = Image.new("L", (12, 4), 0)
        image.paste(255, (4, 0, 8, 4))
        image.save(tmp_path / "a.png")
        assert (read_image(tmp_path / "a.png", (1, 4, 4)) == 255).all()
        stretched = read_image(tmp_path / "a.png", (1, 4, 4), fit="stretch")
        assert stretched[0, 0].tolist() == [0, 170, 170, 0]

    @pytest.mark.parametrize("side", [225, 450, 907, 1793])  # times 224 / 224 they are more
    def test_a_crop_never_leaves_the_image(self, side):
        for size in ((side, side + 10), (side + 10, side)):
            assert resize(Image.new("L", size), 224, 224, "crop", False, "a").size == (224, 224)

    def test_pad_keeps_the_pixels_in_the_middle_of_black(self, tmp_path):
        image = picture(6, 4)
        image.save(tmp_path / "a.png")
        padded = read_image(tmp_path / "a.png", (3, 8, 8), fit="pad")
        inside = padded[:, 2:6, 1:7]
        assert np.array_equal(inside, np.asarray(image).transpose(2, 0, 1))
        assert padded.astype(int).sum() == inside.astype(int).sum()

    def test_pad_shrinks_what_does_not_fit(self, tmp_path):
        Image.new("L", (12, 4), 255).save(tmp_path / "a.png")
        padded = read_image(tmp_path / "a.png", (1, 6, 6), fit="pad")
        assert (padded[0, 2:4] == 255).all()
        assert padded.astype(int).sum() == 2 * 6 * 255

    def test_too_small(self, tmp_path):
        picture(6, 8).save(tmp_path / "a.png")
        with pytest.raises(InputError, match="8x6, smaller than the 8x8"):
            read_image(tmp_path / "a.png", (3, 8, 8))
        assert read_image(tmp_path / "a.png", (3, 8, 8), upscale=True).shape == (3, 8, 8)

    def test_missing_and_broken(self, tmp_path):
        with pytest.raises(InputError, match="There is no image"):
            read_image(tmp_path / "a.png", (3, 8, 8))
        (tmp_path / "a.png").write_bytes(b"no image")
        with pytest.raises(InputError, match="Cannot read the image"):
            read_image(tmp_path / "a.png", (3, 8, 8))


class TestFolder:
    def test_splits_are_disjoint_and_cover_everything(self, tmp_path, cache):
        splits = opened(folder_of(tmp_path / "photos", 20), cache)
        assert [len(part) for part in everything(splits)] == [18, 1, 1]
        values = sorted(int(i[0, 0, 0]) for part in everything(splits) for i in part.images)
        assert values == [10 * i for i in range(20)]
        names = [name for part in everything(splits) for name in part.names]
        assert sorted(names) == sorted(f"{i}.png" for i in range(20))
        for part in everything(splits):
            for name, image in zip(part.names, part.images, strict=True):
                assert image[0, 0, 0] == 10 * int(name.split(".")[0])

    def test_second_start_reads_the_array(self, tmp_path, cache, monkeypatch):
        folder = folder_of(tmp_path / "photos")
        first = opened(folder, cache)

        def refuse(*arguments):
            raise AssertionError("decoded again")

        monkeypatch.setattr("glowflow.data.sources.folder.decode", refuse)
        second = opened(folder, cache)
        assert second.checksum == first.checksum
        assert isinstance(second.train.images, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            second.train.images[0] = 0

    def test_changed_folder_is_read_again(self, tmp_path, cache):
        folder = folder_of(tmp_path / "photos")
        first = opened(folder, cache)
        picture(value=99).save(folder / "0.png")
        os.utime(folder / "0.png", ns=(1, 1))
        assert opened(folder, cache).checksum != first.checksum

    def test_settings_are_part_of_the_key(self, tmp_path, cache):
        folder = folder_of(tmp_path / "photos", width=12)
        a, b = (opened(folder, cache, size=size) for size in ((4, 4), (8, 4)))
        assert (a.train.image_shape, b.train.image_shape) == ((3, 4, 4), (3, 8, 4))

    def test_nested_folders_hidden_files_and_other_files(self, tmp_path, cache):
        folder = folder_of(tmp_path / "photos")
        folder_of(folder / "deep" / "deeper", 2)
        folder_of(folder / ".thumbnails", 3)
        (folder / "notes.txt").write_text("no image")
        assert sum(map(len, everything(opened(folder, cache)))) == 8

    def test_sub_folders_are_classes(self, tmp_path, cache):
        for name in ("dogs", "cats"):
            folder_of(tmp_path / "photos" / name, 5)
        train = opened(tmp_path / "photos", cache).train
        assert train.class_names == ("cats", "dogs")
        for name, label in zip(train.names, train.labels, strict=True):
            assert train.class_names[label] == name.split("/")[0]

    def test_split_folders_are_honoured(self, tmp_path, cache):
        for name, count in (("train", 4), ("val", 2), ("test", 3)):
            folder_of(tmp_path / "photos" / name, count)
        splits = opened(tmp_path / "photos", cache)
        assert [len(part) for part in everything(splits)] == [4, 2, 3]
        assert all(name.startswith("val/") for name in splits.valid.names)

    def test_broken_file_is_named_and_skipped(self, tmp_path, cache, capsys):
        folder = folder_of(tmp_path / "photos", 10)
        (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:40])
        config = DataConfig(data=str(folder), size=(4, 4))
        splits = open_splits(config, cache=cache, progress=True)
        assert sum(map(len, everything(splits))) == 9
        assert [line.split(":")[0] for line in splits.skipped] == ["3.png"]
        message = " ".join(capsys.readouterr().err.split())
        assert "Skipped 1 images" in message
        assert "3.png" in message
        for part in everything(splits):
            for name, image in zip(part.names, part.images, strict=True):
                assert image[0, 0, 0] == 10 * int(name.split(".")[0])

    def test_strict_stops_and_leaves_nothing(self, tmp_path, cache):
        folder = folder_of(tmp_path / "photos", 10)
        (folder / "3.png").write_bytes(b"broken")
        with pytest.raises(InputError, match=r"3\.png"):
            opened(folder, cache, strict=True)
        assert list((cache / "arrays").iterdir()) == []
        opened(folder, cache)
        with pytest.raises(InputError, match=r"3\.png"):
            opened(folder, cache, strict=True)

    def test_too_small_images_stop_the_run(self, tmp_path, cache):
        folder = folder_of(tmp_path / "photos")
        with pytest.raises(InputError, match="--upscale"):
            opened(folder, cache, size=(16, 16))
        assert list((cache / "arrays").iterdir()) == []
        assert opened(folder, cache, size=(16, 16), upscale=True).train.image_shape == (3, 16, 16)

    @pytest.mark.parametrize("count", [0, 2])
    def test_too_few_images(self, tmp_path, cache, count):
        with pytest.raises(InputError, match=r"no image|at least 3"):
            opened(folder_of(tmp_path / "photos", count), cache)

    def test_nothing_there(self, tmp_path, cache):
        with pytest.raises(InputError, match="no folder or file"):
            opened(tmp_path / "nowhere", cache)
        (tmp_path / "a.txt").write_text("x")
        with pytest.raises(InputError, match="names no image that is there"):
            opened(tmp_path / "a.txt", cache)
        (tmp_path / "a.doc").write_text("x")
        with pytest.raises(InputError, match="neither a folder nor a file of a known kind"):
            opened(tmp_path / "a.doc", cache)

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("a" * 300, "too long"),
            ("a\0b", "no folder or"),
            ("~nobody-of-this-name/x", "no folder or"),
        ],
    )
    def test_names_that_no_file_can_have(self, cache, name, said):
        with pytest.raises(InputError, match=said):
            opened(name, cache)

    def test_unwritable_cache(self, tmp_path):
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(InputError, match="GLOWFLOW_CACHE"):
            opened(folder_of(tmp_path / "photos"), tmp_path / "cache")


class TestArrays:
    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ((9, 4, 6), (1, 4, 6)),
            ((9, 4, 6, 3), (3, 4, 6)),
            ((9, 3, 4, 6), (3, 4, 6)),
            ((9, 7, 6, 6), (7, 6, 6)),
            ((9, 6, 6, 8), (8, 6, 6)),
            ((9, 1, 4, 4), (1, 4, 4)),
        ],
    )
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
    def test_layouts(self, tmp_path, cache, shape, expected, dtype):
        array = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
        np.save(tmp_path / "a.npy", array)
        splits = opened(tmp_path / "a.npy", cache, size=None)
        assert splits.train.image_shape == expected
        assert splits.train.images.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
        total = sum(part.images.astype(np.float64).sum() for part in everything(splits))
        assert total == array.astype(np.float64).sum()

    def test_labels_of_npz(self, tmp_path, cache):
        x = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), dtype=np.uint8)
        np.savez(tmp_path / "a.npz", images=x, labels=np.arange(10) % 3)
        train = opened(tmp_path / "a.npz", cache).train
        assert train.class_names == ("0", "1", "2")
        assert (train.labels == train.images[:, 0, 0, 0] % 3).all()

    def test_bytes_are_resized_like_images(self, tmp_path, cache):
        np.save(tmp_path / "a.npy", np.full((5, 8, 8, 3), 7, dtype=np.uint8))
        train = opened(tmp_path / "a.npy", cache, size=(4, 4), channels=1).train
        assert train.image_shape == (1, 4, 4)
        assert (np.asarray(train.images) == 7).all()

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.full((5, 4, 4), 300), "int64 from 300 to 300: say with --source-range"),
            (-np.ones((5, 4, 4), dtype=np.int16), "int16 from -1 to -1: say with"),
            (np.zeros((5, 4, 4), dtype=complex), "complex128: give uint8"),
            (np.array(["a", "b", "c"]), "give uint8"),
            (np.zeros((5, 4), dtype=np.uint8), r"shape \(5, 4\)"),
            (np.zeros((0, 4, 4), dtype=np.uint8), "shape"),
            (np.zeros((0, 100), dtype=np.float32), "at least one of each axis"),
            (np.zeros((0, 1, 4, 4, 4), dtype=np.float32), "at least one of each axis"),
            (np.zeros((5, 0), dtype=np.float32), "at least one of each axis"),
            (np.zeros((2, 4, 4), dtype=np.uint8), "at least 3"),
            (np.full((5, 4, 4), np.nan), "80 values that are NaN"),
            (np.array([[[0.0]], [[1.0]], [[np.inf]], [[2.0]]]), "first in image 2"),
        ],
        ids=str,
    )
    def test_bad_arrays(self, tmp_path, cache, array, message):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(InputError, match=message):
            opened(tmp_path / "a.npy", cache, size=None)
        assert not cache.exists() or not any(cache.rglob("*.npy"))

    def test_float_arrays_are_not_resized(self, tmp_path, cache):
        np.save(tmp_path / "a.npy", np.zeros((5, 8, 8), dtype=np.float32))
        with pytest.raises(InputError, match="only images of bytes"):
            opened(tmp_path / "a.npy", cache, size=(4, 4))

    def test_pickled_objects_are_never_loaded(self, tmp_path, cache):
        np.save(tmp_path / "a.npy", np.array([{"a": 1}, None, 2], dtype=object))
        with pytest.raises(InputError, match="Python objects"):
            opened(tmp_path / "a.npy", cache)

    @pytest.mark.parametrize("suffix", ["npy", "npz"])
    def test_truncated(self, tmp_path, cache, suffix):
        path = tmp_path / f"a.{suffix}"
        (np.save if suffix == "npy" else np.savez)(path, np.zeros((5, 40, 40), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[:900])
        with pytest.raises(InputError, match="damaged"):
            opened(path, cache)

    @pytest.mark.parametrize(
        "labels", [np.zeros(4, int), np.full(5, 0.5), np.zeros((5, 2, 2), int)], ids=str
    )
    def test_bad_labels(self, tmp_path, cache, labels):
        np.savez(tmp_path / "a.npz", images=np.zeros((5, 4, 4), np.uint8), labels=labels)
        with pytest.raises(InputError, match="labels"):
            opened(tmp_path / "a.npz", cache)


class TestDigits:
    def test_are_real_and_padded(self, cache):
        splits = opened("digits", cache, size=None)
        assert [len(part) for part in everything(splits)] == [1437, 180, 180]
        assert splits.train.image_shape == (1, 16, 16)
        assert splits.train.images.max() == 255
        edge = np.asarray(splits.train.images).copy()
        edge[:, :, 4:12, 4:12] = 0
        assert edge.max() == 0
        assert set(splits.train.labels) == set(range(10))

    def test_too_small(self, cache):
        with pytest.raises(InputError, match="8x8"):
            opened("digits", cache, size=(4, 16))


class TestFaces:
    def test_celeba_layout_and_same_bytes(self, tmp_path):
        listings = []
        for name in ("a", "b"):
            splits = opened("faces", tmp_path / name, size=(32, 32), faces=40)
            folder = next((tmp_path / name / "faces").iterdir())
            files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
            listings.append([(p, (folder / p).read_bytes()) for p in files])
            assert len(files) == 42
        assert listings[0] == listings[1]
        assert [len(part) for part in everything(splits)] == [32, 4, 4]
        assert splits.train.attribute_names == ATTRIBUTES
        lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
        assert lines[0] == "40"
        assert lines[1].split() == list(ATTRIBUTES)
        assert set(lines[2].split()[1:]) <= {"1", "-1"}

    def test_attributes_are_those_of_the_portraits(self, cache):
        splits = opened("faces", cache, size=(64, 64), faces=40)
        portraits = choose_portraits(40)
        for name, image, truth in zip(
            splits.train.names, splits.train.images, splits.train.attributes, strict=True
        ):
            portrait = portraits[int(name.split(".")[0]) - 1]
            assert dict(zip(ATTRIBUTES, truth.tolist(), strict=True)) == portrait.attributes()
            assert np.array_equal(images.to_array(paint(portrait)), image)

    def test_attributes_exclude_each_other_and_are_all_there(self):
        truth = [portrait.attributes() for portrait in choose_portraits(3000)]
        colours = [name for name in ATTRIBUTES if name.endswith("_Hair") and name != "Long_Hair"]
        for t in truth:
            assert sum(t[c] for c in colours) == (0 if t["Hat"] else 1)
            assert not (t["Eyeglasses"] and t["Sunglasses"])
            assert not (t["Beard"] and t["Mustache"])
            assert not (t["Hat"] and t["Long_Hair"])
            assert not (t["Young"] and t["Gray_Hair"])
            assert not (t["Pale_Skin"] and t["Dark_Skin"])
        for name in ATTRIBUTES:
            share = sum(t[name] for t in truth) / len(truth)
            assert 0.05 < share < 0.95, name

    def test_every_attribute_can_be_seen(self):
        portrait = choose_portraits(1)[0]
        base = np.asarray(paint(portrait)).astype(int)
        from dataclasses import replace

        for change in (
            {"mouth": "SMILE" if portrait.mouth != "SMILE" else "SAD"},
            {"accessories": "SUNGLASSES" if portrait.accessories != "SUNGLASSES" else "ROUND"},
            {"facial_hair": "BEARD_MEDIUM" if "BEARD" not in portrait.facial_hair else "DEFAULT"},
            {"top": "WINTER_HAT1" if portrait.top != "WINTER_HAT1" else "LONG_HAIR_BOB"},
            {"skin": "BLACK" if portrait.skin != "BLACK" else "PALE"},
        ):
            other = np.asarray(paint(replace(portrait, **change))).astype(int)
            assert (abs(other - base).max(axis=2) > 40).sum() > 10, change


class TestCacheFolder:
    def test_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "own"))
        assert cache_folder() == tmp_path / "own"
        monkeypatch.delenv("GLOWFLOW_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "glowflow"

    def test_info_is_readable(self, cache):
        opened("digits", cache, size=None)
        info = json.loads(next(cache.rglob("info.json")).read_text())
        assert info["sizes"] == [1437, 180, 180]


@given(st.integers(3, 500), st.floats(0.01, 0.49))
@settings(deadline=None)
def test_held_out_parts_are_about_as_large_as_asked(count, held_out):
    names = [f"{i}.png" for i in range(count)]
    sizes = np.bincount(split_of(names, held_out), minlength=3)
    assert sizes.sum() == count
    assert sizes.min() >= 1
    error = 5 * np.sqrt(count * held_out) + 2
    assert abs(sizes[1] - count * held_out) < error
    assert abs(sizes[2] - count * held_out) < error
    before = np.bincount(split_of(names, held_out, "shuffle"), minlength=3)
    assert before[1] == before[2] == min(max(1, round(count * held_out)), (count - 1) // 2)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**31), st.integers(0, 99))
@settings(deadline=None)
def test_batches_hold_every_image_once_in_an_order_of_seed_and_epoch(count, size, seed, epoch):
    values = np.arange(count, dtype=np.uint8)
    data = ImageData(values[:, None, None, None], labels=values.astype(np.int64))

    def order(**options):
        got = list(batches(data, size, seed=seed, epoch=epoch, drop_last=False, **options))
        for x, y in got:
            assert x.flatten().tolist() == y.tolist()
        return [y.tolist() for _, y in got]

    whole = order()
    assert sorted(label for batch in whole for label in batch) == list(range(count))
    assert order() == whole
    assert order(skip=size) == whole[1:]
    dropped = list(batches(data, size, seed=seed, epoch=epoch))
    assert [len(x) for x, _ in dropped] == [size] * (count // size)
