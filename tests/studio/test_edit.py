"""What a visitor does to a picture: edits, recipes, files, mixes, levels, scores."""

import io
import json

import pytest
from PIL import Image

from glowflow.cli import main

from .pages import frame, noise, pixels, png

EDIT = {"amounts": {"Smiling": 0.8, "Long_Hair": -0.5}}


def test_no_edit_gives_back_every_byte_of_the_upload(page):
    for seed in range(5):
        image = noise(1, seed=seed)[0]
        name = page.uploaded(png(image))
        assert (frame(page.post(f"/api/pictures/{name}/edit", json={"amounts": {}})) == image).all()
        for asked in ({}, {"Smiling": 0.0}):
            answer = page.post(f"/api/pictures/{name}/edit/edited.png", json={"amounts": asked})
            assert (pixels(answer.content) == image).all()
        assert (pixels(page.get(f"/api/pictures/{name}/image.png").content) == image).all()


def test_a_slider_changes_the_picture_and_comes_back(page):
    name = page.uploaded()
    there = frame(page.post(f"/api/pictures/{name}/edit", json=EDIT))
    back = frame(page.post(f"/api/pictures/{name}/edit", json={"amounts": {}}))
    assert (there != noise(1)[0]).mean() > 0.3 and (back == noise(1)[0]).all()


def test_what_goes_leads_from_pictures_that_have_it(page):
    name = page.uploaded()
    moved = {"amounts": {"Smiling": 1.0}}
    plain, told, by_hand = (
        frame(page.post(f"/api/pictures/{name}/edit", json=asked)).astype(int)
        for asked in (
            moved,
            {**moved, "instead": {"Smiling": ["Long_Hair"]}},
            {"amounts": {"Smiling": 0.5, "Long_Hair": -0.5}},  # half of the images have each
        )
    )
    assert (told != plain).mean() > 0.3
    assert abs(told - by_hand).max() <= 1
    for instead, words in (
        ({"Smiling": ["Beard"]}, "no direction 'Beard'"),
        ({"Smiling": ["Smiling"]}, "instead of itself"),
    ):
        answer = page.post(f"/api/pictures/{name}/edit", json={**moved, "instead": instead})
        assert answer.status_code == 400 and words in answer.json()["error"]
    still = {"amounts": {"Smiling": 0.0}, "instead": {"Smiling": ["Long_Hair"], "Beard": []}}
    recipe = page.post(f"/api/pictures/{name}/edit/recipe.json", json=still).json()
    assert recipe["amounts"] == {} and "instead" not in recipe


@pytest.mark.parametrize("instead", [{}, {"instead": {"Smiling": ["Long_Hair"]}}])
@pytest.mark.parametrize("asked", [{}, {"framing": "box", "left": 3, "top": 5, "width": 40}])
def test_a_recipe_does_the_edit_again_to_the_same_bytes(
    page, folder, tmp_path, asked, instead, capsys
):
    photograph = png(noise(1, size=50)[0])
    asked_for = {**EDIT, **instead}
    name = page.uploaded(photograph, **asked)
    (tmp_path / "me.png").write_bytes(photograph)
    (tmp_path / "recipe.json").write_bytes(
        page.post(f"/api/pictures/{name}/edit/recipe.json", json=asked_for).content
    )
    assert ("instead" in json.loads((tmp_path / "recipe.json").read_text())) == bool(instead)
    wanted = {
        which: page.post(f"/api/pictures/{name}/edit/{which}.png", json=asked_for).content
        for which in ("edited", "pasted")
    }
    ask = ["--model", str(folder), "--recipe", str(tmp_path / "recipe.json")]
    ask += ["--paste", "--out", str(tmp_path / "out")]
    assert main(["edit", str(tmp_path / "me.png"), *ask]) == 0
    assert "every byte as in the studio" in capsys.readouterr().out
    for which, data in wanted.items():
        assert (tmp_path / "out" / f"{which}.png").read_bytes() == data
    assert pixels(wanted["pasted"]).shape == (3, 50, 50)


