"""The recipes of CONTRIBUTING, followed to the letter in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^### (.+)$", re.MULTILINE)
FILE = re.compile(r"^`((?:src|tests)/\S+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINE = re.compile(
    r"in `(\w+)` of\s+`(\S+\.py)`(?:(?!\n\n).)*:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
CHECK = re.compile(r"^Check.*?:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINE_TEST = """
print("every check has passed", flush=True)
import sys
import pytest
asked = ["tests/bijections/test_bijections.py", "-k", "householder"]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *asked]))
"""
SEAMS = ("bijection", "coupling", "network", "data source", "command", "study")


@dataclass(frozen=True)
class Recipe:
    title: str
    files: list[tuple[str, str]]
    lines: list[tuple[str, str, str]]
    check: str


def recipes() -> list[Recipe]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Recipes")[1]
    _, *parts = HEADING.split(text)
    return [
        Recipe(title, FILE.findall(body), LINE.findall(body), *CHECK.findall(body))
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    ]


def follow(recipe: Recipe, folder: Path) -> None:
    for path, text in recipe.files:
        assert not (folder / path).exists()
        (folder / path).write_text(text, encoding="utf-8")
    for table, path, line in recipe.lines:
        text = (folder / path).read_text(encoding="utf-8")
        opening = re.search(rf"^{table}\b[^=\n]*= [{{(]$", text, re.MULTILINE)
        assert opening, f"{path} has no {table} that opens on a line of its own"
        (folder / path).write_text(text[: opening.end() + 1] + line + text[opening.end() + 1 :])


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the project in which every recipe was followed."""
    folder = tmp_path_factory.mktemp("house")
    for name in ("src", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "golden")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for recipe in recipes():
        follow(recipe, folder)
    return folder


def python(house, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(house / "src")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=house, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def followed(house):
    """What a process says in which the checks are run, and then the test of a recipe's line."""
    checks = "".join(f"def check_{i}():\n{_indented(r.check)}\n" for i, r in enumerate(recipes()))
    calls = "".join(f"check_{index}()\n" for index in range(len(recipes())))
    where = "import glowflow\nassert glowflow.__file__.startswith(PLACE), glowflow.__file__\n"
    script = house / "checks.py"
    script.write_text(checks + where.replace("PLACE", repr(str(house))) + calls + LINE_TEST)
    return python(house, "-W", "ignore", str(script))


def test_there_is_a_recipe_for_every_seam():
    titles = [recipe.title for recipe in recipes()]
    for seam in SEAMS:
        assert any(seam in title for title in titles), seam


def test_every_recipe_is_one_file_and_one_line():
    for recipe in recipes():
        assert len(recipe.files) == 1, recipe.title
        registrations = [line for _, path, line in recipe.lines if path.startswith("src/")]
        assert len(registrations) == 1, recipe.title
        assert len(registrations[0].splitlines()) == 1, recipe.title


def test_the_recipes_work(followed):
    assert "every check has passed" in followed.stdout, followed.stderr


def test_a_bijection_of_a_recipe_is_tested_by_its_line(followed):
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert re.search(r"\b[6-9] passed", followed.stdout), followed.stdout


def test_the_recipes_are_formatted_and_typed(house):
    paths = [path for recipe in recipes() for path, _ in recipe.files]
    for tool in (["ruff", "check"], ["ruff", "format", "--check"]):
        done = python(house, "-m", *tool, *paths)
        assert done.returncode == 0, done.stdout + done.stderr


def _indented(text: str) -> str:
    return "".join(f"    {line}" if line.strip() else line for line in text.splitlines(True))
