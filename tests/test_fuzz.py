"""Odd images, arrays, runs and environments: a sentence each, no traceback, nothing changed.

A longer run, with odd options too: `python -m tests.fuzzing --cases 2000 --seed 7`.
"""

import random
from pathlib import Path

import pytest

from glowflow.cli import COMMANDS
from tests.fuzzing.__main__ import case, make_world
from tests.fuzzing.environments import faults_of
from tests.fuzzing.options import sound_lines

CASES = 10


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", ["images", "arrays", "runs"])
def test_odd_input_ends_in_a_sentence(kind, world):
    results = [case(kind, number, 11, world) for number in range(CASES)]
    assert not [str(result) for result in results if result.faults]
    assert {result.code for result in results} >= {2}  # some of it must be refused


@pytest.mark.parametrize(
    "name",
    [
        "cp1252",
        "a full disk",
        pytest.param("closed output", marks=pytest.mark.slow),
        pytest.param("an unknown backend", marks=pytest.mark.slow),
    ],
)
def test_an_odd_environment_is_no_fault(name, world, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))
    here = tmp_path / "here"
    here.mkdir()
    assert not faults_of(name, world, here)


def test_every_command_is_called_with_odd_options():
    assert sound_lines(random.Random(0), Path("world")).keys() == COMMANDS.keys()
