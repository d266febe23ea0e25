"""Runs from the command line: what is refused, and what stays as it was."""

import shutil

import pytest

from glowflow.cli import main
from glowflow.files import LOCK, in_use

from .test_model_data import pictures

TINY = ["--size", "8", "8", "--levels", "2", "--steps", "1", "--hidden-channels", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps on twenty images, and the folder that holds both."""
    work = tmp_path_factory.mktemp("runs")
    pictures(work / "photos", 20)
    given = [str(work / "photos"), *TINY, "--batch_size", "4", "--images", "8"]
    assert main(["train", *given, "--out", str(work / "run"), "--device", "cpu", "--json"]) == 0
    return work


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained / "run", tmp_path / "run")


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def resume(capsys, folder, *flags):
    capsys.readouterr()
    code = main(["train", "--resume", str(folder), "--device", "cpu", *flags])
    return code, capsys.readouterr()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--size", "16", "16"], "--size 8 8"),
        (["--bits", "5"], "--bits 8"),
        (["--coupling-scale", "exp"], "--coupling-scale bounded"),
        (["--seed", "1"], "--seed 0"),
    ],
)
def test_what_would_change_the_model_leaves_every_byte(folder, capsys, flags, named):
    before = contents(folder)
    code, said = resume(capsys, folder, *flags, "--images", "16")
    assert code == 2
    assert f"has {named}, and" in said.err
    assert contents(folder) == before


def test_a_finished_run_has_nothing_to_do(folder, capsys):
    before = contents(folder)
    code, said = resume(capsys, folder)
    assert code == 0
    assert "Nothing to do" in said.out
    assert contents(folder) == before


def test_a_run_in_use_is_refused(folder, capsys):
    with in_use(folder) as lock:
        lock()
        before = contents(folder)
        code, said = resume(capsys, folder, "--images", "16")
        assert contents(folder) == before
    assert code == 2
    assert "is in use by process" in said.err
    assert not (folder / LOCK).exists()


def test_a_configuration_that_is_not_text(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"lr: \xff\xfe")
    assert main(["train", "--config", str(path)]) == 2
    assert "(it is not UTF-8 text): give a YAML file" in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["1", "5"])
def test_help_on_a_narrow_console_ends(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    assert "--batch-size" in capsys.readouterr().out
