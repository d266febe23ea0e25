"""Odd images, damaged arrays and damaged runs: a sentence each, no traceback, nothing changed.

A longer run, and odd options: `python -m tests.fuzzing --cases 2000 --seed 7`.
"""

import pytest

from tests.fuzzing.__main__ import case, make_world

CASES = 10


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", ["images", "arrays", "runs"])
def test_odd_input_ends_in_a_sentence(kind, world):
    results = [case(kind, number, 11, world) for number in range(CASES)]
    assert not [str(result) for result in results if result.faults]
    assert {result.code for result in results} >= {2}  # some of it must be refused
