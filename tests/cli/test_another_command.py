"""Another command is one file and one line, with subcommands or without."""

import importlib.util
import json
import sys

import pytest

from glowflow import cli

TOP = '''
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from .options import CommonOptions, Outcome


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    """Say a word so many times."""

    word: Annotated[str, tyro.conf.Positional]
    """What to say."""
    seed: int = 2
    """How often."""


def run(options: Any) -> Outcome:
    sound = getattr(options, "sound", "")
    return Outcome(options.word * options.seed + sound, {"word": options.word}, code=1)
'''
SUBCOMMANDS = '''

@dataclass(frozen=True, kw_only=True)
class Loud(Options):
    """Say it aloud."""

    sound: str = "!"


Options = (
    Annotated[Options, tyro.conf.subcommand("soft")]
    | Annotated[Loud, tyro.conf.subcommand("loud")]
)
'''


@pytest.fixture
def add(tmp_path, monkeypatch):
    def call(content):
        path = tmp_path / "echo.py"
        path.write_text(content, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("glowflow.cli.echo", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        monkeypatch.setitem(cli.COMMANDS, "echo", "Say a word.")

    return call


@pytest.fixture
def glow(capsys):
    def call(*arguments):
        try:
            code = cli.main(arguments)
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return call


def test_a_command(add, glow):
    assert glow("echo", "ha") == (2, "", "glow: there is no command 'echo'; see glow --help.\n")
    add(TOP)
    assert "  echo         Say a word.\n" in glow("--help")[1]
    assert glow("echo", "ha") == (1, "haha\n", "")
    code, out, _ = glow("echo", "ha", "--seed", "3", "--json")
    assert (code, json.loads(out)) == (1, {"word": "ha"})
    assert "How often. (default: 2)" in glow("echo", "--help")[1]
    assert glow("echo")[0] == 2


def test_a_command_with_subcommands(add, glow):
    add(TOP + SUBCOMMANDS)
    assert "Say it aloud." in glow("echo", "--help")[1]
    assert glow("echo", "soft", "ha") == (1, "haha\n", "")
    assert glow("echo", "loud", "ha", "--seed", "1") == (1, "ha!\n", "")
    code, out, _ = glow("echo", "loud", "ha", "--json")
    assert (code, json.loads(out)) == (1, {"word": "ha"})
    assert glow("echo", "other", "ha")[0] == 2
