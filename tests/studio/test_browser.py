"""A walk through the studio in a browser, as a person takes it. Its twin is in the other files."""

import base64
import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image

from glowflow.data.types import ImageData
from glowflow.evaluation.calibration import calibrate
from glowflow.models.training_data import TrainingData
from glowflow.studio.app import make_app
from glowflow.studio.form import starting_point
from glowflow.studio.house import Offer
from glowflow.studio.stage import Stage
from glowflow.training.config import write_run_config

from .browser import SIZES, canvas, served, until, upload
from .pages import noise, pixels, png, small_model
from .test_train import plain, trainer

pytestmark = pytest.mark.browser


def downloaded(page, name):
    page.locator("#download summary").click()
    with page.expect_download() as given:
        page.locator(f"#download [data-file='{name}']").click()
    return given.value.path().read_bytes()


def test_upload_drag_undo_compare_and_download(show, tmp_path, folder, capsys):
    from glowflow.cli import main

    page, image = show(), noise(1, seed=4)[0]
    upload(page, tmp_path, image)
    until(lambda: (canvas(page, "after") == image).all())
    slider = page.locator("[data-attribute=Smiling]")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in (0.55, 0.6, 0.7, 0.8):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    page.mouse.up()
    until(lambda: (canvas(page, "after") != image).any())
    page.locator("#meter-words b").wait_for()
    data = downloaded(page, "edited.png")
    (tmp_path / "recipe.json").write_bytes(downloaded(page, "recipe.json"))
    until(lambda: np.abs(canvas(page, "after").astype(int) - pixels(data)).max() <= 1)
    ask = ["--model", str(folder), "--recipe", str(tmp_path / "recipe.json")]
    assert main(["edit", str(tmp_path / "me.png"), *ask, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "edited.png").read_bytes() == data
    assert Image.open(io.BytesIO(downloaded(page, "animation.gif"))).n_frames > 8
    page.keyboard.down("b")
    assert "held" in page.locator("#edit-frame").get_attribute("class")
    page.keyboard.up("b")
    assert "held" not in page.locator("#edit-frame").get_attribute("class")
    page.locator("#undo").click()
    until(lambda: (canvas(page, "after") == image).all())
    assert slider.input_value() == "0"


def test_keys_move_sliders_and_tabs(show):
    page = show()
    before = canvas(page, "after")
    page.locator("[data-attribute=Smiling]").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert float(page.locator("[data-attribute=Smiling]").input_value()) == 0.5
    until(lambda: (canvas(page, "after") != before).any())
    page.locator("#tab-edit").focus()
    for tab in ("sample", "mix", "levels", "explore", "score", "train", "edit"):
        page.keyboard.press("ArrowRight")
        assert page.locator(f"#{tab}").is_visible()
        assert page.locator(f"#tab-{tab}").get_attribute("aria-selected") == "true"


def test_what_goes_is_said_and_undone(show):
    page = show()
    slider, comes, goes = (
        page.locator(name) for name in ("[data-attribute=Smiling]", "#instead-new", "#instead-old")
    )
    slider.fill("0.5")
    plain = canvas(page, "before")
    until(lambda: (canvas(page, "after") != plain).any())
    alone = canvas(page, "after")
    page.locator("#more summary").click()
    comes.select_option("Smiling")
    assert goes.locator("option[value=Smiling]").is_disabled()
    with page.expect_request("**/edit") as asked:
        goes.select_option("Long_Hair")
    assert asked.value.post_data_json["instead"] == {"Smiling": ["Long_Hair"]}
    until(lambda: (canvas(page, "after") != alone).any())
    page.locator("#undo").click()
    until(lambda: (canvas(page, "after") == alone).all())
    assert goes.input_value() == "" and float(slider.input_value()) == 0.5
    page.locator("#reset").click()
    until(lambda: (canvas(page, "after") == plain).all())
    assert comes.input_value() == ""


def test_the_focus_goes_round_the_tabs_with_arrows_home_and_end(show):
    page = show("phone")
    page.locator("#tab-edit").focus()
    ways = ("ArrowLeft", "train"), ("ArrowRight", "edit"), ("End", "train"), ("Home", "edit")
    for key, tab in (*ways, ("ArrowRight", "sample"), ("ArrowLeft", "edit")):
        page.keyboard.press(key)
        assert page.evaluate("() => document.activeElement.id") == f"tab-{tab}", key
        assert page.locator("[role=tabpanel]:visible").get_attribute("id") == tab
        (stop,) = page.locator("#tabs [role=tab]:not([tabindex='-1'])").all()
        assert stop.get_attribute("id") == f"tab-{tab}"


def test_escape_closes_the_menu_of_downloads_and_gives_the_focus_back(show):
    page = show()
    page.locator("#download summary").focus()
    page.keyboard.press("Enter")
    page.locator("#download button").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.dataset.file") == "edited.png"
    page.keyboard.press("Escape")
    assert page.locator("#download button").first.is_hidden()
    assert page.evaluate("() => document.activeElement.tagName") == "SUMMARY"


def test_the_class_that_a_picture_shows_is_taken_with_it(show, tmp_path):
    def of_classes():
        model = small_model(classes=3)
        model.trained_on = TrainingData(source="noise", class_names=("cat", "dog", "owl"))
        return Stage(model, "classes")

    image = noise(1, seed=4)[0]
    (tmp_path / "me.png").write_bytes(png(image))
    with served(make_app([Offer("classes", of_classes)])) as address:
        page = show(at=address)
        page.locator("#upload").set_input_files(tmp_path / "me.png")
        page.locator("#cropper-class").select_option(label="owl")
        with page.expect_request("**/api/pictures?*") as asked:
            page.locator("#crop-box").click()
        assert "label=2" in asked.value.url
        page.locator("#tray [title='me.png']").wait_for()
        assert page.locator("#target").input_value() == "2"
        until(lambda: (canvas(page, "after") == image).all())
        page.close()


def test_the_last_value_is_never_lost(show):
    page = show()
    wanted = page.evaluate(
        """async () => {
          const input = document.querySelector("[data-attribute=Smiling]");
          let last = null;
          document.addEventListener("shown", ({ detail }) => {
            last = detail.value.asked.amounts.Smiling ?? 0;
          });
          const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
          let lost = 0;
          for (let drag = 0; drag < 25; drag += 1) {
            for (let move = 0; move <= drag % 7; move += 1) {
              input.value = (Math.random() * 4 - 2).toFixed(2);
              input.dispatchEvent(new Event("input", { bubbles: true }));
              if (move % 2) await wait(3);
            }
            const end = performance.now() + 5000;
            while (last !== Number(input.value) && performance.now() < end) await wait(2);
            if (last !== Number(input.value)) lost += 1;
          }
          return lost;
        }"""
    )
    assert wanted == 0


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("desktop", "light"),
        ("phone", "dark"),
        ("on its side", "light"),
        pytest.param("desktop", "dark", marks=pytest.mark.slow),
        pytest.param("phone", "light", marks=pytest.mark.slow),
    ],
)
def test_every_tab_fits_the_screen(show, size, scheme):
    page = show(size, color_scheme=scheme)
    for tab in ("edit", "sample", "mix", "levels", "explore", "score", "train"):
        page.locator(f"#tab-{tab}").click()
        if tab == "sample":
            page.locator("#wall img").nth(11).wait_for()
        if tab == "levels":
            page.locator("#levels-rows img").nth(11).wait_for()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= SIZES[size][0], tab


