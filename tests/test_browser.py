"""The pages that the commands write, as a browser shows them."""

import base64
import io
import json
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from glowflow.cli import main

PAGES = ("run/report.html", "pca/pca.html")
PHONE, DESKTOP = (390, 844), (1280, 900)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    run, pca = str(folder / "run"), str(folder / "pca")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOWFLOW_CACHE", str(folder / "cache"))
        assert main(["train", "--faces", "60", "--size", "16", "16", "--levels", "2", "--steps",
                     "2", "--hidden-channels", "8", "--images", "96", "--warmup-images", "32",
                     "--out", run, "--evaluation-images", "4", "--json"]) == 0  # fmt: skip
        assert main(["pca", "--model", run, "--components", "3", "--shown", "2", "--minimum", "5",
                     "--out", pca, "--json"]) == 0  # fmt: skip
    return folder


class Page(HTMLParser):
    """Tags that are open, and what was found between them."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.ids, self.links, self.scripts = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)
        if tag == "img":
            self.images.append(values)
        if tag == "script":
            self.scripts.append([values.get("type"), ""])
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [values[name] for name in ("href", "src", "action") if name in values]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_whole_and_has_everything_in_it(work, name):
    page = Page((work / name).read_text(encoding="utf-8"))
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert page.images
    for image in page.images:
        assert "alt" in image
        head, data = image["src"].split(",")
        assert head in ("data:image/png;base64", "data:image/webp;base64")
        Image.open(io.BytesIO(base64.b64decode(data))).load()
    assert all(link.startswith("data:") for link in page.links)
    for kind, text in page.scripts:
        if kind == "application/json":
            assert len(json.loads(text)["levels"]) == 2


@pytest.fixture
def show(chromium, work):
    """Opens a page, and fails if it asked for anything or complained."""
    opened, wrong = [], []

    def call(name, size):
        page = chromium.new_page(viewport={"width": size[0], "height": size[1]})
        page.set_default_timeout(120_000)
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: opened.append(request.url))
        page.goto((work / name).as_uri())
        return page

    yield call
    assert wrong == []
    assert {url.split(":")[0] for url in opened} <= {"file", "data"}
    assert sum(url.startswith("file") for url in opened) == 1


@pytest.mark.browser
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", PAGES)
def test_images_load_and_nothing_is_wider_than_the_screen(show, name, size):
    page = show(name, size)
    widths = page.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert widths and min(widths) > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.browser
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_pointing_at_a_dot_shows_its_image(show, size):
    page = show("pca/pca.html", size)
    assert not page.locator("#tip").is_visible()
    for level in (0, 1):
        page.select_option("#level", str(level))
        page.locator("#plot circle").last.hover()
        assert page.locator("#tip").is_visible()
        place = page.locator("#tip").bounding_box()
        assert place["x"] >= 0 and place["x"] + place["width"] <= size[0]
        assert place["y"] >= 0 and place["y"] + place["height"] <= size[1]
        picture = Image.open(io.BytesIO(page.locator("#tip div").screenshot())).convert("RGB")
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 20
    page.mouse.move(1, 1)
    assert not page.locator("#tip").is_visible()


@pytest.mark.browser
def test_the_plot_follows_what_is_chosen(show):
    page = show("pca/pca.html", DESKTOP)
    dots = "[...document.querySelectorAll('#plot circle')].map(c => c.outerHTML).sort()"
    seen = [page.evaluate(dots)]
    for chosen, value in (("level", "0"), ("x", "2"), ("attribute", "0")):
        page.select_option(f"#{chosen}", value)
        seen.append(page.evaluate(dots))
    assert {len(some) for some in seen} == {6}
    assert all(a != b for a, b in pairwise(seen))
    assert page.locator("#key").text_content() == ""