def refused(capsys, arguments):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_recipe_of_something_else_is_refused(page, folder, tmp_path, capsys):
    name = page.uploaded()
    recipe = page.post(f"/api/pictures/{name}/edit/recipe.json", json=EDIT).json()
    (tmp_path / "me.png").write_bytes(png(noise(1)[0]))
    (tmp_path / "other.png").write_bytes(png(noise(1, seed=9)[0]))
    ask = ["--model", str(folder), "--out", str(tmp_path / "out"), "--recipe", str(tmp_path / "r")]
    changed = {
        "another model": {"model": "0" * 64},
        "amount": {"amounts": {"Smiling": "much"}},
        "temperature": {"temperature": -1},
        "too large": {"temperature": 10**400},
        "its crop is": {"crop": {"origin": [0], "right": [1, 0], "down": [0, 1]}},
        "no area": {"crop": {"origin": [0, 0], "right": [9, 0], "down": [9, 0]}},
        "'Beard'": {"amounts": {"Beard": 1.0}},
        "unexpected": {"colour": "red"},
        "instead is 5": {"instead": 5},
        "instead is {'Smiling': 'Long_Hair'}": {"instead": {"Smiling": "Long_Hair"}},
        "cannot come instead of itself": {"instead": {"Smiling": ["Smiling"]}},
        "recipe 1": {"format": "glowflow recipe 2"},
    }
    for words, change in changed.items():
        (tmp_path / "r").write_text(json.dumps({**recipe, **change}))
        assert words in refused(capsys, ["edit", str(tmp_path / "me.png"), *ask]), words
    for text in ("", "[]", "[" * 5000, "{}", "null", "\x00\x01", "NaN"):
        (tmp_path / "r").write_text(text)
        assert "no recipe of the studio" in refused(
            capsys, ["edit", str(tmp_path / "me.png"), *ask]
        )
    (tmp_path / "r").write_text(json.dumps(recipe))
    assert "another picture" in refused(capsys, ["edit", str(tmp_path / "other.png"), *ask])
    both = ["edit", str(tmp_path / "me.png"), *ask, "--attribute", "Smiling"]
    assert "without" in refused(capsys, both)
    assert not (tmp_path / "out").exists()


def test_a_result_that_differs_is_told(page, folder, tmp_path, capsys):
    name = page.uploaded()
    recipe = page.post(f"/api/pictures/{name}/edit/recipe.json", json=EDIT).json()
    (tmp_path / "r").write_text(json.dumps({**recipe, "result": "0" * 64}))
    (tmp_path / "me.png").write_bytes(png(noise(1)[0]))
    ask = ["--model", str(folder), "--out", str(tmp_path / "out"), "--recipe", str(tmp_path / "r")]
    assert main(["edit", str(tmp_path / "me.png"), *ask]) == 1
    assert "not the bytes of the studio" in capsys.readouterr().out


def test_files_of_an_edit(page):
    name = page.uploaded()
    strip = pixels(page.post(f"/api/pictures/{name}/edit/strip.png", json=EDIT).content)
    assert strip.shape[2] > 8 * strip.shape[1]
    gif = Image.open(
        io.BytesIO(page.post(f"/api/pictures/{name}/edit/animation.gif", json=EDIT).content)
    )
    assert gif.format == "GIF" and gif.n_frames > 8
    kept = page.post(f"/api/pictures/{name}/edit/keep", json=EDIT).json()["picture"]
    edited = page.post(f"/api/pictures/{name}/edit/edited.png", json=EDIT).content
    assert page.get(f"/api/pictures/{kept}/image.png").content == edited
    sample = page.first["pictures"][0]["picture"]
    answer = page.post(f"/api/pictures/{sample}/edit/pasted.png", json=EDIT)
    assert answer.status_code == 400 and "photograph" in answer.json()["error"]


def test_a_paste_without_an_edit_is_the_photograph(page):
    photograph = noise(1, size=40)[0]
    name = page.uploaded(png(photograph), framing="box", left=2, top=2, width=30)
    answer = page.post(f"/api/pictures/{name}/edit/pasted.png", json={"amounts": {}})
    assert (pixels(answer.content) == photograph).all()


def test_another_part_of_the_same_upload(page):
    photograph = noise(1, size=32)[0]
    name = page.uploaded(png(photograph))
    asked = {"framing": "box", "left": 16, "top": 0, "width": 16}
    part = page.post(f"/api/pictures/{name}/cut", json=asked).json()
    image = pixels(page.get(f"/api/pictures/{part['picture']}/image.png").content)
    assert (image == photograph[:, :16, 16:]).all()
    for wrong, words in (
        ({"width": 4}, "smaller"),
        ({"left": 500}, "outside"),
        ({"framing": "face"}, ""),
    ):
        answer = page.post(f"/api/pictures/{name}/cut", json={**asked, **wrong})
        said = answer.json()["error"]
        assert answer.status_code == 400 and words in said and "--" not in said