def test_sample_mix_levels_and_score(show, tmp_path):
    page = show()
    page.locator("#tab-sample").click()
    page.locator("#wall .tile").nth(3).click()
    assert page.locator("#edit").is_visible()
    assert page.locator("#tray [role=option]").count() == 9
    page.locator("#tab-mix").click()
    page.locator("#tray [role=option]").nth(3).click()
    assert page.locator("#corners img").count() == 3
    before = canvas(page, "mixed")
    field = page.locator("#field")
    field.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    until(lambda: (canvas(page, "mixed") != before).any())
    corner = page.locator("#corners img").nth(1).bounding_box()
    page.mouse.click(corner["x"] + corner["width"] / 2, corner["y"] + corner["height"] / 2)
    png_of_it = page.locator("#corners img").nth(1).get_attribute("src")
    at_it = pixels(base64.b64decode(png_of_it.partition(",")[2]))
    until(lambda: (canvas(page, "mixed") == at_it).all())
    with page.expect_download() as given:
        page.locator("#mix-animation").click()
    assert Image.open(given.value.path()).n_frames > 8
    page.locator("#tab-levels").click()
    page.locator("#levels-rows .tile").nth(8).click()
    until(lambda: page.locator("#tray [role=option]").count() == 10)
    page.locator("#tab-score").click()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "good.png").write_bytes(png(noise(1)[0]))
    page.locator("#score-files").set_input_files([tmp_path / "bad.png", tmp_path / "good.png"])
    until(lambda: page.locator("#scores tbody tr").count() == 2)
    until(lambda: "1 scored" in page.locator("#score-words").inner_text())
    assert "no picture" in page.locator("#scores tbody").inner_text()
    with page.expect_download() as given:
        page.locator("#score-csv").click()
    assert given.value.path().read_text().count("\n") == 2


def judging():
    """Beside so many images that a p-value can be 0.01."""
    made = plain()
    made.calibration = calibrate(made.model, ImageData(noise(120)), progress=False, source="noise")
    return made


@pytest.fixture(scope="module")
def judge():
    with served(make_app([Offer("small", judging)])) as address:
        yield address


