"""Data as people have them: recognised by what is there, and what is not used is said."""

import io
import os
import shutil
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, features

from glowflow import DataConfig, InputError
from glowflow.data.open import open_images
from glowflow.data.partition import hash_of
from glowflow.data.sources.folder import natural
from glowflow.data.types import TEST


@pytest.fixture
def put(tmp_path, random):
    """Puts `count` pictures of 8x8 into a folder below the temporary one."""

    def call(folder, count, suffix="png", **options):
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / f"{index:03d}.{suffix}", **options)
        return path

    return call


@pytest.fixture
def opened(read, tmp_path):
    def call(name, **changes):
        return read(tmp_path / name, **{"size": (8, 8), **changes})

    return call


@pytest.fixture
def whole(tmp_path, cache):
    def call(name, **changes):
        config = DataConfig(data=str(tmp_path / name), **{"size": (8, 8), **changes})
        return open_images(config, cache=cache, progress=False)

    return call


def sizes(splits):
    return len(splits.train), len(splits.valid), len(splits.test)


def left_out(splits):
    return {each.reason: (each.files, each.example) for each in splits.reading.left_out}


class TestParts:
    @pytest.mark.parametrize(
        ("train", "valid", "test"),
        [
            ("train", "val", "test"),
            ("Training", "Validation", "Testing"),
            ("seg_train", "seg_val", "seg_test"),
            ("train_images", "dev_images", "test_images"),
            ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
            ("photos/train", "photos/valid", "photos/test"),
        ],
    )
    @pytest.mark.parametrize("classes", [False, True])
    def test_names_of_parts(self, put, opened, train, valid, test, classes):
        for part, count in ((train, 6), (valid, 3), (test, 4)):
            for name in ("cat", "dog") if classes else ("",):
                put(f"data/{part}/{name}", count)
        splits = opened("data")
        times = 2 if classes else 1
        assert sizes(splits) == (6 * times, 3 * times, 4 * times)
        assert splits.reading.split == "published"
        assert splits.train.class_names == (("cat", "dog") if classes else ())
        expected = "split folders of classes" if classes else "split folders"
        assert splits.reading.layout == expected

    def test_what_is_beside_the_parts_is_left_out_and_named(self, put, opened):
        put("data/train", 8)
        put("data/test", 2)
        put("data/pred", 3)
        put("data", 1)
        splits = opened("data")
        assert len(splits.test) == 2
        assert left_out(splits) == {
            "beside the parts": (1, "000.png"),
            "in pred/, which is none of the parts": (3, "pred/000.png"),
        }

    def test_unclear_folders_are_refused_with_the_ways_out(self, put, opened):
        for name in ("train", "bus", "car"):
            put(f"data/{name}", 5)
        with pytest.raises(
            InputError, match=r"called train.* others \(bus, car\).*--layout classes"
        ):
            opened("data")
        assert opened("data", layout="classes").train.class_names == ("bus", "car", "train")
        assert opened("data", layout="folder").train.class_names == ()
        put("data/training", 5)
        put("data/test", 5)
        put("data/testing", 5)
        with pytest.raises(InputError, match="test and testing are the same part"):
            put("twice/test", 3)
            put("twice/testing", 3)
            put("twice/train", 3)
            opened("twice")

    def test_half_labelled_parts_are_said(self, put, opened):
        put("data/train/cat", 4)
        put("data/train/dog", 4)
        put("data/test", 3)
        splits = opened("data")
        assert splits.train.labels is None
        assert splits.reading.notes == (
            "3 of 11 images are in no folder of a class: the folders are not read as classes.",
        )


class TestClasses:
    def test_numbers_are_in_their_order(self, put, opened):
        for name in range(11):
            put(f"data/{name}", 3)
        assert opened("data").train.class_names == tuple(map(str, range(11)))

    def test_natural_order(self):
        names = ["b10", "b9", "a", "10", "9", "B", "٣"]
        assert sorted(names, key=natural) == ["9", "10", "B", "a", "b9", "b10", "٣"]

    def test_too_many_are_said(self, put, opened, monkeypatch):
        monkeypatch.setattr("glowflow.data.sources.folder.MOST_CLASSES", 3)
        for name in "abcd":
            put(f"data/{name}", 2)
        splits = opened("data")
        assert splits.train.labels is None
        assert "4 folders are too many for classes (at most 3)" in splits.reading.notes[0]


class TestWrapped:
    def test_results_beside_the_only_folder_do_not_count(self, put, opened, tmp_path):
        put("wrap/photos/train", 8)
        put("wrap/photos/test", 3)
        put("wrap/runs/samples", 4)
        (tmp_path / "wrap/runs/train.yaml").touch()
        assert sizes(opened("wrap"))[2] == 3
        assert opened("wrap").reading.split == "published"