def test_samples_by_seed_temperature_and_level(page):
    def drawn(**asked):
        answer = page.post("/api/samples", json={"count": 3, "temperatures": [0.7], **asked})
        assert answer.status_code == 200, answer.text
        return [each["png"] for each in answer.json()["pictures"]]

    assert drawn() == drawn(temperatures=[0.7, 0.7])
    assert drawn(seed=1)[0] == drawn()[1]  # each picture has a seed of its own
    assert (
        len({drawn()[0], drawn(temperatures=[0.7, 0.2])[0], drawn(temperatures=[0.2, 0.7])[0]}) == 3
    )
    assert page.post("/api/samples", json={"temperatures": [0.7] * 3}).status_code == 400
    assert page.post("/api/samples", json={"temperatures": [0.7], "count": 500}).status_code == 400


def test_the_ends_of_a_mix_are_the_pictures(page):
    images = [noise(1, seed=seed)[0] for seed in range(4)]
    names = [page.uploaded(png(image)) for image in images]
    corners = {(0, 0): 0, (1, 0): 1, (0, 1): 2, (1, 1): 3}
    for count in (2, 3, 4):
        for (across, down), which in corners.items():
            asked = {"pictures": names[:count], "across": across, "down": 0 if count == 2 else down}
            which = {2: across, 3: min(which, 2), 4: which}[count]
            assert (frame(page.post("/api/mix", json=asked)) == images[which]).all()
    middle = frame(page.post("/api/mix", json={"pictures": names[:2], "curve": "spherical"}))
    assert (middle != images[0]).any() and (middle != images[1]).any()
    kept = page.post("/api/mix/keep", json={"pictures": names, "across": 0, "down": 0}).json()
    assert (
        pixels(page.get(f"/api/pictures/{kept['picture']}/image.png").content) == images[0]
    ).all()
    way = {"pictures": names[:3], "places": [[0, 0], [1, 0], [0.5, 1]]}
    assert (
        Image.open(io.BytesIO(page.post("/api/mix/animation.gif", json=way).content)).n_frames > 8
    )
    assert page.post("/api/mix", json={"pictures": names[:1]}).status_code == 422


def test_a_level_is_drawn_anew_and_kept(page):
    name = page.uploaded()
    asked = {"level": 2, "count": 3, "seed": 5}
    drawn = page.post(f"/api/pictures/{name}/levels", json=asked).json()["pngs"]
    assert len(set(drawn)) == 3
    kept = page.post(f"/api/pictures/{name}/levels/keep", json={**asked, "seed": 6}).json()
    assert kept["png"] == drawn[1]
    assert page.post(f"/api/pictures/{name}/levels", json={"level": 3}).status_code == 400


def test_scores_are_those_of_glow_score(page, folder, tmp_path):
    image = noise(1, seed=3)[0]
    (tmp_path / "one.png").write_bytes(png(image))
    (tmp_path / "calibration").mkdir()
    for i, each in enumerate(noise(40)):
        (tmp_path / "calibration" / f"{i:02d}.png").write_bytes(png(each))
    ask = ["--model", str(folder), "--out", str(tmp_path / "out"), "--json"]
    ask += ["--calibration-data", str(tmp_path / "calibration")]
    assert main(["score", str(tmp_path / "one.png"), *ask]) == 0
    (line,) = json.loads((tmp_path / "out" / "score.json").read_text())["strangest"]
    figures = page.post("/api/score", content=png(image), params={"name": "one.png"}).json()
    name = page.uploaded(png(image))
    edited = page.post(f"/api/pictures/{name}/edit/score", json={"amounts": {}}).json()
    for figure in ("log_prob", "bits_per_dim", "p_log_prob", "p_typicality", "p_complexity"):
        assert figures[figure] == pytest.approx(line[figure], rel=1e-6), figure
        if figure != "p_complexity":  # which would have codecs compress it at every move
            assert edited[figure] == pytest.approx(figures[figure], rel=1e-6)
    shown = page.get("/api/reference").json()
    assert shown["images"] == sum(shown["counts"]) == len(shown["sorted"]) == 40


def test_a_likelihood_that_no_float_holds_is_still_a_number(page, monkeypatch):
    from glowflow.models.glow import Glow

    nan = lambda model, x, labels: [x.sum((1, 2, 3)) * float("nan")] * 2  # noqa: E731
    monkeypatch.setattr(Glow, "_log_prob_by_level", nan)
    name = page.uploaded()
    for answer in (
        page.post("/api/samples", json={"count": 2, "temperatures": [1.0]}),
        page.post(f"/api/pictures/{name}/edit/score", json={"amounts": {}}),
        page.post("/api/score", content=png(noise(1)[0])),
    ):
        assert answer.status_code == 200, answer.text
        assert "NaN" not in answer.text and "Infinity" not in answer.text
