"""CIFAR-10 in its official layout."""

import os
import pickle

import numpy as np
import pytest

from glowflow import InputError
from glowflow.data.formats import batch_file
from glowflow.data.sources.batch_files import batch_file_source

TRAIN = [f"data_batch_{i}" for i in range(1, 6)]
SIZE = 6


def batch(number, count=SIZE):
    """Image i of batch n is red n, green i, blue 200, and has a cross of 0 in its red plane."""
    planes = np.zeros((count, 3, 32, 32), dtype=np.uint8)
    planes[:, 0] = number
    planes[:, 1] = np.arange(count)[:, None, None]
    planes[:, 2] = 200
    planes[:, 0, 5, 7] = 0
    return {
        "batch_label": f"batch {number}",
        "labels": [(number + i) % 10 for i in range(count)],
        "data": planes.reshape(count, 3072),
        "filenames": [f"image_s_{i:06d}.png" for i in range(count)],
    }


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "cifar-10-batches-py"
    for number, name in enumerate([*TRAIN, "test_batch"], start=1):
        write(root / name, batch(number))
    write(root / "batches.meta", {"label_names": ["airplane"], "num_cases_per_batch": 10000})
    return root


def change(folder, name, **changes):
    write(folder / name, {**batch(1), **changes})


def test_images_labels_and_parts(folder, read):
    splits = read(folder)
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [29, 1, 6]
    for part in (splits.train, splits.valid, splits.test):
        for image, label in zip(part.images, part.labels, strict=True):
            number, i = int(image[0, 0, 0]), int(image[1, 0, 0])
            assert (number == 6) == (part is splits.test)
            assert label == (number + i) % 10
            assert (image[2] == 200).all()
            assert np.argwhere(image[0] != number).tolist() == [[5, 7]]
    assert splits.test.images[:, 1, 0, 0].tolist() == list(range(SIZE))
    assert splits.train.class_names[6] == "frog"
    assert splits.train.image_shape == (3, 32, 32)
    assert splits.train.names[0].startswith("data_batch_1[")


def test_the_folder_above_is_the_same(folder, read):
    assert read(folder.parent).checksum == read(folder).checksum


def test_says_what_it_is_and_what_is_missing(folder, read, capsys):
    splits = read(folder, progress=True)
    assert splits.dataset == "cifar10"
    assert splits.source == "CIFAR-10: 36 images, 32x32 RGB"
    assert splits.completeness == "incomplete: train 30 of 50,000, test 6 of 10,000"
    assert "incomplete: train 30 of 50,000" in " ".join(capsys.readouterr().err.split())


def test_is_complete_with_all_images(folder, read, monkeypatch):
    monkeypatch.setattr(
        "glowflow.data.sources.cifar10.batch_file_source",
        lambda *a, published, **k: batch_file_source(
            *a, published=(("train", 30), ("test", 6)), **k
        ),
    )
    assert read(folder).completeness == "complete"


def test_resized_images_are_not_the_published_ones(folder, read):
    splits = read(folder, size=(16, 16))
    assert splits.train.image_shape == (3, 16, 16)
    assert splits.dataset == ""
    assert read(folder, channels=1).dataset == ""


def test_files_are_read_one_by_one_and_only_the_first_time(folder, read, monkeypatch):
    opened = []
    real = batch_file.load_pickle

    def watched(path):
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr(batch_file, "load_pickle", watched)
    read(folder)
    assert opened == [*TRAIN, "test_batch"] * 2
    opened.clear()
    read(folder)
    assert opened == []


def test_limit(folder, read):
    splits = read(folder, limit=10)
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [8, 1, 1]
    assert (splits.test.images[:, 0, 0, 0] == 6).all()
    assert splits.completeness.startswith("incomplete: train 30 of")


def test_missing_batch(folder, read):
    (folder / "data_batch_3").unlink()
    with pytest.raises(InputError, match="has no data_batch_3"):
        read(folder)


def test_truncated_batch(folder, read, cache):
    path = folder / "data_batch_2"
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match="data_batch_2: it is damaged"):
        read(folder)
    assert not cache.exists()


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_batch_that_runs_code_is_refused(folder, read, tmp_path):
    change(folder, "test_batch", labels=Attack(str(tmp_path / "mark")))
    with pytest.raises(InputError, match=r"mkdir, which no file of images needs"):
        read(folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1, 2, 3, 4, 10]}, "go from 0 to 10, and 0 to 9"),
        ({"labels": [-1, 1, 2, 3, 4, 5]}, "go from -1 to 5"),
        ({"labels": [1, 2]}, "not 6 integers"),
        ({"labels": [[1], [1, 2]]}, "not 6 integers"),
        ({"labels": [0.5] * 6}, "not 6 integers"),
        ({"data": np.zeros((6, 3072))}, "float64"),
        ({"data": np.zeros((6, 3071), np.uint8)}, r"\(6, 3071\)"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, r"\(0, 3072\)"),
        ({"data": "x"}, "are str"),
        ({"data": np.zeros((6, 3 * 16 * 16), np.uint8)}, "32x32 and those in .* are 16x16"),
    ],
)
def test_bad_batches(folder, read, changes, message):
    change(folder, "data_batch_4", **changes)
    with pytest.raises(InputError, match=message):
        read(folder)


@pytest.mark.parametrize("content", [[1, 2], {"data": 1}])
def test_not_a_batch(folder, read, content):
    write(folder / "data_batch_4", content)
    with pytest.raises(InputError, match="no `data` and `labels`"):
        read(folder)
