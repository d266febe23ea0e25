"""The pages say what is so: their code runs, their equations are MathML, nothing is fetched."""

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from glowflow.cli import COMMANDS, main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "results" not in p.parts)
BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = 'title="not run here"'
KINDS = ("python", "console")
SHOWN = ("js", "csharp")
"""Of other languages, which are never run here and say so."""


def blocks(page):
    """The kind, the code and the line number of each block that is to be run."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        kind, _, rest = found["info"].partition(" ")
        known = kind in KINDS and rest in ("", NOT_RUN)
        assert known or (kind in SHOWN and rest == NOT_RUN), f"{page.name}: {found['info']!r}"
        if rest != NOT_RUN:
            yield kind, found["code"], text.count("\n", 0, found.start("code"))


def commands(code):
    """The arguments of each `$ glow` line, continued lines joined."""
    for line in code.replace("\\\n", " ").splitlines():
        assert line.startswith("$ glow "), line
        yield shlex.split(line)[2:]


RUN = [page for page in PAGES if any(blocks(page))]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(DOCS).as_posix())
@pytest.mark.usefixtures("unseen_plots")
def test_a_page_runs(page, tmp_path, cache, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOWFLOW_CACHE", str(cache))
    namespace = {"__name__": "page"}
    for kind, code, line in blocks(page):
        if kind == "console":
            for arguments in commands(code):
                assert main(arguments) == 0, capsys.readouterr().err
        else:  # the newlines give tracebacks the line numbers of the page
            exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_figures_are_the_measured_ones():
    demo = json.loads((DOCS / "results" / "demo-evaluation.json").read_text())
    page = (DOCS / "exercises" / "bits-per-dimension.md").read_text(encoding="utf-8")
    for mean in (demo["mean"], *(row["mean"] for row in demo["baselines"])):
        assert f"{mean:.3f}" in page
    fashion = DOCS / "results" / "fashion-mnist"
    page = (fashion / "fashion-mnist.md").read_text(encoding="utf-8")
    evaluations = json.loads((fashion / "summary.json").read_text())["evaluations"]
    assert [found["draws"] for found in evaluations] == [1, 64]
    for found in evaluations:
        for row in (found, *found["baselines"]):
            assert f"{row['mean']:.3f} ± {row['standard_error']:.3f}" in page
    page = (DOCS / "studio.md").read_text(encoding="utf-8")
    for size in (32, 64):
        found = json.loads((DOCS / "results" / f"studio-{size}.json").read_text())
        waits = found["slider_to_pixels_ms"]
        line = f"| {size}x{size} | {found['frames_a_second']} | {waits['p50']} | {waits['p95']} |"
        assert line in page
    large = json.loads((DOCS / "results" / "large-celebahq256.json").read_text())
    peaks = [large[memory]["peak resident GiB"] for memory in ("reversible", "stored")]
    bench = (DOCS / "results" / "benchmark-amd-epyc.md").read_text(encoding="utf-8")
    page = (DOCS / "many-gpus.md").read_text(encoding="utf-8")
    for figure in (f"{large['stored']['parameters']:,}", *map(str, peaks)):
        assert figure in page
    for figure in ("32.1", "1,031"):
        assert figure in page and figure in bench


def test_the_page_of_results_says_what_each_study_says():
    page = (DOCS / "results" / "index.md").read_text(encoding="utf-8")
    pages = (DOCS / "results").glob("*-*/*.md")
    studies = [path for path in pages if path.parent.name.startswith(f"{path.stem}-")]
    assert studies
    for study in studies:
        _, said, *_ = study.read_text(encoding="utf-8").split("\n\n")
        assert f"]({study.parent.name}/{study.name}). {said}\n" in page
        summary = json.loads((study.parent / "summary.json").read_text(encoding="utf-8"))
        assert summary["sentence"] == said and summary["study"] == study.stem


def test_every_command_is_shown():
    text = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [name for name in COMMANDS if f"glow {name}" not in text]
    assert not missing


@pytest.fixture(scope="module")
def hooks():
    return runpy.run_path(str(DOCS / "hooks.py"))


def test_a_source_line_becomes_the_code_as_it_is(hooks):
    name = "glowflow.bijections.squeeze.Squeeze.forward"
    shown = hooks["on_page_markdown"](f"a\n::source {name}\nb")
    assert shown.startswith('a\n```python title="src/glowflow/bijections/squeeze.py"\n')
    assert "blocks.permute(order)" in shown


def test_a_name_that_is_gone_stops_the_build(hooks):
    with pytest.raises(KeyError):
        hooks["on_page_markdown"]("::source glowflow.models.glow.Gone")


def test_the_front_page_has_the_model_or_its_picture(hooks, tmp_path):
    shown = hooks["live"](tmp_path / "live")
    picture, link = re.findall(r"\]\(([^)#]+)", shown)
    assert (DOCS / picture).is_file() and (DOCS / link).is_file()
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "meta.json").write_text("{}")
    assert '<iframe class="live" src="live/index.html"' in hooks["live"](tmp_path / "live")
    front = (DOCS / "index.md").read_text(encoding="utf-8")
    assert "::live\n" in front and "::live" not in hooks["on_page_markdown"](front)


def test_an_equation_becomes_mathml(hooks):
    html = r'<p>Of <span class="arithmatex">\(W\)</span>: <span>x</span></p>'
    shown = hooks["on_page_content"](html)
    assert re.fullmatch(r"<p>Of <math .*<mi>W</mi>.*</math>: <span>x</span></p>", shown)
    html = r'<div class="arithmatex">\[y &lt; \log|\det W|\]</div>'
    shown = hooks["on_page_content"](html)
    assert shown.startswith('<div class="equation"><math') and "arithmatex" not in shown


def test_the_site_is_whole_and_fetches_nothing(tmp_path, monkeypatch):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    build(load_config(str(DOCS.parent / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    assert {"index.html", "model.html"} <= {p.name for p in tmp_path.iterdir()}
    for page in tmp_path.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|link|img|iframe)[^>]*?(?:src|href)="([^"]+)"', html)
        assert not [url for url in fetched if re.match(r"(https?:)?//", url)], page.name
        assert "arithmatex" not in html and "::source" not in html, page.name
        unknown = re.findall(r"<m[a-z]+[^>]*>\\[a-zA-Z]+", html)  # TeX without a MathML for it
        assert not unknown, page.name