class TestLinks:
    def test_linked_folders_are_followed(self, put, opened, tmp_path):
        put("store/valid", 4)
        put("data/train", 8)
        (tmp_path / "data" / "valid").symlink_to(tmp_path / "store" / "valid")
        put("data/test", 3)
        assert sizes(opened("data")) == (8, 4, 3)

    @pytest.mark.parametrize("own", [0, 6])
    def test_linked_classes_and_images(self, put, opened, tmp_path, own):
        put("store/cat", 6)
        put("store/dog", 6)
        put("data/owl", own)
        for name in ("cat", "dog"):
            (tmp_path / "data" / name).symlink_to(tmp_path / "store" / name)
        splits = opened("data")
        assert splits.train.class_names == (("cat", "dog", "owl") if own else ("cat", "dog"))
        assert sum(sizes(splits)) == 12 + own
        labels = np.concatenate([splits.train.labels, splits.valid.labels, splits.test.labels])
        assert np.bincount(labels).tolist() == ([6, 6, 6] if own else [6, 6])
        put("single", 0)
        for path in (tmp_path / "store" / "cat").iterdir():
            (tmp_path / "single" / path.name).symlink_to(path)
        (tmp_path / "root").symlink_to(tmp_path / "single")
        assert sum(sizes(opened("single"))) == sum(sizes(opened("root"))) == 6

    def test_each_once_and_no_loops(self, put, opened, tmp_path):
        put("data/cat", 5)
        put("data/dog", 5)
        (tmp_path / "data" / "dog" / "up").symlink_to(tmp_path / "data")
        (tmp_path / "data" / "a-cat").symlink_to(tmp_path / "data" / "cat")
        (tmp_path / "data" / "cat" / "gone.png").symlink_to("/nowhere.png")
        (tmp_path / "data" / "itself").symlink_to(tmp_path / "data" / "itself")
        splits = opened("data")
        assert sum(sizes(splits)) == 10
        assert splits.train.class_names == ("cat", "dog")
        assert left_out(splits) == {
            "a link to a folder that was read already": (2, "a-cat/"),
            "no suffix is no image that can be read": (1, "itself"),
        }
        assert splits.skipped[0].startswith("cat/gone.png")


