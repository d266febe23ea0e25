"""A command's help is there at once: what is heavy is imported by the command that needs it."""

import json
import subprocess
import sys

import pytest

import glowflow
from glowflow.cli import COMMANDS, SHARED, main, train
from glowflow.cli.options import parse
from glowflow.studies.registry import STUDIES

HEAVY = ("torch", "matplotlib", "sklearn", "scipy", "accelerate", "huggingface_hub", "datasets")
HELPS = """
import contextlib, io, json, sys
from glowflow.cli import main

heavy, *lines = json.loads(sys.argv[1])
seen = {}
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            code = main([*line.split(), "--help"])
        except SystemExit as stop:
            code = stop.code
    seen[line] = [code, out.getvalue(), [name for name in heavy if name in sys.modules]]
print(json.dumps(seen))
"""
LINES = [
    "",
    *COMMANDS,
    *(f"study {name}" for name in STUDIES),
    "data info",
    "train photos",
    "train --family realnvp",
    "train --preset cifar10",
    "plan --preset celebahq256",
]


def answer(code, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def helps():
    return json.loads(answer(HELPS, json.dumps([HEAVY, *LINES])))


@pytest.mark.parametrize("line", LINES)
def test_help_imports_nothing_heavy(helps, line):
    code, shown, imported = helps[line]
    assert not code
    assert imported == []
    assert f"usage: glow {line.split()[0] if line else 'COMMAND'}" in shown


@pytest.mark.parametrize("line", [line for line in LINES if line not in ("", "study")])
def test_every_command_takes_the_common_options(helps, line):
    for flag in ("--out", "--device", "--seed", "--json"):
        assert flag in helps[line][1]


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in SHARED])
def test_of_several_processes_the_first_does_what_is_not_shared(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1",
                        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert main([command, "--model", "demo-faces", "--data", "faces"]) == 0
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_the_package_imports_nothing_heavy():
    code = f"import sys, glowflow; print([name for name in {HEAVY} if name in sys.modules])"
    assert answer(code) == "[]\n"
    assert glowflow.Glow.__name__ == "Glow"


@pytest.mark.parametrize(
    ("given", "size"),
    [(["--size", "16"], (16, 16)), (["--size", "16", "24"], (16, 24)), (["--size=16"], (16, 16))],
)
def test_one_number_is_the_size_of_a_square(given, size):
    for arguments in (given, [*given, "--seed", "3"]):
        assert parse(train, "train", "", arguments).train.data.size == size
