"""The API against its own description: whatever is asked, the studio does not fail."""

import pytest

from .pages import Client, noise, png

WRONG = (None, True, -1, 1e308, "x", [], {}, [[]], {"amounts": 5}, "\ud800", 2**70)


def described(app):
    return Client(app).get("/api/openapi.json").json()


def test_nothing_that_can_be_sent_makes_it_fail(page, app):
    """The small twin: every route, with bodies of every wrong kind."""
    fields = ("amounts", "temperature", "temperatures", "count", "seed", "label", "target",
              "level", "instead", "pictures", "places", "across", "curve", "framing", "left",
              "model")  # fmt: skip
    bodies = [b"", b"{", b"\xff\xfe", b"[" * 3000, b"nan", b'{"amounts": {"Smiling": NaN}}']
    name = page.first["pictures"][0]["picture"]
    asked = 0
    for path, ways in described(app)["paths"].items():
        if path in ("/api/visitors/leave", "/api/visitors"):
            continue
        for method in ways:
            where = path.replace("{picture}", name)
            answers = [page.ask(method.upper(), where, content=body) for body in bodies]
            for value in WRONG:
                if value != "\ud800":
                    every = dict.fromkeys(fields, value)
                    answers.append(page.ask(method.upper(), where, json=every))
            asked += len(answers)
            for answer in answers:
                assert answer.status_code < 500, (path, answer.text)
                if answer.status_code >= 400:
                    assert answer.json()["error"].endswith((".", ").")), (path, answer.text)
    assert asked > 300
    assert page.upload(png(noise(1)[0])).status_code == 200


def test_schemathesis_finds_no_failure(page, app):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings

    schema = schemathesis.openapi.from_dict(described(app))
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 20
    for operation in operations:
        if operation.path == "/api/visitors/leave":
            continue

        @given(case=operation.as_strategy())
        @settings(
            max_examples=8,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        def every(case):
            answer = sent(page, case)
            assert answer is None or answer.status_code < 500, (case.path, answer.text)

        every()


def sent(page, case):
    """The answer to a case by this visitor; None where no client can send it."""
    given = {"params": dict(case.query or {})}
    if isinstance(case.body, bytes):
        given["content"] = case.body
    elif type(case.body).__name__ != "NotSet":
        given["json"] = case.body
    headers = {str(name): str(value) for name, value in (case.headers or {}).items()}
    headers["Glow-Visitor"] = page.headers["Glow-Visitor"]
    try:
        return page.ask(case.method.upper(), case.formatted_path, headers=headers, **given)
    except UnicodeEncodeError:
        return None
