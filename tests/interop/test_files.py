"""What a file is, is told by what is in it."""

import io
import shutil
import zipfile

import numpy as np
import pytest
import torch

from glowflow import CheckpointError
from glowflow.interop.files import read_contents

from . import tensorflow_files as tf


@pytest.mark.parametrize(
    ("name", "count"), [("frozen.pb", 81), ("golden.npz", 81), ("model_best_loss.ckpt.index", 325)]
)
def test_a_suffix_counts_for_nothing(official, tmp_path, name, count):
    called = "weights.index" if name.endswith("index") else "weights.bin"
    shutil.copyfile(official / name, tmp_path / called)
    for data in official.glob("*.data-*"):
        shutil.copyfile(data, tmp_path / "weights.data-00000-of-00001")
    assert len(read_contents(tmp_path / called).tensors) == count


def test_the_newest_checkpoint_of_a_folder(tmp_path):
    for name in ("model-1", "model-2"):
        tf.write_checkpoint(tmp_path / name, {name: np.ones(2, np.float32)})
    with pytest.raises(CheckpointError, match=r"there is model-1\.index, model-2\.index"):
        read_contents(tmp_path)
    text = 'model_checkpoint_path: "C:\\\\runs\\\\{0}"\nall_model_checkpoint_paths: "/a/model-1"\n'
    (tmp_path / "checkpoint").write_text(text.format("model-2"))
    assert list(read_contents(tmp_path).tensors) == ["model-2"]
    (tmp_path / "checkpoint").write_text(text.format("model-3"))
    with pytest.raises(CheckpointError, match=r"names the checkpoint model-3, and there is no"):
        read_contents(tmp_path)


def test_a_checkpoint_file_leads_nowhere_else(tmp_path):
    tf.write_checkpoint(tmp_path / "secret", {"a": np.ones(2, np.float32)})
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "checkpoint").write_text('model_checkpoint_path: "../secret"\n')
    with pytest.raises(CheckpointError, match=r"no secret\.index beside it"):
        read_contents(tmp_path / "inner")


def npy(array, header=None):
    file = io.BytesIO()
    np.save(file, array)
    content = file.getvalue()
    return content if header is None else content.replace(*header)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.ones(4)), "4"),
        (npy(np.array([object()])), "damaged|no array of numbers"),
        (npy(np.array(["text"])), "no array of numbers"),
        (npy(np.ones(4, np.longdouble)), "no array of numbers"),
        (npy(np.ones(4), (b"(4,), ", b"(-2,-2)")), "damaged|no array of numbers"),
        (npy(np.ones(4), (b"(4,), ", b"(9999,)")), "damaged|no array of numbers"),
        (npy(np.ones(4))[:-3], "no array of numbers"),
        (b"\x93NUMPY\x03\x00" + bytes(70), r"version \(3, 0\)"),
        (b"", "damaged"),
        (npy(np.ones(4), (b"False", b"print")), "damaged"),
    ],
)
def test_members_of_a_dump(tmp_path, content, message):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    tensors = read_contents(tmp_path / "a.npz").tensors
    if message == "4":
        assert torch.equal(tensors["a"], torch.ones(4, dtype=torch.float64))
        return
    with pytest.raises(CheckpointError, match=message):
        tensors["a"]


def test_arrays_by_columns_and_of_another_byte_order(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    np.savez(tmp_path / "a.npz", f=np.asfortranarray(array), big=array.astype(">f8"))
    tensors = read_contents(tmp_path / "a.npz").tensors
    for name in ("f", "big"):
        assert torch.equal(tensors[name], torch.from_numpy(array))


def test_names_of_values_in_a_session(tmp_path):
    np.savez(tmp_path / "a.npz", **{"model/0/0/f1/l_1/W:0": np.ones(2)})
    assert list(read_contents(tmp_path / "a.npz").tensors) == ["model/0/0/f1/l_1/W"]
    np.savez(tmp_path / "b.npz", **{"a": np.ones(2), "a:0": np.ones(2)})
    with pytest.raises(CheckpointError, match="has a twice"):
        read_contents(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "none of the files"),
        (b"PK\x03\x04 and no more", "is damaged"),
        (b"<html>not found</html>", "none of the files"),
        (b"\n\nA text that begins with an empty line.", "damaged|none of the files"),
        (b"version https://git-lfs.github.com/spec/v1\n", "none of the files"),
    ],
)
def test_other_files(tmp_path, content, message):
    (tmp_path / "a.pb").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_contents(tmp_path / "a.pb")


def test_archives_of_other_things(tmp_path):
    for names, message in ((["a.txt"], "other things"), (["a.npy", "b.txt"], r"b\.txt")):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name in names:
                archive.writestr(name, "text")
        with pytest.raises(CheckpointError, match=message):
            read_contents(tmp_path / "a.zip")


def test_an_archive_that_fills_the_memory(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(2**22))
    with pytest.raises(CheckpointError, match="would grow to 33,554"):
        read_contents(tmp_path / "a.npz")
