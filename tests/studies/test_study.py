"""What all studies have: options, a page, a short summary, and one line to register one."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glowflow import Glow, GlowConfig
from glowflow.cli import main
from glowflow.cli.study import command_of, options_of
from glowflow.data.config import DataConfig
from glowflow.studies import provenance
from glowflow.studies.page import Plot, Section, Table
from glowflow.studies.registry import STUDIES, study_class
from glowflow.studies.study import Findings, Study
from glowflow.studies.summary import compact_json
from tests.conftest import perturb

ANOTHER = '''
"""How many values of a sample are black, beside those of the data."""

from dataclasses import asdict, dataclass

from glowflow.evaluation.estimate import Estimate
from glowflow.studies.measured.study import MeasuredStudy
from glowflow.studies.page import Plot, Section, Table
from glowflow.studies.study import Findings


@dataclass(frozen=True, kw_only=True)
class Black(MeasuredStudy):
    """Share of black values in samples, beside test images."""

    count: int = 100
    """Samples."""
    temperature: float = 0.7
    """Standard deviation of the latents."""

    def measure(self, model, splits, *, progress=True):
        samples = model.sample(self.count, temperature=self.temperature, seed=self.seed).numpy()
        parts = {"samples": samples, "test images": splits.test.images}
        black = {name: Estimate.of((x == 0).mean((1, 2, 3))) for name, x in parts.items()}

        def draw(figure):
            figure.subplots().bar(list(black), [share.mean for share in black.values()])

        return Findings(
            title="Black",
            sentence=f"{black['samples']} of the values of a sample are black.",
            sections=(
                Section(
                    words=f"{self.count} samples, T = {self.temperature:g}.",
                    pictures=[Plot("black.png", "shares of black values", (4, 3), draw)],
                    table=Table(["", "black"], [[name, str(s)] for name, s in black.items()]),
                ),
            ),
            summary={name: asdict(share) for name, share in black.items()},
        )
'''


def test_another_study_is_a_file_and_a_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "share_of_black.py").write_text(ANOTHER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(STUDIES, "black", "share_of_black:Black")
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))
    config = GlowConfig(image_shape=(1, 8, 8), levels=1, steps=1, hidden_channels=4)
    perturb(Glow(config), 0.05).eval().save_pretrained(tmp_path / "model")
    given = ["--model", str(tmp_path / "model"), "--data", "digits", "--count", "5"]
    out = tmp_path / "out"
    assert main(["study", "black", *given, "--out", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert 0 <= facts["samples"]["mean"] < facts["test images"]["mean"] < 1
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == {
        name: value for name, value in facts.items() if name != "out"
    }
    assert facts["study"] == "black" and facts["settings"]["count"] == 5
    assert facts["command"].endswith("--data digits --count 5")
    assert {path.name for path in out.iterdir()} == {
        "summary.json", "black.md", "black.png", "index.html"
    }  # fmt: skip
    with Image.open(out / "black.png") as image:
        assert image.size == (440, 330)
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "• black Share of black values in samples, beside test images." in shown


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_its_settings(name):
    assert issubclass(study_class(name), Study)
    assert study_class(name)() == study_class(name)()


def test_the_command_has_what_is_not_the_default():
    options = options_of("temperature")(model="runs/my run", temperatures=(0.0, 0.5, 1.0), seed=2)
    expected = "glow study temperature --model 'runs/my run' --seed 2 --temperatures 0:1:0.5"
    assert command_of(options) == expected
    options = options_of("temperature")(model="m", temperatures=(0.7,), upscale=True)
    assert command_of(options) == "glow study temperature --model m --upscale --temperatures 0.7"
    data = DataConfig(data="digits", size=(8, 8))
    options = options_of("depth")(data=data, steps=(1, 2), device="cpu")
    assert command_of(options) == "glow study depth --data digits --size 8 8 --steps 1 2"


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(nested)
def test_compact_json_is_json(value):
    assert json.loads(compact_json(value)) == value


def test_compact_json_has_a_line_for_what_has_nothing_nested():
    text = compact_json({"a": {"mean": 1.5, "standard_error": None}, "t": (0, 1), "b": [[1], [2]]})
    assert text.splitlines() == [
        "{", ' "a": {"mean": 1.5, "standard_error": null},', ' "t": [0, 1],', ' "b": [',
        "  [1],", "  [2]", " ]", "}",
    ]  # fmt: skip


def test_a_page_is_markdown_and_html():
    plot = Plot("a.png", "a line", (2, 1), lambda figure: figure.subplots().plot([0, 1]), "Below.")
    table = Table(["", "bits < 8"], [["one", "1.0"]])
    sections = (Section(words="First.", pictures=[plot]), Section("More", "", (), table, [["x"]]))
    files = Findings("Title", "All is < 1.", sections, {}, about="Of that.").files("name")
    assert set(files) == {"name.md", "index.html", "a.png"}
    assert files["name.md"].decode().split("\n\n") == [
        "# Title", "All is < 1.", "Of that.", "First.", "Below.", "![a line](a.png)", "## More",
        "|  | bits < 8 |\n| --- | ---: |\n| one | 1.0 |", "- x\n",
    ]  # fmt: skip
    page = files["index.html"].decode()
    for part in (
        "<h1>Title</h1>",
        "<b>All is &lt; 1.</b>",
        "<h2>More</h2>",
        "<li>x</li>",
        "<th>bits &lt; 8</th>",
        "<td>1.0</td>",
        'alt="a line" src="data:image/png',
    ):
        assert part in page


def test_the_commit_is_that_of_the_package(monkeypatch, tmp_path):
    commit = provenance.commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)
    monkeypatch.setattr(provenance, "FOLDER", tmp_path)
    assert provenance.commit() is None