class TestFiles:
    def test_runs_and_results_are_no_data(self, put, opened, tmp_path):
        put("photos", 10)
        put("photos/runs/a/samples", 4)
        (tmp_path / "photos/runs/a/train.yaml").touch()
        put("photos/runs/b", 4)
        (tmp_path / "photos/runs/b/.glow").touch()
        splits = opened("photos")
        assert sum(sizes(splits)) == 10
        assert left_out(splits) == {"written by this package, not data": (2, "runs/a/")}
        assert sum(sizes(opened("photos/runs/b"))) == 4

    def test_results_that_came_after_the_images_were_read_are_said_too(self, put, opened, tmp_path):
        put("photos", 10)
        first = opened("photos")
        assert left_out(first) == {}
        put("photos/runs/a/samples", 4)
        (tmp_path / "photos/runs/a/train.yaml").touch()
        second = opened("photos")
        assert second.folder == first.folder  # nothing is read again
        assert left_out(second) == {"written by this package, not data": (1, "runs/a/")}
        shutil.rmtree(tmp_path / "photos/runs")
        assert left_out(opened("photos")) == {}

    @pytest.mark.parametrize("name", ["score.json", "report.html"])
    def test_files_that_are_called_as_results_are_no_results(self, put, opened, tmp_path, name):
        put("data/a", 10)
        (tmp_path / "data/a" / name).write_text('{"score": 1}')
        put("data/b", 10)
        (tmp_path / "data/b/score.json").write_text('{"out": "data/b"}')
        splits = opened("data")
        assert sum(sizes(splits)) == 10
        assert left_out(splits)["written by this package, not data"] == (1, "b/")

    @pytest.mark.parametrize(
        "suffix",
        ["pgm", "ppm", "jfif", "bmp", "tif", "gif", "webp", "PNG",
         pytest.param("avif", marks=pytest.mark.skipif(
             not features.check("avif"), reason="Pillow was built without AVIF here"))],
    )  # fmt: skip
    def test_what_pillow_reads_is_read(self, put, opened, suffix):
        put("data", 6, suffix=suffix)
        assert sum(sizes(opened("data"))) == 6

    def test_by_content_without_a_suffix_and_the_rest_counted(self, put, opened, tmp_path):
        put("data", 6)
        for index in range(6):
            (tmp_path / f"data/{index:03d}.png").rename(tmp_path / f"data/picture{index}.dat")
        for index in range(3):
            (tmp_path / f"data/IMG_{index}.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(90))
        (tmp_path / "data/notes.txt").write_text("x")
        splits = opened("data")
        assert sum(sizes(splits)) == 6
        assert left_out(splits) == {
            ".heic is no image that can be read": (3, "IMG_0.HEIC"),
            ".txt is no image that can be read": (1, "notes.txt"),
        }

    def test_names_that_are_not_utf8(self, put, opened):
        folder = put("data", 5)
        (folder / "003.png").rename(os.fsdecode(os.fsencode(folder) + b"/M\xfcller.png"))
        splits = opened("data")
        names = (*splits.train.names, *splits.valid.names, *splits.test.names)
        assert "M\udcfcller.png" in names

    def test_small_ones_are_all_named_at_once(self, put, opened, tmp_path):
        put("data", 9)
        for name in ("icon", "pixel"):
            Image.new("RGB", (4, 2)).save(tmp_path / f"data/{name}.png")
        with pytest.raises(InputError, match=r"2 images .*icon\.png 2x4, .*pixel\.png 2x4\)"):
            opened("data")
        splits = opened("data", skip_small=True)
        assert sum(sizes(splits)) == 9
        assert len(splits.skipped) == 2

    def test_enough_images_beside_small_ones(self, put, opened, tmp_path):
        names = [f"{i:03d}.png" for i in range(200)]
        u = {name: hash_of(name) / 2**64 for name in names}
        large = [name for name in names if u[name] >= 0.2][:9]
        small = [name for name in names if u[name] < 0.2][:4]
        for side, some in ((8, large), (4, small)):
            put("data", 0)
            for index, name in enumerate(some):
                Image.new("RGB", (side, side), (index + 1,) * 3).save(tmp_path / "data" / name)
        splits = opened("data", skip_small=True)
        assert sizes(splits) == (7, 1, 1)
        by_u = sorted(large, key=u.get)
        assert splits.valid.names == (by_u[0],)
        assert splits.test.names == (by_u[1],)
        value = {name: index + 1 for index, name in enumerate(large)}
        for part in (splits.train, splits.valid, splits.test):
            assert part.images[:, 0, 0, 0].tolist() == [value[name] for name in part.names]

    def test_frames(self, opened, whole, tmp_path):
        (tmp_path / "data").mkdir()
        frames = [Image.new("RGB", (8, 8), (value,) * 3) for value in (10, 120, 240)]
        for name in ("a.gif", "b.tif", "c.webp"):
            options = {"lossless": True} if name == "c.webp" else {}
            frames[0].save(
                tmp_path / "data" / name, save_all=True, append_images=frames[1:], **options
            )
        splits = opened("data")
        assert sum(sizes(splits)) == 3
        assert "3 files have several frames or pages, as a.gif" in splits.reading.notes[0]
        images = whole("data", frames="all").data
        assert images.names[:3] == ("a.gif[0]", "a.gif[1]", "a.gif[2]")
        assert images.images[:, 0, 0, 0].tolist() == [10, 120, 240] * 3

    @pytest.mark.parametrize("split_by", ["hash", "shuffle"])
    def test_frames_of_a_file_are_in_one_part(self, put, opened, tmp_path, random, split_by):
        (tmp_path / "data").mkdir()
        for index in range(12):
            frames = [Image.fromarray(f) for f in random.integers(0, 256, (3, 8, 8, 3), np.uint8)]
            frames[0].save(
                tmp_path / f"data/{index:02d}.tif", save_all=True, append_images=frames[1:]
            )
        splits = opened("data", frames="all", split_by=split_by)
        parts = [
            {name.partition("[")[0] for name in part.names}
            for part in (splits.train, splits.valid, splits.test)
        ]
        assert sum(sizes(splits)) == 36
        assert sum(map(len, parts)) == len(set.union(*parts)) == 12

    def test_more_than_eight_bits(self, whole, tmp_path):
        ramp = np.tile(np.linspace(0, 1, 8), (8, 1))
        (tmp_path / "data").mkdir()
        Image.fromarray((ramp * 4095).astype(np.uint16)).save(tmp_path / "data/twelve.png")
        Image.fromarray((ramp * 255).astype(np.int32)).save(tmp_path / "data/bytes.tif")
        found = whole("data", channels=1)
        by_name = dict(zip(found.data.names, found.data.images, strict=True))
        assert by_name["bytes.tif"][0, 0].tolist() == np.floor(ramp[0] * 255).tolist()
        assert by_name["twelve.png"].max() == 16
        assert "--source-range 0 4095" in found.reading.notes[0]
        spread = whole("data", channels=1, source_range=(0, 4095)).data
        assert dict(zip(spread.names, spread.images, strict=True))["twelve.png"].max() == 255

    def test_floats_want_a_range(self, whole, tmp_path):
        (tmp_path / "data").mkdir()
        Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "data/a.tif")
        with pytest.raises(InputError, match="--source-range LOW HIGH"):
            whole("data", channels=1)
        images = whole("data", channels=1, source_range=(0.0, 1.0)).data.images
        assert (images == 128).all()

    def test_margins_are_counted(self, whole, tmp_path):
        (tmp_path / "data").mkdir()
        Image.new("RGB", (8, 4)).save(tmp_path / "data/wide.png")
        Image.new("RGB", (16, 16)).save(tmp_path / "data/large.png")
        data = whole("data", fit="pad").data
        assert dict(zip(data.names, data.values_inside, strict=True)) == {
            "wide.png": 3 * 8 * 4,
            "large.png": 3 * 8 * 8,
        }
        assert whole("data", fit="stretch", upscale=True).data.values_inside is None


