"""Data sets of the hub: local ones, a loader that is replaced, and one real one."""

import sys

import datasets
import numpy as np
import pytest
from PIL import Image

from glowflow import InputError

FEATURES = datasets.Features(
    {
        "img": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog", "owl"]),
        "number": datasets.Value("int64"),
    }
)


def rows(count, first=0):
    return {
        "img": [Image.new("RGB", (8, 8), (first + i, 50, 0)) for i in range(count)],
        "label": [(first + i) % 3 for i in range(count)],
        "number": [first + i for i in range(count)],
    }


def table(content, features=FEATURES):
    return datasets.Dataset.from_dict(content, features=features)


def sizes(root, **splits):
    lines = [f"  - name: {name}\n    num_examples: {n}" for name, n in splits.items()]
    (root / "README.md").write_text(
        "\n".join(["---", "dataset_info:", "  splits:", *lines, "---", ""])
    )


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """Each shuffled stream of parquet files ends with a pause of five seconds."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "set"
    (root / "data").mkdir(parents=True)
    table(rows(20)).to_parquet(root / "data" / "train-00000-of-00001.parquet")
    table(rows(5, 100)).to_parquet(root / "data" / "test-00000-of-00001.parquet")
    return root


@pytest.fixture
def replaced(monkeypatch):
    """Replace the loader by one that answers these splits, and return the arguments it gets."""

    def with_splits(**splits):
        calls = []

        def load(path, **options):
            calls.append((path, options))
            return datasets.IterableDatasetDict(splits)

        monkeypatch.setattr(datasets, "load_dataset", load)
        return calls

    return with_splits


def parts(splits):
    return [len(splits.train), len(splits.valid), len(splits.test)]


def test_all_images_where_the_sizes_are_known(folder, read):
    sizes(folder, train=20, test=5)
    splits = read(f"hub:{folder}", size=(8, 8))
    assert parts(splits) == [18, 2, 5]
    assert sorted(splits.test.images[:, 0, 0, 0].tolist()) == [100, 101, 102, 103, 104]
    for part in (splits.train, splits.valid, splits.test):
        assert (part.images[:, 0, 0, 0] % 3 == part.labels).all()
    assert splits.train.class_names == ("cat", "dog", "owl")
    assert splits.dataset == ""


def test_a_limit_reads_no_further(folder, read, monkeypatch):
    read_rows = []
    real = datasets.IterableDataset.__iter__

    def watched(self):
        for example in real(self):
            read_rows.append(example["number"])
            yield example

    monkeypatch.setattr(datasets.IterableDataset, "__iter__", watched)
    splits = read(f"hub:{folder}", size=(8, 8), limit=10)
    assert parts(splits) == [8, 1, 1]
    assert len(read_rows) == 10
    assert max(splits.train.images[:, 0, 0, 0]) < 100
    assert min(splits.test.images[:, 0, 0, 0]) >= 100


def test_second_start_opens_nothing(folder, read, monkeypatch):
    first = read(f"hub:{folder}", size=(8, 8), limit=10)

    def refuse(*arguments, **options):
        raise AssertionError("opened again")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    assert read(f"hub:{folder}", size=(8, 8), limit=10).checksum == first.checksum


def test_unknown_size_needs_a_limit(folder, read):
    with pytest.raises(InputError, match="does not say how many images it has: give --limit"):
        read(f"hub:{folder}", size=(8, 8))


def test_a_stream_may_end_before_the_limit(folder, read):
    splits = read(f"hub:{folder}", size=(8, 8), limit=1000)
    assert sum(parts(splits)) == 25
    assert parts(splits)[2] == 5
    assert splits.skipped == ()


def test_folder_of_images(tmp_path, read):
    for name in ("ants", "bees"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "set" / name / f"{i}.png")
    splits = read(f"hub:{tmp_path / 'set'}", size=(8, 8), limit=20)
    assert parts(splits) == [15, 2, 3]
    assert splits.train.class_names == ("ants", "bees")


def test_name_subset_and_revision(read, replaced):
    calls = replaced(train=table(rows(10)).to_iterable_dataset())
    read("hub:org/name:part@v1.0", size=(8, 8), limit=10)
    read("hub:org/name", size=(8, 8), limit=10)
    assert calls == [
        ("org/name", {"name": "part", "revision": "v1.0", "streaming": True}),
        ("org/name", {"name": None, "revision": None, "streaming": True}),
    ]
    with pytest.raises(InputError, match=r"give hub:org/name\[:subset\]"):
        read("hub:")


def test_a_set_without_train_is_split_here(read, replaced):
    replaced(test=table(rows(10)).to_iterable_dataset())
    assert parts(read("hub:org/name", size=(8, 8), limit=10)) == [7, 1, 2]


def test_valid_and_test_are_kept_and_others_are_not(read, replaced):
    names = {"train": 0, "extra": 50, "validation": 100, "test": 200}
    replaced(**{n: table(rows(20, first)).to_iterable_dataset() for n, first in names.items()})
    splits = read("hub:org/name", size=(8, 8), limit=20)
    assert parts(splits) == [16, 2, 2]
    assert [int(p.images[0, 0, 0, 0]) // 50 for p in (splits.valid, splits.test)] == [2, 4]
    assert splits.train.images[:, 0].max() < 50


class TestColumns:
    two = datasets.Features({**FEATURES, "mask": datasets.Image()})

    def content(self, count=10):
        return {**rows(count), "mask": [Image.new("RGB", (8, 8), (0, 0, 9))] * count}

    def test_have_to_be_given_where_there_are_two(self, read, replaced):
        replaced(train=table(self.content(), self.two).to_iterable_dataset())
        with pytest.raises(InputError, match="2 columns of images: give --image-column, one of"):
            read("hub:org/name", size=(8, 8), limit=10)
        splits = read("hub:org/name", size=(8, 8), limit=10, image_column="mask")
        assert (splits.train.images[:, 2] == 9).all()

    def test_unknown_ones(self, read, replaced):
        replaced(train=table(rows(10)).to_iterable_dataset())
        for option in ("image_column", "label_column"):
            with pytest.raises(InputError, match=r"no column x for --.*: it has img, label"):
                read("hub:org/name", size=(8, 8), limit=10, **{option: "x"})

    def test_integers_as_labels(self, read, replaced):
        content = {**rows(10), "number": [i % 4 for i in range(10)]}
        replaced(train=table(content).to_iterable_dataset())
        train = read("hub:org/name", size=(8, 8), limit=10, label_column="number").train
        assert train.class_names == ("0", "1", "2", "3")
        assert (train.labels == train.images[:, 0, 0, 0] % 4).all()

    def test_text_as_labels(self, read, replaced):
        features = datasets.Features({**FEATURES, "number": datasets.Value("string")})
        content = {**rows(10), "number": ["x"] * 10}
        replaced(train=table(content, features).to_iterable_dataset())
        with pytest.raises(
            InputError,
            match=r"The column number of org/name is Value\(.*string.*integers are expected",
        ):
            read("hub:org/name", size=(8, 8), limit=10, label_column="number")

    def test_no_images(self, read, replaced):
        replaced(train=datasets.Dataset.from_dict({"text": ["a"] * 10}).to_iterable_dataset())
        with pytest.raises(InputError, match=r"0 columns of images: .* one of text"):
            read("hub:org/name", limit=10)

    def test_images_without_their_type(self, read, replaced):
        """Plain bytes, as in a parquet file that was not written by datasets."""
        plain = [{"bytes": r["img"]["bytes"]} for r in
                 table(rows(10)).cast_column("img", datasets.Image(decode=False))]  # fmt: skip
        replaced(train=datasets.Dataset.from_dict({"picture": [p["bytes"] for p in plain]})
                 .to_iterable_dataset())  # fmt: skip
        splits = read("hub:org/name", size=(8, 8), limit=10, image_column="picture")
        assert set(splits.train.images[:, 1, 0, 0]) == {50}


def test_broken_images_and_missing_labels_are_named(read, replaced):
    content = rows(12)
    data = table(content).cast_column("img", datasets.Image(decode=False))
    examples = [dict(example) for example in data]
    examples[3]["img"] = {"bytes": b"broken", "path": None}
    examples[4]["img"] = {"bytes": None, "path": "/nowhere/4.png"}
    examples[5]["img"] = None
    examples[6]["label"] = -1
    keys = ("img", "label", "number")
    broken = datasets.Dataset.from_dict({k: [e[k] for e in examples] for k in keys}, FEATURES)
    replaced(train=broken.to_iterable_dataset())
    splits = read("hub:org/name", size=(8, 8), limit=12)
    assert sum(parts(splits)) == 8
    assert len(splits.skipped) == 4
    assert sum("its label is -1" in line for line in splits.skipped) == 1


def test_a_stream_that_breaks_off(read, replaced):
    def broken():
        yield {"img": rows(1)["img"][0], "label": 0, "number": 0}
        raise ConnectionError("the network is gone.")

    stream = datasets.IterableDataset.from_generator(broken, features=FEATURES)
    replaced(train=stream)
    with pytest.raises(InputError, match=r"stream of org/name broke off at .*network is gone\)"):
        read("hub:org/name", size=(8, 8), limit=10)


def test_loader_that_fails(read, monkeypatch):
    def fail(*arguments, **options):
        raise ConnectionError("Couldn't reach\n the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match=r"Cannot open org/name \(Couldn't reach the Hub\)"):
        read("hub:org/name")


def test_without_the_package(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"package datasets: pip install 'glowflow\[hub\]'"):
        read("hub:org/name")


@pytest.mark.network
def test_the_real_hub(read):
    """Its twin, test_a_limit_reads_no_further, streams a local copy of the same layout."""
    splits = read("hub:uoft-cs/cifar10", size=(32, 32), limit=100)
    assert parts(splits) == [81, 9, 10]
    assert splits.train.class_names[3] == "cat"
    assert np.asarray(splits.train.images).std() > 30
