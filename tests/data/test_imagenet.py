"""The two ImageNets of small images, and that they are told apart."""

import io
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from glowflow import InputError
from glowflow.data.types import Count

COUNTS = {"train": 20, "valid": 4}
NEW = [f"train_data_batch_{i}" for i in range(1, 11)]


def png(value, side=32):
    file = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 255 - value)).save(file, "PNG")
    return file.getvalue()


def old_folders(root, side=32):
    for name, count in COUNTS.items():
        folder = root / f"{name}_{side}x{side}"
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{i:07d}.png").write_bytes(png(10 * i, side))
    return root


def old_tars(root, side=32):
    root.mkdir(parents=True)
    for name, count in COUNTS.items():
        with tarfile.open(root / f"{name}_{side}x{side}.tar", "w") as tar:
            for i in reversed(range(count)):
                content = png(10 * i, side)
                member = tarfile.TarInfo(f"{name}_{side}x{side}/{i:07d}.png")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return root


def batch(name, side=32, count=3):
    """Image i of batch n is (n, i, 100) with label 100 n + i + 1; `val_data` is batch 0."""
    number = 0 if name == "val_data" else int(name.rpartition("_")[2])
    planes = np.zeros((count, 3, side, side), dtype=np.uint8)
    planes[:, 0] = number
    planes[:, 1] = np.arange(count)[:, None, None]
    planes[:, 2] = 100
    content = {
        "data": planes.reshape(count, -1),
        "labels": [min(1000, 100 * number + i + 1) for i in range(count)],
    }
    return content if name == "val_data" else {**content, "mean": np.zeros(3 * side * side)}


def new_files(root, side=32, npz=False):
    for name in [*NEW, "val_data"]:
        part = "val" if name == "val_data" else "train"
        folder = root / f"Imagenet{side}_{part}{'_npz' if npz else ''}"
        folder.mkdir(parents=True, exist_ok=True)
        if npz:
            np.savez(folder / f"{name}.npz", **batch(name, side))
        else:
            (folder / name).write_bytes(pickle.dumps(batch(name, side), protocol=2))
    return root


class TestOldRelease:
    def test_folders(self, tmp_path, read):
        splits = read(old_folders(tmp_path / "data"))
        assert [len(splits.train), len(splits.valid), len(splits.test)] == [19, 1, 4]
        assert splits.test.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
        assert splits.test.names[1] == "valid_32x32/0000001.png"
        assert splits.train.image_shape == (3, 32, 32)
        assert splits.train.labels is None
        assert splits.dataset == "imagenet32-old"
        assert "ImageNet 32x32, old release (PNG)" in splits.source
        assert splits.completeness == (
            "incomplete: train 20 of 1,281,149 or 1,281,167, valid 4 of 49,999 or 50,000"
        )

    def test_tars_are_the_same(self, tmp_path, read):
        folders, tars = read(old_folders(tmp_path / "a")), read(old_tars(tmp_path / "b"))
        assert tars.checksum == folders.checksum
        assert tars.test.names == folders.test.names
        assert tars.dataset == folders.dataset

    def test_64(self, tmp_path, read):
        assert read(old_folders(tmp_path / "a", 64)).dataset == "imagenet64-old"
        assert read(old_folders(tmp_path / "b", 64), size=(32, 32)).dataset == ""

    def test_several_sizes(self, tmp_path, read):
        root = old_folders(old_folders(tmp_path / "a"), 64)
        with pytest.raises(InputError, match=r"several sizes \(32, 64\): give --size"):
            read(root)
        assert read(root, size=(64, 64)).dataset == "imagenet64-old"

    @pytest.mark.parametrize("make", [old_folders, old_tars])
    def test_missing_part(self, tmp_path, read, make):
        path = next(make(tmp_path / "a").glob("valid*"))
        path.rename(path.with_name("other"))
        with pytest.raises(InputError, match="has no valid_32x32: put"):
            read(tmp_path / "a")

    def test_truncated_tar(self, tmp_path, read):
        path = old_tars(tmp_path / "a") / "train_32x32.tar"
        path.write_bytes(path.read_bytes()[:700])
        with pytest.raises(InputError, match=r"train_32x32.tar: it is damaged"):
            read(tmp_path / "a")

    def test_no_tar_and_an_empty_one(self, tmp_path, read):
        path = old_tars(tmp_path / "a") / "train_32x32.tar"
        path.write_bytes(b"no tar" * 200)
        with pytest.raises(InputError, match="it is damaged"):
            read(tmp_path / "a")
        tarfile.open(path, "w").close()
        with pytest.raises(InputError, match="no PNG file in"):
            read(tmp_path / "a")

    def test_broken_png_is_named(self, tmp_path, read):
        root = old_folders(tmp_path / "a")
        (root / "train_32x32" / "0000003.png").write_bytes(b"broken")
        splits = read(root)
        assert [line.split(":")[0] for line in splits.skipped] == ["train_32x32/0000003.png"]
        assert len(splits.train) + len(splits.valid) == 19

    def test_both_published_counts_are_complete(self):
        for found in (1_281_149, 1_281_167):
            assert Count("train", found, (1_281_149, 1_281_167)).complete
        assert not Count("train", 1_281_150, (1_281_149, 1_281_167)).complete


