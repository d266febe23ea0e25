"""Files and folders are whole, new, and nobody else's."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from glowflow import InputError
from glowflow.files import LOCK, MARK, in_use, make_new, make_numbered, replacing


def test_runs_that_start_at_once_have_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: make_numbered(tmp_path / "runs" / "a"), range(64)))
    assert len(set(made)) == 64
    numbers = {path.name.removeprefix("a").removeprefix("-") or "1" for path in made}
    assert numbers == {str(number) for number in range(1, 65)}
    assert all(path.is_dir() for path in made)


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    make_new(tmp_path / "new")
    for name in (LOCK, MARK):
        (tmp_path / "new" / name).touch()
    make_new(tmp_path / "new")
    (tmp_path / "new" / "a.png").touch()
    with pytest.raises(InputError, match="exists and is not empty: choose another --out"):
        make_new(tmp_path / "new")


def test_of_two_that_lock_a_folder_the_second_is_told_who_has_it(tmp_path):
    with in_use(tmp_path) as first, in_use(tmp_path) as second:
        first()
        first()  # it is ours
        with pytest.raises(InputError, match=r"is in use by process \d+ on .*: wait until"):
            second()
    with in_use(tmp_path) as third:
        third()
        assert (tmp_path / LOCK).is_file()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_fails_leaves_the_one_before(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
