"""`glow study` of models that it trains itself, as a person calls it."""

import itertools
import json
import os
import signal
import time
from types import SimpleNamespace

import pytest

from glowflow.cli import main
from tests.children import Child

TINY = ["--data", "digits", "--size", 8, 8, "--limit", 60, "--seeds", 1, "--hidden-channels", 4,
        "--batch-size", 16, "--images", 32, "--test-images", 6, "--draws", 1,
        "--device", "cpu"]  # fmt: skip
SHALLOW = ["--levels", 1, "--steps", 1]
ONE = ["--scales", 1, "--residual-blocks", 1]
LU = ["--widths", 2, 4, "--rounds", 1, "--timed-images", 1, "--timed-size", 2]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("trials")


@pytest.fixture
def glow(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    monkeypatch.setenv("GLOWFLOW_CACHE", str(work / "cache"))

    def call(*arguments):
        code = main(["study", *map(str, arguments)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


STUDIES = {
    "permutations": (SHALLOW, {"permutations.png"}, {"1x1-affine", "reverse-additive"}, 6),
    "realnvp": ([*SHALLOW, *ONE], {"realnvp.png"}, {"glow", "realnvp-images", "realnvp-time"}, 3),
    "lu": ([*SHALLOW, *LU], {"lu-training.png", "lu-cost.png", "costs.json"}, {"lu", "plain"}, 2),
    "depth": (["--levels", 1, 2, "--steps", 1], {"depth.png"}, {"L1-K1", "L2-K1"}, 2),
    "ingredients": (
        ["--minutes", 0.01, "--ingredients", "adam", "4-steps"],
        {"ingredients.png"},
        {"defaults", "adam", "4-steps"},
        3,
    ),
}


@pytest.fixture
def clock(monkeypatch):
    """A step takes a tenth of a second, and a validation too, however busy the machine is."""
    ticks = SimpleNamespace(monotonic=itertools.count(0, 0.1).__next__)
    for part in ("loop", "validation"):
        monkeypatch.setattr(f"glowflow.training.{part}.time", ticks)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_leaves_its_figures_and_goes_on_where_it_stopped(name, glow, work):
    given, plots, names, count = STUDIES[name]
    code, out, err = glow(name, *TINY, *given, "--out", name, "--json")
    assert code == 0, err
    facts = json.loads(out)
    summary, details = (
        json.loads((work / name / file).read_text(encoding="utf-8"))
        for file in ("summary.json", "details.json")
    )
    assert facts == {"out": name, **summary, **details}
    assert len(details["curves"]) == count and "curves" not in summary
    assert {path.name for path in (work / name).iterdir()} == {
        "settings.yaml", "trials", "index.html", f"{name}.md", "summary.json",
        "details.json", *plots,
    }  # fmt: skip
    assert names <= set(facts["summary"]) and len(facts["trials"]) == count
    page = (work / name / "index.html").read_text(encoding="utf-8")
    table = (work / name / f"{name}.md").read_text(encoding="utf-8")
    for result in facts["trials"]:
        assert not result["stopped"] and result["images"] >= 16
        assert f"{result['test_bits_per_dim']:.3f}" in table
        assert f"{result['parameters']:,}" in page
    assert facts["trials"][0]["hardware"] in table
    assert {"device", "torch", "seed"} <= set(facts["environment"])

    before = {path: path.stat().st_mtime_ns for path in work.rglob("result.json")}
    code, out, err = glow(name, *TINY, *given, "--out", name)
    assert code == 0, err
    assert out.count("\n") == 1 and out.endswith(f"Results: {name}\n")
    assert before == {path: path.stat().st_mtime_ns for path in work.rglob("result.json")}
    assert (work / name / f"{name}.md").read_text(encoding="utf-8") == table

    code, out, err = glow(name, *TINY, *given, "--draws", 2, "--out", name)
    assert code == 2 and out == "" and "was started with draws 1, and this is 2" in err


def test_ctrl_c_says_how_to_go_on(work):
    arguments = ["permutations", *TINY, *SHALLOW, "--images", 100_000, "--out", "stopped"]
    own = {**os.environ, "GLOWFLOW_CACHE": str(work / "cache")}
    child = Child(["-m", "glowflow", "study", *arguments], env=own, cwd=work)
    checkpoints = work / "stopped" / "trials" / "reverse-additive-s0" / "checkpoints"
    start = time.monotonic()
    while not list(checkpoints.glob("*.pt")) and time.monotonic() - start < 120:
        assert child.alive, child.answer()
        time.sleep(0.05)
    child.send(signal.SIGINT)
    code, out, err = child.answer(timeout=120)
    assert code == 130, err
    assert out.count("\n") == 1 and "Go on with the same options and --out stopped" in out
    assert not list((work / "stopped").rglob("result.json"))


BAD = {
    "no seeds": (["permutations", "--seeds", 0], "seeds is 0"),
    "no images": (["depth", "--images", 0], "images is 0"),
    "too deep": (["permutations", "--levels", 9], "cannot be halved 9 times"),
    "no ingredient": (["ingredients", "--ingredients", "salt"], "no ingredient salt: choose from"),
    "no time": (["ingredients", "--minutes", "None"], "at equal seconds: give --minutes"),
    "no width": (["lu", "--widths", 1], "widths is (1,)"),
    "no scales": (["realnvp", "--scales", 9], "cannot be halved 8 times"),
    "no data": (["realnvp", "--data", "nowhere"], "There is no folder or file nowhere"),
    "in use": (["lu", "--out", "."], "exists and is not empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(name, glow, work):
    arguments, message = BAD[name]
    before = sorted(p for p in work.rglob("*") if "cache" not in p.parts)
    code, out, err = glow(arguments[0], *TINY, *arguments[1:])
    lines = [line for line in err.splitlines() if line.startswith("glow study: ")]
    assert code == 2 and out == ""
    assert len(lines) == 1 and message in lines[0], err
    assert sorted(p for p in work.rglob("*") if "cache" not in p.parts) == before


def test_a_study_without_out_makes_its_folder(glow, work, monkeypatch):
    monkeypatch.chdir(work)
    code, out, err = glow("depth", *TINY, "--levels", 1, "--steps", 1)
    assert code == 0, err
    folder = out.strip().removesuffix(".").split("Results: ")[1]
    assert folder.startswith("runs/study-depth-") and (work / folder / "depth.md").is_file()