def test_the_figures_of_a_score_are_those_of_the_interface(show, judge, tmp_path):
    page, told = show(at=judge), {}
    page.locator("#tab-score").click()
    images = {"usual.png": noise(1)[0], "black.png": np.zeros((3, 16, 16), np.uint8)}
    for name, image in images.items():
        (tmp_path / name).write_bytes(png(image))
        with page.expect_request("**/api/score?*") as asked:
            page.locator("#score-files").set_input_files(tmp_path / name)
        who = {"Glow-Visitor": asked.value.headers["glow-visitor"]}
        told[name] = httpx.post(asked.value.url, content=png(image), headers=who).json()
    until(lambda: page.locator("#scores tbody tr").count() == 2)
    shown = ["bits_per_dim", "p_log_prob", "p_typicality", "complexity", "p_complexity"]
    for line in page.locator("#scores tbody tr").all():
        _, name, *figures = line.locator("td").all_inner_texts()
        wanted = [f"{told[name][n]:.{0 if n == 'complexity' else 3}f}" for n in shown]
        assert figures == wanted
    strange = [n for n, t in told.items() if min(t["p_typicality"], t["p_complexity"]) <= 0.01]
    assert strange == ["black.png"]
    assert page.locator("#scores .strange .name").all_inner_texts() == strange
    assert page.locator("#score-words").inner_text() == "2 scored; 1 with p ≤ 0.01."


def test_a_bad_upload_says_what_is_wrong(show, tmp_path):
    page = show()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.locator("#upload").set_input_files(tmp_path / "bad.png")
    until(lambda: "no picture of a kind" in page.locator("#message").inner_text())


def test_explore_with_keys_and_mouse_and_walk(show):
    page = show()
    page.locator("#tab-explore").click()
    page.locator("#plot circle.dot").nth(29).wait_for()
    assert page.locator("#plot circle.with").count() == 15
    page.locator("#tab-train").focus()
    page.locator("#plot").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#tip").is_visible()
    assert "Enter" in page.locator("#explore-said").inner_text()
    page.keyboard.press("Enter")
    until(lambda: page.locator("#tray [role=option]").count() == 9)
    until(lambda: (canvas(page, "walked") == canvas(page, "after")).all())
    before = canvas(page, "walked")
    page.locator("#walk").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    until(lambda: (canvas(page, "walked") != before).any())
    assert page.locator("#plot .way").count() == 1
    page.locator("#walk-keep").click()
    until(lambda: page.locator("#tray [role=option]").count() == 10)
    box = page.locator("#plot circle.dot").nth(5).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    until(lambda: page.locator("#tray [role=option]").count() == 11)
    page.locator("#walk-edit").click()
    assert page.locator("#edit").is_visible()


def test_a_run_is_asked_for_in_the_form_and_its_refusal_is_told(show):
    page = show("phone")
    page.locator("#tab-train").click()
    page.locator("#train-new:enabled").click()
    page.locator("[id='option-images']").fill("many")
    page.locator("#starter-go").click()
    until(lambda: "images is 'many'" in page.locator("#starter-wrong").inner_text())
    assert page.evaluate("() => document.getElementById('starter').scrollWidth") <= 390
    page.locator("#starter-start").select_option("cifar10")
    until(lambda: page.locator("[id='option-model.steps']").input_value() == "32")
    page.locator("[id='option-data.data']").fill("nowhere")
    page.locator("#starter-go").click()
    page.locator("#starter").wait_for(state="hidden")
    until(lambda: "The data are noise" in page.locator("#message").inner_text())


def test_runs_under_way_ended_and_damaged_are_told_apart(show, tmp_path):
    figures = {"step": 2, "images": 32, "seconds": 1.0, "bits_per_dim": 5.0}
    for name, metrics in (("ended", json.dumps(figures)), ("damaged", "{\n{}\n")):
        (tmp_path / name).mkdir()
        write_run_config(tmp_path / name, starting_point("glow"))
        (tmp_path / name / "metrics.jsonl").write_text(metrics)
    made = trainer(tmp_path)
    made.start(starting_point("glow"), "running")
    until(lambda: (tmp_path / "running" / "metrics.jsonl").is_file())
    with served(make_app([Offer("small", plain)], trainer=made)) as address:
        page = show(at=address)
        page.locator("#tab-train").click()
        page.locator("#runs .run").nth(2).wait_for()
        told = {run.inner_text().split("\n")[0]: run.inner_text() for run in
                page.locator("#runs .run").all()}  # fmt: skip
        assert "training · 5.000 bits/dim · 16 images" in told["running"]
        assert "training" not in told["ended"] and "5.000 bits/dim · 32 images" in told["ended"]
        assert "not JSON" in told["damaged"]
        assert page.locator("#runs .alive b").all_inner_texts() == ["running"]
        for name, stop, resume in (("running", True, False), ("ended", False, True)):
            page.locator(f"[data-run={name}]").click()
            until(lambda name=name: page.locator("#run-name").inner_text() == name)
            assert page.locator("#run-stop").is_visible() == stop
            assert page.locator("#run-resume").is_visible() == resume
        page.locator("[data-run=damaged]").click()
        page.locator("#run").wait_for(state="hidden")
        page.close()
    made.close()


def test_the_map_of_the_chosen_picture(show):
    page = show()
    page.locator("#tab-score").click()
    until(lambda: "The map sums to" in page.locator("#map-words").inner_text())
    before = canvas(page, "map-heat")
    page.locator("#tray [role=option]").nth(3).click()
    until(lambda: (canvas(page, "map-heat") != before).any())
    page.locator("#map-level").select_option("2")
    until(lambda: "Level 2 adds" in page.locator("#map-words").inner_text())
