"""Explore: the data on their axes, walks along them, and what there is where data are missing."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from glowflow.studio.app import make_app
from glowflow.studio.house import Offer
from glowflow.studio.stage import Stage

from .pages import Client, frame, noise, pixels, png, shown, small_model


def ready(page):
    end = time.monotonic() + 30
    while (found := page.get("/api/explore").json()).get("state") != "ready":
        assert found["state"] in ("reading", "encoding") and time.monotonic() < end
        time.sleep(0.02)
    return found


def test_the_data_lie_on_their_axes(page):
    found = ready(page)
    assert found["source"] == "noise" and found["pictures"] is None and not found["told"]
    assert len(found["parts"]) == 3  # the whole code, and two levels
    for part in found["parts"]:
        points = np.array(part["points"])
        assert points.shape == (30, 8) and sorted(part["shares"], reverse=True) == part["shares"]
        assert np.abs(points.std(0, ddof=1) - 1).max() < 1e-2
    assert found["attributes"] == [{"name": "Smiling", "true": "10" * 15}]
    sheet = Image.open(io.BytesIO(page.get("/api/explore/sheet.webp").content))
    assert sheet.size == (25 * 16, 2 * 16) and found["cell"] == [16, 16]


def test_an_image_is_taken_and_is_where_it_was(page):
    found, data = ready(page), shown(None)[0]
    taken = page.post("/api/explore/take", json={"index": 4}).json()
    image = pixels(page.get(f"/api/pictures/{taken['picture']}/image.png").content)
    assert (image == data.images[4]).all()
    place = page.get(f"/api/pictures/{taken['picture']}/place").json()["parts"]
    for part, along in zip(found["parts"], place, strict=True):
        assert along == pytest.approx(part["points"][4], abs=2e-3)
    assert page.post("/api/explore/take", json={"index": 30}).status_code == 400


def test_a_walk_leaves_the_picture_along_one_axis(page):
    ready(page)
    image = 80 + noise(1)[0] // 4
    name = page.uploaded(png(image))
    asked = {"picture": name, "part": 1, "axis": 2}
    assert (frame(page.post("/api/explore/walk", json=asked)) == image).all()
    there = frame(page.post("/api/explore/walk", json={**asked, "amount": 0.5}))
    assert (there != image).any()
    kept = page.post("/api/explore/walk/keep", json={**asked, "amount": 0.5}).json()
    assert (pixels(page.get(f"/api/pictures/{kept['picture']}/image.png").content) == there).all()
    begin, end = (
        np.array(page.get(f"/api/pictures/{each}/place").json()["parts"][1])
        for each in (name, kept["picture"])
    )
    assert (end - begin)[2] == pytest.approx(0.5, abs=0.1)  # but for the rounding to bytes
    assert np.abs(np.delete(end - begin, 2)).max() < 0.1
    middle = frame(page.post("/api/explore/walk", json={}))
    assert (middle != image).any()
    assert page.post("/api/explore/walk", json={**asked, "axis": 8}).status_code == 400
    assert page.post("/api/explore/walk", json={"picture": "x"}).status_code == 404


def plain():
    return Stage(small_model(), "small")


def unavailable(_):
    from glowflow import InputError

    raise InputError("There is no folder photos: give one.")


@pytest.mark.parametrize(("data", "words"), [(None, "not at hand"), (unavailable, "no folder")])
def test_without_data_the_pictures_of_the_page_are_shown(data, words):
    page = Client(make_app([Offer("small", plain, data=data)]))
    page.open()
    page.uploaded(png(noise(1, seed=3)[0]))
    found = ready(page)
    assert words in found["told"] and found["told"].endswith(".")
    assert len(found["pictures"]) == len(found["parts"][0]["points"]) == 9
    page.uploaded(png(noise(1, seed=4)[0]))
    assert len(ready(page)["pictures"]) == 10
    assert page.post("/api/explore/walk", json={"axis": 1, "amount": 1}).status_code == 200
    assert page.post("/api/explore/take", json={"index": 0}).status_code == 404
