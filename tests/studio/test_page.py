"""The page: whole, of one piece with its scripts, and nothing in it from anywhere else."""

import re
from html.parser import HTMLParser

import pytest

from glowflow.studio.app import PAGE

from .pages import Client

FILES = sorted(path.name for path in PAGE.iterdir())
SCRIPTS = [name for name in FILES if name.endswith(".js")]
VOID = ("meta", "link", "input", "img", "br")


class Page(HTMLParser):
    """Tags that are open, ids, and what refers to what."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.refers, self.labelled = [], [], [], [], []
        self.inline = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [values[name] for name in ("href", "src") if values.get(name)]
        self.refers += [values[n] for n in ("aria-controls", "aria-labelledby") if n in values]
        self.inline += [name for name in values if name.startswith("on") or name == "style"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


TEXT = (PAGE / "index.html").read_text(encoding="utf-8")
WHOLE = Page(TEXT)


def test_the_page_is_whole():
    assert WHOLE.open == []
    assert len(set(WHOLE.ids)) == len(WHOLE.ids)
    assert set(WHOLE.refers) <= set(WHOLE.ids)
    assert WHOLE.inline == []  # which its own policy would refuse
    assert {link for link in WHOLE.links if not link.startswith("#")} <= set(FILES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_find_what_they_look_for(name):
    script = (PAGE / name).read_text(encoding="utf-8")
    assert set(re.findall(r'byId\("([^"]+)"\)', script)) <= set(WHOLE.ids)
    for source in re.findall(r'from "\./([^"]+)"', script):
        assert source in FILES


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_from_another_host(name):
    text = (PAGE / name).read_text(encoding="utf-8").replace("http://www.w3.org/", "")
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import|eval\(|innerHTML", text)


def test_every_file_is_served(app):
    for name in (*FILES, ""):
        answer = Client(app).get(f"/{name}")
        assert answer.status_code == 200
        assert answer.content == (PAGE / (name or "index.html")).read_bytes()


def test_the_scripts_ask_for_what_the_interface_has(app):
    paths = set(Client(app).get("/api/openapi.json").json()["paths"])
    script = (PAGE / "api.js").read_text(encoding="utf-8")
    asked = set(re.findall(r'"(/api/[a-z/.]+)"', script))
    asked |= {
        f"/api/pictures/{{picture}}/{end}" for end in re.findall(r'at\(picture, "([^"]+)"', script)
    }
    files = {f"edit/{name}" for name in re.findall(r'data-file="([^"]+)"', TEXT)}
    assert asked | {f"/api/pictures/{{picture}}/{name}" for name in files} <= paths
