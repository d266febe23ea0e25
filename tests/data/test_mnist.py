"""Fashion-MNIST's files."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from glowflow import InputError
from tests.data.test_idx import idx

INSTALLED = Path("/usr/share/datasets/fashion-mnist")
FASHION = [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 1, 4]
MNIST = [5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 6, 8]


def write(root, labels=FASHION, compress=True, test=4):
    root.mkdir(parents=True)
    for part, some in (("train", labels), ("t10k", labels[:test])):
        images = np.arange(len(some))[:, None, None] + np.zeros((1, 28, 28))
        images[:, 3, 20] = 99
        for name, array in (("images-idx3", images), ("labels-idx1", some)):
            path = root / f"{part}-{name}-ubyte"
            if compress:
                path.with_suffix(".gz").write_bytes(gzip.compress(idx(array)))
            else:
                path.write_bytes(idx(array))
    return root


@pytest.mark.parametrize("compress", [True, False])
def test_images_and_labels(tmp_path, read, compress):
    splits = read(write(tmp_path / "a", compress=compress))
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [11, 1, 4]
    for part in (splits.train, splits.valid, splits.test):
        for image, label in zip(part.images, part.labels, strict=True):
            assert label == FASHION[image[0, 0, 0]]
            assert image[0, 3, 20] == 99
    assert splits.train.image_shape == (1, 28, 28)
    assert splits.train.class_names[9] == "Ankle boot"
    assert splits.dataset == "fashion-mnist"
    assert splits.source == "Fashion-MNIST: 16 images, 28x28 grey"
    assert splits.completeness == "incomplete: train 12 of 60,000, test 4 of 10,000"


def test_mnist_and_others_are_told_apart(tmp_path, read):
    assert read(write(tmp_path / "a", MNIST)).dataset == "mnist"
    other = read(write(tmp_path / "b", [0, 1, 2] * 5))
    assert (other.dataset, other.completeness, other.source.split(":")[0]) == ("", "", "b")
    assert other.train.class_names == ("0", "1", "2")


def test_enlarged(tmp_path, read):
    splits = read(write(tmp_path / "a"), size=(32, 32), upscale=True, channels=3)
    assert splits.train.image_shape == (3, 32, 32)
    assert splits.dataset == ""


def test_missing_file(tmp_path, read):
    (write(tmp_path / "a") / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match="has no t10k-labels-idx1-ubyte: put"):
        read(tmp_path / "a")


def test_files_that_do_not_belong_together(tmp_path, read):
    root = write(tmp_path / "a", compress=False)
    (root / "train-labels-idx1-ubyte").write_bytes(idx(FASHION[:5]))
    with pytest.raises(InputError, match=r"\(12, 28, 28\) and their labels \(5,\)"):
        read(root)


def test_labels_out_of_range(tmp_path, read):
    with pytest.raises(InputError, match="go up to 10, and 0 to 9"):
        read(write(tmp_path / "a", [*FASHION, 10]))


@pytest.mark.skipif(
    not INSTALLED.is_dir(),
    reason="Debian's package dataset-fashion-mnist is not installed; "
    "test_images_and_labels reads the same layout",
)
def test_as_debian_installs_it(read):
    splits = read(INSTALLED)
    assert (splits.dataset, splits.completeness) == ("fashion-mnist", "complete")
    assert np.bincount(splits.test.labels).tolist() == [1000] * 10