def packed(path, names, pixels):
    """A zip or tar file of these members."""
    contents = {}
    for name in names:
        file = io.BytesIO()
        Image.fromarray(pixels(name)).save(file, "PNG")
        contents[name] = file.getvalue()
    contents["readme.md"] = b"x"
    contents["__MACOSX/train/._0.png"] = b"x"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
            for name, content in contents.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


class TestArchives:
    @pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])
    def test_are_read_like_folders(self, tmp_path, opened, name):
        names = [f"{part}/{c}/{i}.png" for part, n in (("train", 4), ("test", 2))
                 for c in ("cat", "dog") for i in range(n)]  # fmt: skip

        def pixels(member):
            return np.full((8, 8, 3), hash_byte(member), np.uint8)

        packed(tmp_path / name, names, pixels)
        splits = opened(name)
        assert (sizes(splits)[2], sum(sizes(splits))) == (4, 12)
        assert splits.train.class_names == ("cat", "dog")
        for member, image in zip(splits.test.names, splits.test.images, strict=True):
            assert (image == hash_byte(member)).all()
        assert left_out(splits) == {".md is no image that can be read": (1, "readme.md")}

    def test_names_that_point_elsewhere_write_nothing(self, tmp_path, opened):
        packed(
            tmp_path / "a.zip",
            [f"../../out/{i}.png" for i in range(4)],
            lambda name: np.zeros((8, 8, 3), np.uint8),
        )
        with pytest.raises(InputError, match="There is no image"):
            opened("a.zip")
        assert not list(tmp_path.rglob("out"))

    @pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
    def test_damaged(self, tmp_path, opened, name):
        (tmp_path / name).write_bytes(b"PK\3\4 nonsense" * 40)
        with pytest.raises(InputError, match=r"damaged|no image"):
            opened(name)


def hash_byte(name):
    return sum(name.encode()) % 256


class TestLists:
    @pytest.mark.parametrize("form", ["{}", "{},{}", "{}\t{}", "{} {}"])
    def test_paths_and_classes(self, put, opened, tmp_path, form):
        put("data", 8)
        lines = [form.format(f"data/{i:03d}.png", "ab"[i % 2]) for i in range(8)]
        (tmp_path / "list.txt").write_text("\n".join(["path,class", *lines, "data/gone.png"]))
        splits = opened("list.txt")
        assert sum(sizes(splits)) == 8
        assert splits.train.class_names == (("a", "b") if form != "{}" else ())
        assert left_out(splits)["named in the list and not there"] == (1, "data/gone.png")

    def test_a_comma_in_a_name(self, put, whole, tmp_path):
        put("data", 2)
        (tmp_path / "data/000.png").rename(tmp_path / "data/one, two.png")
        (tmp_path / "list.txt").write_text("data/one, two.png\tcat\ndata/001.png\tdog")
        data = whole("list.txt").data
        assert data.names == ("data/one, two.png", "data/001.png")
        assert data.class_names == ("cat", "dog")

    def test_folders_in_the_paths_are_no_parts(self, put, whole, tmp_path):
        rows = []
        for folder in ("extra", "train", "test"):
            put(f"data/{folder}", 4)
            rows += [(f"data/{folder}/{i:03d}.png", folder.upper()) for i in range(4)]
        (tmp_path / "list.csv").write_text("\n".join(map(",".join, rows)))
        found = whole("list.csv")
        assert found.partition is None
        assert found.reading.left_out == ()
        data = found.data
        said = [
            (name, data.class_names[n]) for name, n in zip(data.names, data.labels, strict=True)
        ]
        assert said == rows

    def test_order_is_the_lists(self, put, whole, tmp_path):
        put("data", 3)
        order = ["data/002.png", "data/000.png", "data/001.png"]
        (tmp_path / "list.csv").write_text("\n".join(order))
        assert whole("list.csv").data.names == tuple(order)

    def test_a_changed_image_is_read_again(self, put, whole, tmp_path):
        put("data", 3)
        (tmp_path / "list.txt").write_text("\n".join(f"data/{i:03d}.png" for i in range(3)))
        assert whole("list.txt").data.images[1].max() > 0
        Image.new("RGB", (8, 8), (7, 7, 7)).save(tmp_path / "data/001.png")
        assert (whole("list.txt").data.images[1] == 7).all()

    def test_a_first_image_that_is_missing_is_no_heading(self, put, whole, tmp_path):
        put("data", 2)
        (tmp_path / "list.txt").write_text("data/gone.png\ndata/000.png\ndata/001.png")
        found = whole("list.txt")
        assert left_out(found) == {"named in the list and not there": (1, "data/gone.png")}


