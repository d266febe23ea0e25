"""The house: imports go down, folders and files form no circle, every folder says what it is."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "glowflow"
ROWS = [
    ["errors", "former"],
    ["checks", "files", "launcher"],
    ["processes", "progress", "photos"],
    ["bijections"],
    ["nn"],
    ["fused"],
    ["models"],
    ["data"],
    ["training"],
    ["evaluation", "latents"],
    ["planning", "reports", "calibration", "inverse"],
    ["interop"],
    ["studies"],
    ["studio"],
    ["cli"],
    ["__init__", "__main__"],
]
"""From the ground up: a room imports from rows below its own, and from itself."""
FLOOR = {room: row for row, rooms in enumerate(ROWS) for room in rooms}


def modules() -> dict[str, Path]:
    """Every module by its name within the package."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in paths}


def imported(name: str, path: Path, known: set[str]) -> set[str]:
    """The modules that a module imports, wherever in it."""
    here = name.split("/")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = here[: len(here) - node.level + 1]
        elif (node.module or "").split(".")[0] == "glowflow":
            base = []
        else:
            continue
        parts = [part for part in (node.module or "").split(".") if part not in ("", "glowflow")]
        base = [*base, *parts]
        for alias in node.names:
            for candidate in ("/".join([*base, alias.name]), "/".join(base)):
                target = candidate if candidate in known else f"{candidate}/__init__".lstrip("/")
                if target in known:
                    found.add(target)
                    break
    return found - {name}


GRAPH = {name: imported(name, path, set(modules())) for name, path in modules().items()}


def room(name: str) -> str:
    return name.split("/")[0]


def test_every_file_is_in_a_room_of_the_plan():
    assert {room(name) for name in GRAPH} == set(FLOOR)


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_imports_go_down(name):
    up = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if room(module) == name and room(other) != name and FLOOR[room(other)] >= FLOOR[name]
    ]
    assert not up


def test_folders_form_no_circle():
    folders: dict[str, set[str]] = {}
    for module, others in GRAPH.items():
        folders.setdefault(room(module), set()).update(room(other) for other in others)
    for name, others in folders.items():
        others.discard(name)
    order(folders)


def test_files_form_no_circle():
    order(GRAPH)


def order(graph: dict[str, set[str]]) -> None:
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_the_test_sees_a_circle_and_an_import_upwards(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from ..cli.options import parse\n")
    assert imported("models/x", path, {"cli/options"}) == {"cli/options"}
    path.write_text("from glowflow.cli import options\nfrom . import config\n")
    assert imported("models/x", path, {"cli/options", "models/config"}) == {
        "cli/options",
        "models/config",
    }
    with pytest.raises(pytest.fail.Exception, match=r"a → b → a|b → a → b"):
        order({"a": {"b"}, "b": {"a"}})


def test_every_folder_says_what_it_is():
    for name, path in modules().items():
        if name.endswith("__init__"):
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), name
