"""What goes wrong around the studio: late answers, a server that ends, names of any length."""

import re
import threading
import time

import numpy as np
import pytest
import torch

from glowflow.studio.explore import Explorer, of_pictures
from glowflow.studio.house import House, Offer
from glowflow.studio.limits import Limits
from glowflow.studio.stage import Stage
from glowflow.studio.visitors import Picture, Visitor, Visitors
from glowflow.studio.worker import Worker

from .browser import canvas, until
from .pages import Client, noise, png, shown, small_model


def test_samples_do_not_push_pictures_out(studio_with):
    page = Client(studio_with(pictures=10, samples=4))
    page.open()
    mine = page.uploaded()
    asked = {"count": 4, "temperatures": [0.7]}
    lots = [page.post("/api/samples", json=asked).json()["pictures"] for _ in range(6)]
    edit = {"json": {"amounts": {}}}
    taken = lots[-1][0]["picture"]
    assert page.post(f"/api/pictures/{taken}/edit", **edit).status_code == 200
    for _ in range(3):
        page.post("/api/samples", json=asked)
    for name in (mine, taken):
        assert page.post(f"/api/pictures/{name}/edit", **edit).status_code == 200
    forgotten = lots[0][0]["picture"]
    assert page.post(f"/api/pictures/{forgotten}/edit", **edit).status_code == 404


def test_samples_count_towards_the_memory(studio_with):
    page = Client(studio_with(kept_bytes=50_000))
    page.open()
    asked = {"count": 4, "temperatures": [0.7]}
    answers = [page.post("/api/samples", json=asked).status_code for _ in range(4)]
    assert answers[0] == 200 and answers[-1] == 503


def test_the_oldest_is_the_last_that_is_shown(studio_with):
    page = Client(studio_with(pictures=10))
    shown = [each["picture"] for each in page.open()["pictures"]]
    for _ in range(3):
        page.uploaded()
    kept = [page.get(f"/api/pictures/{name}/image.png").status_code for name in shown]
    assert kept == [200] * 7 + [404]


def test_a_page_that_is_gone_is_told_apart_from_a_picture(page):
    lost = page.get("/api/pictures/x/image.png")
    assert lost.status_code == 404 and "glow-gone" not in lost.headers
    gone = page.get("/api/pictures/x/image.png", headers={"Glow-Visitor": "x"})
    assert gone.status_code == 404 and gone.headers["glow-gone"]


browser = pytest.mark.browser


@browser
def test_a_late_answer_is_not_drawn_over_a_newer_one(show):
    shown = show().evaluate(
        """async () => {
          const { newestWins } = await import("/live.js");
          const [answers, shown] = [{}, []];
          const send = (value) => new Promise((done) => { answers[value] = () => done(value); });
          const put = newestWins(send, (value) => shown.push(value), () => shown.push("failed"));
          const answer = async (value) => {
            answers[value]();
            await new Promise((done) => setTimeout(done, 1));
          };
          put(0);
          await answer(0);
          for (const value of [1, 2, 3, 4]) put(value);
          const sent = Object.keys(answers).length;
          await answer(2); // 4 goes off, and 3 never does
          await answer(4);
          await answer(1);
          return [sent, "3" in answers, shown];
        }"""
    )
    assert shown == [3, False, [0, 2, 4]]


@browser
def test_a_server_that_does_not_know_the_page_any_more(show):
    page = show(allowed="status of 404")
    page.route(re.compile("/edit"), lambda route: route.continue_(
        headers={**route.request.headers, "glow-visitor": "x"}))  # fmt: skip
    page.locator("[data-attribute=Smiling]").focus()
    page.keyboard.press("ArrowRight")
    until(lambda: "load it again" in page.locator("#message").inner_text())
    page.wait_for_timeout(300)
    page.unroute(re.compile("/edit"))
    with page.expect_navigation():
        page.locator("#message button").click()
    page.locator("#tray [role=option]").nth(7).wait_for()
    assert page.locator("#message").is_hidden()