class TestWhole:
    def test_one_image_file(self, put, whole):
        put("data", 1)
        found = whole("data/000.png")
        assert found.data.names == ("000.png",)
        assert found.partition is None

    def test_only_a_test_part(self, put, whole):
        put("data/test", 5)
        found = whole("data")
        assert (len(found.data), set(found.partition)) == (5, {TEST})

    def test_broken_ones_are_skipped_and_the_order_is_the_files(self, tmp_path, whole):
        np.save(tmp_path / "a.npy", np.arange(25, dtype=np.uint8).reshape(25, 1, 1).repeat(8, 1)
                .repeat(8, 2))  # fmt: skip
        data = whole("a.npy").data
        assert data.images[:, 0, 0, 0].tolist() == list(range(25))
        assert whole("a.npy", limit=5).data.names == ("0", "6", "12", "18", "24")


def pictures(count, value=None):
    random = np.random.default_rng(count)
    some = random.integers(0, 256, (count, 8, 8), dtype=np.uint8)
    return some if value is None else np.full_like(some, value)


class TestNpz:
    def test_keras(self, tmp_path, opened):
        np.savez(tmp_path / "a.npz", x_test=pictures(6, 7), x_train=pictures(30),
                 y_train=np.arange(30) % 10, y_test=np.arange(6))  # fmt: skip
        splits = opened("a.npz")
        assert len(splits.test) == 6
        assert (splits.test.images == 7).all()
        assert splits.test.labels.tolist() == list(range(6))
        assert splits.reading.layout == "npz (Keras)"
        assert splits.reading.split == "published"

    def test_medmnist(self, tmp_path, opened):
        np.savez(tmp_path / "a.npz", train_images=pictures(20), val_images=pictures(5, 1),
                 test_images=pictures(6, 2), train_labels=np.ones((20, 1), int),
                 val_labels=np.zeros((5, 1), int), test_labels=np.ones((6, 1), int))  # fmt: skip
        splits = opened("a.npz")
        assert sizes(splits) == (20, 5, 6)
        assert (splits.valid.images == 1).all()
        assert splits.valid.labels.tolist() == [0] * 5
        assert splits.reading.layout == "npz (MedMNIST)"

    def test_several_candidates_are_refused(self, tmp_path, opened):
        np.savez(tmp_path / "a.npz", masks=pictures(6), photos=pictures(9))
        with pytest.raises(InputError, match=r"masks uint8 .*photos uint8 .*--array NAME"):
            opened("a.npz")
        assert sum(sizes(opened("a.npz", array="photos"))) == 9
        with pytest.raises(InputError, match="has no array 'x'"):
            opened("a.npz", array="x")

    @pytest.mark.parametrize("name", ["label", "labels", "y", "targets"])
    def test_labels_are_never_the_images(self, tmp_path, opened, name):
        np.savez(tmp_path / "a.npz", **{name: np.arange(12) % 3, "pictures": pictures(12)})
        splits = opened("a.npz")
        assert splits.train.image_shape == (1, 8, 8)
        assert splits.train.class_names == ("0", "1", "2")

    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            (np.array([0, 127, 255] * 4), ("0", "127", "255")),
            (np.array([20230101, 20230102] * 6), ("20230101", "20230102")),
            (np.array([5, 4_000_000_000] * 6), ("5", "4000000000")),
            (np.full(12, 2**63, dtype=np.uint64), ("9223372036854775808",)),
            (np.array([-1, 1] * 6), ("-1", "1")),
            (np.array([10, 9, 2] * 4), ("2", "9", "10")),
            (np.array(["dog", "cat"] * 6), ("cat", "dog")),
            (np.array([True, False] * 6), ("0", "1")),
            (np.array([1.0, 2.0] * 6), ("1", "2")),
            (np.eye(3, dtype=int)[np.arange(12) % 3], ("0", "1", "2")),
            (np.arange(12).reshape(12, 1) % 2, ("0", "1")),
        ],
        ids=str,
    )
    def test_distinct_labels_are_the_classes(self, tmp_path, whole, labels, names):
        np.savez(tmp_path / "a.npz", images=pictures(12), labels=labels)
        data = whole("a.npz").data
        assert data.class_names == names
        if labels.ndim == 1 and labels.dtype.kind in "iuU":
            assert [names[i] for i in data.labels] == [str(label) for label in labels]

    def test_too_many_classes_are_said(self, tmp_path, whole):
        np.savez(tmp_path / "a.npz", images=pictures(1200), labels=np.arange(1200))
        found = whole("a.npz")
        assert found.data.labels is None
        assert "1,200 different values, too many for classes" in found.reading.notes[0]


