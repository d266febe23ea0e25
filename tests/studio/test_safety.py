"""Who may ask: this machine's own page, or whoever has the token; and each visitor for itself."""

import asyncio
import threading
import time

import httpx
import numpy as np
import pytest

from glowflow.studio.guard import Guard
from glowflow.studio.limits import Limits
from glowflow.studio.visitors import Picture, UnknownError, Visitors
from glowflow.studio.worker import BusyError, Urgency, Worker

from .pages import Client, frame, noise, png


def test_other_sites_are_refused(app):
    page = Client(app)
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:7860.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example:7860"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Host": "["},
    ):
        answer = page.post("/api/visitors", json={}, headers=headers)
        assert answer.status_code == 403 and answer.json()["error"], headers
    for headers in (
        {"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "same-origin"},
        {"Host": "localhost:7860", "Origin": "http://localhost:7860"},
        {"Host": "[::1]:7860"},
        {},
    ):
        assert page.post("/api/visitors", json={}, headers=headers).status_code == 200, headers


def test_a_link_to_the_page_opens_it_and_to_the_interface_does_not(app):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert Client(app).get("/", headers=link).status_code == 200
    assert Client(app).get("/api/openapi.json", headers=link).status_code == 403


def test_a_token_is_asked_for(studio_with):
    app = studio_with(token="a secret of ours")
    wrong = ["", "Bearer ", "Bearer a secret", "a secret of ours ", "Bearer é"]
    for given in wrong:
        answer = Client(app).post(
            "/api/visitors", json={}, headers={"Authorization": given.encode()}
        )
        assert answer.status_code == 401, given
    right = {"Authorization": "Bearer a secret of ours"}
    page = Client(app, host="http://studio.example:7860", **right)
    assert page.open()["model"]["name"] == "small"
    foreign = page.post("/api/visitors", json={}, headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert Client(app).get("/").status_code == 200  # the page itself says nothing of the model


def test_every_answer_forbids_what_the_page_does_not_need(app):
    for path in ("/", "/app.js", "/api/openapi.json", "/nothing", "/api/reference"):
        headers = Client(app).get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "http" not in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff", path


@pytest.mark.parametrize("path", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "app.py"])
def test_no_other_file_is_given(app, path):
    assert Client(app).get(f"/{path}").status_code in (307, 404)


def test_visitors_do_not_see_each_others_pictures(app):
    mine, other = Client(app), Client(app)
    mine.open()
    theirs = other.open()["pictures"][0]["picture"]
    secret = mine.uploaded()
    for name, page in ((secret, other), (theirs, mine)):
        ways = [
            page.get(f"/api/pictures/{name}/image.png"),
            page.post(f"/api/pictures/{name}/edit", json={"amounts": {}}),
            page.post(f"/api/pictures/{name}/cut", json={}),
            page.post(f"/api/pictures/{name}/levels", json={"level": 1}),
            page.post("/api/mix", json={"pictures": [name, name]}),
        ]
        assert {answer.status_code for answer in ways} == {404}
    assert mine.get(f"/api/pictures/{secret}/image.png").status_code == 200
    nobody = mine.get(f"/api/pictures/{secret}/image.png", headers={"Glow-Visitor": "x"})
    assert nobody.status_code == 404 and "load it again" in nobody.json()["error"]


def test_pictures_are_gone_when_the_page_is_closed(app):
    page = Client(app)
    page.open()
    name = page.uploaded()
    assert page.post("/api/visitors/leave").status_code == 204
    assert page.get(f"/api/pictures/{name}/image.png").status_code == 404


def test_the_idle_are_forgotten_and_who_says_something_is_not():
    now = [0.0]
    visitors = Visitors(Limits(idle_seconds=10), clock=lambda: now[0])
    silent, lively = visitors.admit("small"), visitors.admit("small")
    for now[0] in (6.0, 12.0):
        visitors.find(lively)
    with pytest.raises(UnknownError):
        visitors.find(silent)
    assert len(visitors) == 1


def test_visitors_pictures_and_their_bytes_are_bounded(studio_with):
    app = studio_with(visitors=2, pictures=10, kept_bytes=120_000)
    first, second = Client(app), Client(app)
    first.open()
    second.open()
    full = Client(app).post("/api/visitors", json={})
    assert full.status_code == 503 and "busy" in full.json()["error"]
    assert full.headers["retry-after"]
    names = [first.uploaded() for _ in range(4)]
    kept = [first.get(f"/api/pictures/{name}/image.png").status_code for name in names]
    assert kept == [200] * 4
    large = [first.upload(png(noise(1, size=80)[0])).status_code for _ in range(5)]
    assert large[0] == 200 and large[-1] == 503
    first.post("/api/visitors/leave")
    many = [second.uploaded() for _ in range(12)]
    kept = [second.get(f"/api/pictures/{name}/image.png").status_code for name in many]
    assert kept == [404] * 2 + [200] * 10


def test_samples_that_are_asked_for_again_are_bounded_too():
    visitors = Visitors(Limits(pictures=3, samples=2))
    visitor = visitors.find(visitors.admit("small"))
    picture = Picture(np.zeros((1, 2, 2), np.uint8), bits_per_dim=1.0)
    for _ in range(9):
        visitor.picture(visitors.keep(visitor, picture, drawn=True))
    assert len(visitor.pictures) + len(visitor.drawn) <= 3 + 2 * 2


def test_the_urgent_go_first_and_a_full_queue_says_so():
    worker, order, held = Worker(waiting=3), [], threading.Event()
    first = worker.submit(Urgency.ASKED, held.wait)
    while worker._jobs.qsize():
        pass
    jobs = [worker.submit(urgency, order.append, urgency) for urgency in (2, 1, 0)]
    with pytest.raises(BusyError, match="3 requests wait"):
        worker.submit(Urgency.DRAGGED, order.append, 0)
    held.set()
    for job in (first, *jobs):
        job.result(10)
    assert order == [0, 1, 2]
    worker.close()


def test_an_error_is_the_askers_alone(app):
    worker = Worker(waiting=2)
    with pytest.raises(ZeroDivisionError):
        worker.submit(Urgency.ASKED, lambda: 1 / 0).result(10)
    assert worker.submit(Urgency.ASKED, lambda: 5).result(10) == 5
    worker.close()


def test_fifty_requests_at_once_are_all_answered_and_none_mixed_up(app):
    pages = [Client(app) for _ in range(5)]
    images = noise(50)
    for page in pages:
        page.open()
    names = [pages[i % 5].uploaded(png(image)) for i, image in enumerate(images)]

    async def all_at_once():
        return await asyncio.gather(
            *(
                pages[i % 5].asking("POST", f"/api/pictures/{name}/edit", json={"amounts": {}})
                for i, name in enumerate(names)
            )
        )

    answers = asyncio.run(all_at_once())
    assert all(
        (frame(answer) == image).all() for answer, image in zip(answers, images, strict=True)
    )


def test_what_is_no_http_is_not_answered():
    async def never(*_):
        raise AssertionError

    asyncio.run(Guard(never, Limits(), None)({"type": "websocket"}, never, never))


def test_memory_comes_back_when_pages_are_closed(address):
    """After fifty uploads in parallel, kept until their pages are closed."""
    psutil = pytest.importorskip("psutil")
    memory = psutil.Process().memory_info
    large = png(noise(1)[0]) + bytes(4 * 2**20)

    async def everybody():
        async with httpx.AsyncClient(base_url=address, timeout=120) as http:
            opened = [(await http.post("/api/visitors", json={})).json() for _ in range(10)]
            known = [{"Glow-Visitor": each["visitor"]} for each in opened]
            await http.post("/api/pictures", content=large, headers=known[0])
            before = memory().rss
            uploads = [
                http.post("/api/pictures", content=large, headers=known[i % 10]) for i in range(50)
            ]
            assert {answer.status_code for answer in await asyncio.gather(*uploads)} == {200}
            kept = memory().rss
            for headers in known:
                await http.post("/api/visitors/leave", headers=headers)
        return before, kept

    before, kept = asyncio.run(everybody())
    end = time.monotonic() + 20
    while memory().rss > before + 100 * 2**20 and time.monotonic() < end:
        time.sleep(0.05)
    assert kept > before + 180 * 2**20 and memory().rss < before + 100 * 2**20