@browser
def test_a_model_in_the_address_that_is_here_no_longer(show, address):
    page = show(allowed="status of 404")
    page.goto(address + "?model=another")
    page.locator("#tray [role=option]").nth(7).wait_for()
    assert "no model 'another' here" in page.locator("#message").inner_text()
    assert page.locator("#model").input_value() == "small" and page.url == address


@browser
def test_a_server_that_is_away_for_a_moment(show):
    page = show(allowed="net::ERR_FAILED")
    page.route(re.compile("/edit"), lambda route: route.abort())
    page.locator("[data-attribute=Smiling]").focus()
    page.keyboard.press("ArrowRight")
    until(lambda: "does not answer" in page.locator("#message").inner_text())
    page.unroute(re.compile("/edit"))
    before = canvas(page, "after")
    page.keyboard.press("End")
    until(lambda: (canvas(page, "after") != before).any())


@browser
def test_a_server_with_too_many_connections_is_called_busy_and_asked_again(show):
    """Above its limit of connections uvicorn answers by itself, in plain text."""
    page, refused = show(allowed="status of 503"), []

    def of_uvicorn(route):
        refused.append(route.request.url)
        route.fulfill(status=503, body="Service Unavailable", content_type="text/plain")

    def is_said():
        return page.locator("#message").inner_text() == (
            "The studio is busy: try again in a moment."
        )

    page.route(re.compile("/edit$"), of_uvicorn, times=2)
    page.locator("[data-attribute=Smiling]").focus()
    page.keyboard.press("End")
    until(lambda: (canvas(page, "after") != canvas(page, "before")).any() and len(refused) == 2)
    assert page.locator("#message").is_hidden()
    page.route("**/edit/keep", of_uvicorn)
    page.locator("#keep").click()
    until(is_said)
    page.clock.install()
    page.route("**/api/visitors", of_uvicorn, times=1)
    page.reload()
    until(is_said)
    page.clock.fast_forward(5_000)
    page.locator("#tray [role=option]").nth(7).wait_for()


@browser
def test_a_picture_that_cannot_be_decoded_is_said_to_be_none(show):
    def far(route):
        told = route.fetch()
        route.fulfill(response=told, headers={**told.headers, "glow-concern": "far off"})

    page = show()
    page.route(re.compile("/(edit|mix|walk)$"), far)
    for tab, slider, words in (
        ("edit", "[data-attribute=Smiling]", "The picture leaves what the model can decode"),
        ("mix", "#field", "The mix leaves what the model can decode"),
        ("explore", "#walk", "The way leaves what the model can decode"),
    ):
        page.locator(f"#tab-{tab}").click()
        page.locator(slider).wait_for()
        page.locator(slider).focus()
        page.keyboard.press("ArrowRight")
        until(lambda words=words: words in page.locator("#message").inner_text())


@browser
def test_names_of_any_length_and_kind(show, tmp_path):
    page, image = show(), noise(1, seed=5)[0]
    for name in ("n" * 240 + ".png", "Ünï ☃ 画像 <b>&'\".png", "-.png"):
        (tmp_path / name).write_bytes(png(image))
        page.locator("#upload").set_input_files(tmp_path / name)
        page.locator("#cropper").wait_for()
        page.locator("#crop-box").click()
        page.locator("#cropper").wait_for(state="hidden")
        until(lambda: (canvas(page, "after") == image).all())
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 1280
    page.locator("#tab-score").click()
    page.locator("#score-files").set_input_files(tmp_path / ("n" * 240 + ".png"))
    until(lambda: "1 scored" in page.locator("#score-words").inner_text())