class TestArrays:
    def test_axes_may_be_said_and_are_refused_where_both_fit(self, tmp_path, whole):
        np.save(tmp_path / "a.npy", np.zeros((4, 7, 5, 6), np.float32))
        with pytest.raises(InputError, match="7 channels as NCHW and 6 as NHWC"):
            whole("a.npy", size=None)
        shapes = {
            layout: whole("a.npy", size=None, layout=layout).data.image_shape
            for layout in ("NCHW", "NHWC")
        }
        assert shapes == {"NCHW": (7, 5, 6), "NHWC": (6, 7, 5)}
        with pytest.raises(InputError, match="which is not NHW"):
            whole("a.npy", size=None, layout="NHW")

    def test_squares_say_where_the_channels_are(self, tmp_path, whole):
        np.save(tmp_path / "a.npy", np.zeros((4, 6, 6, 8), np.float32))
        found = whole("a.npy", size=None)
        assert found.data.image_shape == (8, 6, 6)
        assert "read as NHWC, with 8 channels" in found.reading.notes[0]

    @pytest.mark.parametrize("scale", [1.0, 255.0])
    def test_floats_that_were_bytes_are_said(self, tmp_path, whole, scale):
        np.save(tmp_path / "a.npy", pictures(5).astype(np.float32) / scale)
        assert "they were bytes" in whole("a.npy").reading.notes[0]
        np.save(tmp_path / "b.npy", np.random.default_rng(0).random((5, 8, 8)))
        assert whole("b.npy").reading.notes == ()

    @pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint16, np.int64, ">i4"])
    def test_integers_of_bytes_are_bytes(self, tmp_path, whole, dtype):
        np.save(tmp_path / "a.npy", pictures(5).astype(dtype))
        found = whole("a.npy")
        assert (found.data.images[:, 0] == pictures(5)).all()
        assert "it is read as bytes" in found.reading.notes[0]

    def test_other_integers_want_a_range(self, tmp_path, whole):
        np.save(tmp_path / "a.npy", np.full((5, 8, 8), 4095, np.uint16))
        with pytest.raises(InputError, match="4095 to 4095: say with --source-range LOW HIGH"):
            whole("a.npy")
        assert (whole("a.npy", source_range=(0, 4095)).data.images == 255).all()


class TestMnist:
    @pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
    @pytest.mark.parametrize("sign", ["-", "."])
    def test_dots_dashes_and_raw(self, tmp_path, opened, place, sign, random):
        folder = tmp_path / "set" / place
        folder.mkdir(parents=True)
        for part, count in (("train", 9), ("t10k", 4)):
            for kind, shape in (("images{}idx3", (count, 8, 8)), ("labels{}idx1", (count,))):
                array = random.integers(0, 10, shape, dtype=np.uint8)
                head = bytes([0, 0, 8, array.ndim])
                head += b"".join(int(n).to_bytes(4, "big") for n in shape)
                name = f"{part}-{kind.format(sign)}-ubyte"
                (folder / name).write_bytes(head + array.tobytes())
        splits = opened("set", size=None)
        assert (len(splits.test), sum(sizes(splits))) == (4, 13)
        assert splits.reading.layout == "MNIST files"


