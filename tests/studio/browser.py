"""The studio in a browser: where it is, a page that fails if anything is wrong, and looks at it."""

import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from .pages import png

SIZES = {"desktop": (1280, 900), "phone": (390, 844), "on its side": (667, 375)}


@contextmanager
def served(app):
    """Its address, while it is open."""
    listening = socket.create_server(("127.0.0.1", 0))
    uvicorn = pytest.importorskip("uvicorn")
    config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def address(app):
    with served(app) as where:
        yield where


def is_wrong(said, allowed):
    """A browser also tells of every answer that is a refusal."""
    fine = ("status of 400", *([allowed] if allowed else []))
    return said.type == "error" and not any(words in said.text for words in fine)


@pytest.fixture
def show(chromium, address):
    """Opens the studio, and fails if it asked any other host or complained."""
    asked, wrong = [], []

    def call(size="desktop", allowed=None, at=address, **how):
        width, height = SIZES[size]
        page = chromium.new_page(viewport={"width": width, "height": height}, **how)
        page.set_default_timeout(120_000)
        page.on(
            "console", lambda said: wrong.append(said.text) if is_wrong(said, allowed) else None
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append((request.url, at)))
        page.goto(at)
        page.locator("#tray [role=option]").nth(7).wait_for()
        return page

    yield call
    assert wrong == []
    assert all(url.startswith((at, "data:", "blob:")) for url, at in asked)


def canvas(page, name):
    """What is on a canvas, uint8 (3, 16, 16)."""
    values = page.evaluate(
        "n => [...document.getElementById(n).getContext('2d').getImageData(0, 0, 16, 16).data]",
        name,
    )
    return np.array(values, dtype=np.uint8).reshape(16, 16, 4)[:, :, :3].transpose(2, 0, 1)


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def upload(page, tmp_path, image):
    (tmp_path / "me.png").write_bytes(png(image))
    page.locator("#upload").set_input_files(tmp_path / "me.png")
    page.locator("#cropper").wait_for()
    page.locator("#crop-box").click()
    page.locator("#tray [title='me.png']").wait_for()