@browser
def test_a_tray_with_more_pictures_than_are_kept(show):
    def of_ten(route):
        told = route.fetch()
        limits = {**told.json()["limits"], "pictures": 10}
        route.fulfill(response=told, json={**told.json(), "limits": limits})

    page = show()
    page.route("**/api/visitors", of_ten)
    page.reload()
    page.locator("#tray [role=option]").nth(7).wait_for()
    for count in (9, 10, 10):
        page.locator("#keep:enabled").click()
        until(lambda: page.locator("#keep").is_enabled())
        until(lambda count=count: page.locator("#tray [role=option]").count() == count)
    names = [each.get_attribute("title") for each in page.locator("#tray [role=option]").all()]
    assert names == ["seed 0 edited"] * 3 + [f"seed {seed}" for seed in range(7)]


@browser
def test_a_reload_and_going_back_in_the_midst_of_a_drag(show):
    page = show()
    box = page.locator("[data-attribute=Smiling]").bounding_box()
    for go in (page.reload, lambda: (page.goto("about:blank"), page.go_back())):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
        go()
        page.mouse.up()
        page.locator("#tray [role=option]").nth(7).wait_for()
        page.locator("[data-attribute=Smiling]").focus()
        before = canvas(page, "after")
        page.keyboard.press("End")
        until(lambda before=before: (canvas(page, "after") != before).any())
        assert np.abs(canvas(page, "after").astype(int) - before).max() > 0


def one_offer(**changes):
    return Offer("small", lambda: Stage(small_model(), "small"), **changes)


@pytest.fixture
def worker():
    made = Worker(waiting=8)
    yield made
    made.close()


def test_a_model_that_has_changed_is_opened_again(worker):
    now = [1]
    offer = Offer("small", lambda: Stage(small_model(seed=now[0]), "small"), version=lambda: now[0])
    house = House([offer], worker)
    first = house.open()
    picture = first.first[0]
    codes = [first.stage.code(picture)]
    assert house.open() is first
    now[0] = None  # its folder is being written, say
    assert house.open() is first
    now[0] = 2
    second = house.open()
    assert second is not first and second.stage.identity != first.stage.identity
    codes.append(second.stage.code(picture))
    assert not torch.equal(codes[0][0], codes[1][0])
    explorer = Explorer(house, worker)
    known = explorer.of_model("small")
    assert explorer.of_model("small") is known
    now[0] = 3
    newest = explorer.of_model("small")
    assert newest is not known
    for each in (known, newest):
        each.thread.join()


def test_three_models_are_explored_at_a_time(worker):
    names = ("one", "two", "three")
    go = threading.Event()

    def waiting(model):
        go.wait(60)
        return shown(model)

    offers = [Offer(name, lambda: Stage(small_model(), "small"), data=waiting) for name in names]
    explorer = Explorer(House(offers, worker), worker)
    known = [explorer.of_model(name) for name in names]
    assert all(explorer.of_model(name) is each for name, each in zip(names, known, strict=True))
    go.set()
    for each in known:
        each.thread.join()
    assert all(each.found for each in known)


def test_what_goes_wrong_with_the_images_to_compare_with_is_told(worker):
    def unreadable(model):
        raise PermissionError(13, "no")

    opened = House([one_offer(held_out=unreadable)], worker).open()
    opened.thread.join()
    assert opened.told == "The images to compare with cannot be read (PermissionError)."


def test_pictures_that_come_while_others_are_encoded(worker):
    visitor = Visitor("small", 0.0)
    opened = House([one_offer()], worker).open()
    for number, picture in enumerate(opened.first):
        visitor.pictures[str(number)] = picture

    class Busy(Stage):
        def code(self, picture):
            visitor.pictures.setdefault("another", opened.first[0])
            return super().code(picture)

    chart = of_pictures(visitor, Busy(opened.stage.model, "small"))
    assert len(chart.coordinates[0]) == len(opened.first)


def test_visitors_who_come_while_pictures_are_counted():
    visitors = Visitors(Limits())

    class Counted(Visitor):
        @property
        def kept_bytes(self):
            visitors.admit("small")
            return 0

    visitors._visitors["first"] = Counted("small", time.monotonic())
    visitor = visitors.find(visitors.admit("small"))
    assert visitors.keep(visitor, Picture(noise(1)[0], 1.0)) in visitor.pictures
