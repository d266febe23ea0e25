"""The map of bits, as the page gets it."""

import pytest

from .pages import noise, png


def test_the_map_sums_to_the_score(page):
    file = png(noise(1, seed=5)[0])
    scored = page.post("/api/score", content=file).json()
    found = page.post("/api/score/map", content=file).json()
    assert len(found["values"]) == found["height"] * found["width"] == 256
    assert sum(found["values"]) == pytest.approx(found["bits"], abs=256e-6)
    assert found["bits_per_dim"] == pytest.approx(scored["bits_per_dim"], rel=1e-9)
    parts = found["own"] + found["no_place"] + sum(found["by_level"])
    assert parts == pytest.approx(found["bits"], rel=1e-9)
    level = page.post("/api/score/map", content=file, params={"level": 2}).json()
    assert sum(level["values"]) == pytest.approx(found["by_level"][1], abs=256e-6)


def test_what_has_no_map_is_refused(page):
    refused = page.post("/api/score/map", content=b"no picture")
    assert refused.status_code == 400 and "no picture" in refused.json()["error"]
    answer = page.post("/api/score/map", content=png(noise(1)[0]), params={"level": 3})
    assert "no level 3" in answer.json()["error"]