def celeba(folder, *, tables, images, suffix="jpg", comma=False, bom=False):
    """12 pictures in one of CelebA's distributions, white outside of the square that is used."""
    names = [f"{i:06d}.jpg" for i in range(1, 13)]
    (folder / images).mkdir(parents=True)
    aligned = Image.new("RGB", (178, 218), "white")
    aligned.paste((0, 0, 0), (15, 40, 163, 188))
    for name in names:
        aligned.save(folder / images / name.replace("jpg", suffix))
    attribute, partition = (folder / table for table in tables)
    for table in (attribute, partition):
        table.parent.mkdir(parents=True, exist_ok=True)
    between = "," if comma else " "
    rows = [between.join([n, "1", "-1"]) for n in names]
    parts = [between.join([n, str(i // 4)]) for i, n in enumerate(names)]
    if comma:
        rows, parts = ["image_id,A,B", *rows], ["image_id,partition", *parts]
    else:
        rows = ["12", "A B", *rows]
    encoding = "utf-8-sig" if bom else "utf-8"
    for path, lines in ((attribute, rows), (partition, parts)):
        path.write_text("\n".join(lines) + "\n", encoding, newline="\r\n" if bom else "")
    return folder


FLAT = ("list_attr_celeba.txt", "list_eval_partition.txt")
DISTRIBUTIONS = {
    "flat": {"tables": FLAT, "images": "img_align_celeba"},
    "bom": {"tables": FLAT, "images": "img_align_celeba", "bom": True},
    "png": {"tables": FLAT, "images": "img_align_celeba_png", "suffix": "png"},
    "official": {
        "tables": ("Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt"),
        "images": "Img/img_align_celeba",
    },
    "kaggle": {
        "tables": ("list_attr_celeba.csv", "list_eval_partition.csv"),
        "images": "img_align_celeba/img_align_celeba",
        "comma": True,
    },
}


class TestCelebA:
    @pytest.mark.parametrize("name", DISTRIBUTIONS)
    def test_distributions(self, tmp_path, opened, name):
        celeba(tmp_path / "set", **DISTRIBUTIONS[name])
        splits = opened("set")
        assert sizes(splits) == (4, 4, 4)
        assert splits.train.attribute_names == ("A", "B")
        assert splits.train.attributes.tolist() == [[True, False]] * 4
        assert splits.reading.layout == "CelebA"
        assert splits.reading.aligned
        middle = splits.train.images[:, :, 1:-1, 1:-1]
        assert middle.max() < 8  # of 8x8 pixels none has seen the white frame, but by JPEG's edges

    @pytest.mark.parametrize("missing", FLAT)
    def test_what_is_missing_is_named(self, tmp_path, opened, missing):
        celeba(tmp_path / "set", **DISTRIBUTIONS["flat"])
        (tmp_path / "set" / missing).unlink()
        with pytest.raises(
            InputError, match=rf"has no {missing}: put it there, or .*--layout folder"
        ):
            opened("set")
        assert sum(sizes(opened("set", layout="folder"))) == 12


class TestRanges:
    """One range for all images, or a sentence."""

    @staticmethod
    def deep(path, values):
        """A 16-bit RGB PNG, which Pillow reads and does not write."""
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        height, width, _ = values.shape
        chunks = (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                struct.pack(">I", len(body))
                + kind
                + body
                + struct.pack(">I", zlib.crc32(kind + body))
                for kind, body in chunks
            )
        )

    def test_bytes_in_16_bits_are_dark_and_that_is_said(self, whole, tmp_path):
        (tmp_path / "data").mkdir()
        Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "data/a.png")
        found = whole("data", channels=1)
        assert "--source-range 0 255" in found.reading.notes[0]
        assert (whole("data", channels=1, source_range=(0, 255)).data.images == 200).all()

    def test_two_ranges_of_32_bits_are_refused(self, whole, tmp_path):
        (tmp_path / "data").mkdir()
        for name, high in (("a.tif", 200), ("b.tif", 60_000), ("black.tif", 0)):
            Image.fromarray(np.full((8, 8), high, np.int32)).save(tmp_path / "data" / name)
        with pytest.raises(InputError, match=r"0 to 255 in a\.tif and 0 to 65535 in b\.tif"):
            whole("data", channels=1)
        images = whole("data", channels=1, source_range=(0, 60_000)).data.images
        assert sorted(images[:, 0, 0, 0].tolist()) == [0, 1, 255]

    def test_colours_of_16_bits(self, whole, tmp_path):
        (tmp_path / "data").mkdir()
        self.deep(tmp_path / "data/a.png", np.full((8, 8, 3), 0x0ABC))
        found = whole("data")
        assert (found.data.images == 0x0A).all()
        assert "are dark" in found.reading.notes[0]
        with pytest.raises(InputError, match="save it with 8 bits"):
            whole("data", source_range=(0, 4095))


class TestFolders:
    """What half fits is no ordinary folder in silence."""

    @staticmethod
    def images(folder, count=6, size=(8, 8)):
        folder.mkdir(parents=True)
        for number in range(1, count + 1):
            pixels = np.full((*size, 3), number, np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:06d}.jpg", quality=100)

    def test_masks_are_left_out(self, whole, tmp_path):
        self.images(tmp_path / "data/images")
        self.images(tmp_path / "data/masks")
        found = whole("data")
        assert len(found.data) == 6 and found.data.labels is None
        (left,) = found.reading.left_out
        assert left.files == 6 and left.example == "masks/000001.jpg"
        assert whole("data", layout="classes").data.class_names == ("images", "masks")

    def test_masks_in_parts_are_left_out(self, whole, tmp_path):
        for part in ("train", "test"):
            for kind in ("images", "annotations"):
                self.images(tmp_path / "data" / part / kind)
        found = whole("data")
        assert len(found.data) == 12 and found.data.labels is None
        assert sorted(found.partition.tolist()) == [0] * 6 + [2] * 6

    def test_two_domains_are_refused(self, whole, tmp_path):
        for name in ("trainA", "trainB", "testA", "testB"):
            self.images(tmp_path / "data" / name)
        with pytest.raises(InputError, match="two domains"):
            whole("data")
        assert len(whole("data", layout="classes").data.class_names) == 4

    def test_case_alone_is_said(self, whole, tmp_path):
        for name in ("Cat", "cat"):
            self.images(tmp_path / "data" / name)
        found = whole("data")
        assert found.data.class_names == ("Cat", "cat")
        assert "differ in case alone" in found.reading.notes[0]

    def test_a_layout_one_folder_deeper(self, whole, tmp_path):
        inner = tmp_path / "data/archive/celeba"
        self.images(inner / "img_align_celeba", size=(218, 178))
        (tmp_path / "data/read me.txt").write_text("downloaded yesterday")
        table = "".join(f"{n:06d}.jpg {1 if n % 2 else -1} -1\n" for n in range(1, 7))
        (inner / "list_attr_celeba.txt").write_text("6\nSmiling Male\n" + table)
        parts = "".join(f"{n:06d}.jpg {n % 3}\n" for n in range(1, 7))
        (inner / "list_eval_partition.txt").write_text(parts)
        found = whole("data", size=(64, 64))
        assert found.data.attribute_names == ("Smiling", "Male")
        assert found.data.attributes.sum(0).tolist() == [3, 0]

    def test_a_cut_archive_is_said_in_one_line(self, whole, tmp_path):
        self.images(tmp_path / "x")
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for path in sorted((tmp_path / "x").iterdir()):
                archive.write(path, path.name)
        whole_file = (tmp_path / "data.zip").read_bytes()
        (tmp_path / "data.zip").write_bytes(whole_file[: len(whole_file) // 2])
        with pytest.raises(InputError, match="damaged") as caught:
            whole("data.zip")
        assert "\n" not in str(caught.value)


class TestOddArrays:
    """What an array of another kind is read as."""

    def test_one_image_with_its_channels_last(self, whole, tmp_path, random):
        image = random.integers(0, 256, (16, 24, 3), dtype=np.uint8)
        np.save(tmp_path / "a.npy", image)
        found = whole("a.npy", size=None)
        assert (found.data.images == image.transpose(2, 0, 1)).all()
        assert "--layout NHW" in found.reading.notes[0]
        assert whole("a.npy", size=None, layout="NHW").data.images.shape == (16, 1, 24, 3)

    def test_values_beyond_float32_are_refused(self, whole, tmp_path):
        np.save(tmp_path / "a.npy", np.full((4, 8, 8), 1e300))
        with pytest.raises(InputError, match="infinite, the first in image 0"):
            whole("a.npy")

    def test_a_named_part_keeps_its_labels(self, whole, tmp_path):
        np.savez(
            tmp_path / "a.npz",
            x_train=np.zeros((6, 8, 8), np.uint8), y_train=np.arange(6).astype(np.uint64) % 3,
            x_test=np.ones((4, 8, 8), np.uint8), y_test=np.arange(4) % 2,
        )  # fmt: skip
        named = whole("a.npz", size=None, array="x_test").data
        assert named.labels.tolist() == [0, 1, 0, 1]
        both = whole("a.npz", size=None)
        assert both.data.class_names == ("0", "1", "2")  # whatever integers the labels are

    def test_a_test_alone_is_a_test(self, whole, tmp_path):
        np.savez(tmp_path / "a.npz", x_test=np.zeros((6, 8, 8), np.uint8), y_test=np.arange(6) % 3)
        found = whole("a.npz", size=None)
        assert found.partition.tolist() == [2] * 6
        assert found.data.labels.tolist() == [0, 1, 2, 0, 1, 2]

    def test_several_labels_an_image_are_attributes(self, whole, tmp_path, random):
        labels = random.integers(0, 2, (6, 4))
        np.savez(
            tmp_path / "a.npz", train_images=np.zeros((6, 8, 8), np.uint8), train_labels=labels
        )
        found = whole("a.npz", size=None)
        assert (found.data.attributes == labels).all() and found.data.labels is None
        assert "4 attributes" in found.reading.notes[0]

    def test_members_that_are_no_arrays_are_passed_over(self, whole, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("notes.npy", "hello")
        with pytest.raises(InputError, match="no array"):
            whole("a.npz")


def test_members_of_an_archive_that_lead_out_of_it_are_left_out(opened, tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(picture, "png")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for index in range(10):
            archive.writestr(f"{index}.png", picture.getvalue())
            archive.writestr(f"../out/{index}.png", picture.getvalue())
    splits = opened("photos.zip")
    assert sum(sizes(splits)) == 10
    assert left_out(splits) == {"its path leads out of the archive": (10, "../out/0.png")}