class TestNewRelease:
    @pytest.mark.parametrize("npz", [False, True])
    def test_images_and_labels(self, tmp_path, read, npz):
        splits = read(new_files(tmp_path / "a", npz=npz))
        assert [len(splits.train), len(splits.valid), len(splits.test)] == [27, 3, 3]
        assert splits.dataset == "imagenet32-new"
        assert "ImageNet 32x32, new release" in splits.source
        assert splits.completeness == "incomplete: train 30 of 1,281,167, val 3 of 50,000"
        assert len(splits.train.class_names) == 1000
        for part in (splits.train, splits.valid, splits.test):
            for image, label in zip(part.images, part.labels, strict=True):
                number, i = int(image[0, 0, 0]), int(image[1, 0, 0])
                assert (number == 0) == (part is splits.test)
                assert label == min(999, 100 * number + i)
                assert splits.train.class_names[label] == str(label + 1)
                assert (image[2] == 100).all()

    def test_all_in_one_folder(self, tmp_path, read):
        root = tmp_path / "a"
        root.mkdir()
        for name in [*NEW, "val_data"]:
            (root / name).write_bytes(pickle.dumps(batch(name, 64), protocol=2))
        assert read(root).dataset == "imagenet64-new"

    @pytest.mark.parametrize("label", [0, 1001])
    def test_labels_out_of_range(self, tmp_path, read, label):
        root = new_files(tmp_path / "a")
        content = {**batch("val_data"), "labels": [1, label, 2]}
        (root / "Imagenet32_val" / "val_data").write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(InputError, match="1 to 1000 are expected"):
            read(root)

    def test_missing_files(self, tmp_path, read):
        root = new_files(tmp_path / "a")
        for number in (4, 10):
            (root / "Imagenet32_train" / f"train_data_batch_{number}").unlink()
        with pytest.raises(InputError, match="no train_data_batch_4, train_data_batch_10: put"):
            read(root)

    def test_two_copies(self, tmp_path, read):
        with pytest.raises(InputError, match="train_data_batch_1 is twice"):
            read(new_files(new_files(tmp_path / "a"), 64))

    def test_damaged_npz(self, tmp_path, read):
        path = new_files(tmp_path / "a", npz=True) / "Imagenet32_val_npz" / "val_data.npz"
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InputError, match=r"val_data.npz: it is damaged"):
            read(tmp_path / "a")


def test_the_two_releases_are_never_taken_for_each_other(tmp_path, read):
    old, new = read(old_folders(tmp_path / "a")), read(new_files(tmp_path / "b"))
    assert {old.dataset, new.dataset} == {"imagenet32-old", "imagenet32-new"}
