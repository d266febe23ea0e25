"""Every kind of data source is one line of the table."""

from pathlib import Path

import numpy as np
import pytest

from glowflow import InputError
from glowflow.data import open as table
from glowflow.data.kinds import file_type, layout, named, prefixed
from glowflow.data.types import Source


def ramps(title):
    """Ten images that are told apart by their first pixel."""
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 1, 4, 4), np.uint8)
    return Source(
        title=title,
        shape=(1, 4, 4),
        dtype="uint8",
        names=tuple(map(str, range(10))),
        read=lambda i: images[i],
    )


def built_in(config, cache, progress):
    return ramps("ramps")


def shop(config):
    return ramps(config.data)


def one_file(path, config):
    return ramps(path.name)


def only_marked(folder, config):
    return ramps("a marked folder") if (folder / "mark").exists() else None


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for name in ("a.ramp", "folder/mark"):
        Path(name).touch()


HERE = __name__
KINDS = {
    "named": (named("ramps", f"{HERE}:built_in"), "ramps"),
    "prefixed": (prefixed("shop:", f"{HERE}:shop"), "shop:ramps"),
    "file_type": (file_type((".ramp",), f"{HERE}:one_file"), "a.ramp"),
    "layout": (layout(f"{HERE}:only_marked"), "folder"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_source_is_one_line(kind, monkeypatch, read):
    line, data = KINDS[kind]
    with pytest.raises(InputError):
        read(data)
    monkeypatch.setattr(table, "SOURCES", (line, *table.SOURCES))
    splits = read(data)
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [8, 1, 1]
    assert splits.source.endswith("10 images, 4x4 grey")


@pytest.mark.parametrize("kind", ["file_type", "layout"])
def test_files_that_change_are_read_again(kind, monkeypatch, read):
    line, data = KINDS[kind]
    monkeypatch.setattr(table, "SOURCES", (line,))
    before = read(data).folder
    assert read(data).folder == before
    Path("a.ramp" if kind == "file_type" else "folder/mark").write_text("changed")
    assert read(data).folder != before


VERSIONS = []


def version(config):
    return VERSIONS.pop(0)


def test_a_new_version_is_other_data(monkeypatch, read):
    line = named("ramps", f"{HERE}:built_in", f"{HERE}:version")
    monkeypatch.setattr(table, "SOURCES", (line,))
    VERSIONS.extend("112")
    first, second, third = (read("ramps").folder for _ in range(3))
    assert first == second != third


def test_messages_name_what_is_in_the_table(tmp_path, monkeypatch, read):
    monkeypatch.setattr(table, "SOURCES", (*table.SOURCES, *(line for line, _ in KINDS.values())))
    with pytest.raises(InputError, match="or shop:org/name, or `faces` or `digits` or `ramps`"):
        read("nowhere")
    (tmp_path / "a.pdf").touch()
    with pytest.raises(InputError, match=r"nor a file of a known kind .*\.npz.*\.zip.*\.ramp"):
        read(tmp_path / "a.pdf")


def test_arrays_of_earlier_versions_are_found(monkeypatch):
    """The cache of a set is under a hash of its fingerprint: it does not change."""
    seen = []

    def record(fingerprint, *_, **__):
        seen.append(fingerprint)
        raise InputError("seen")

    monkeypatch.setattr(table, "store", record)
    monkeypatch.setattr("glowflow.data.kinds._listing", lambda path: str(path))
    config = table.DataConfig
    for data in ("digits", "faces", "hub:org/name", "."):
        with pytest.raises(InputError, match="seen"):
            table.open_splits(config(data=data, label_column="y"))
    how = "None None crop False None None first None"
    assert seen == [
        f"digits {how}",
        f"faces 1 10000 {how}",
        f"hub:org/name None y org/name {how}",
        f". {how}",
    ]


@pytest.mark.parametrize("data", ["", " "])
def test_nothing_is_not_the_folder_one_is_in(read, data):
    with pytest.raises(InputError, match="--data is empty"):
        read(data)
