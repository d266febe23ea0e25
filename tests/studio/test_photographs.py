"""Photographs: a face that is found, a box that is drawn by hand, the camera."""

import json

import numpy as np
import pytest

from glowflow.cli import main
from glowflow.models.training_data import TrainingData
from glowflow.photos.crops import box, cut
from glowflow.photos.faces import find_face
from glowflow.studio.limits import Limits
from glowflow.studio.pictures import checked

from .browser import canvas, until
from .pages import noise, pixels, png, small_model

SHAPE = (3, 16, 16)
EDIT = {"amounts": {"Smiling": 0.8}}


@pytest.fixture(scope="module")
def astronaut():
    pytest.importorskip("cv2")
    data = pytest.importorskip("skimage.data", reason="scikit-image has the photograph")
    return np.ascontiguousarray(data.astronaut().transpose(2, 0, 1))


def test_a_face_is_found_levelled_edited_and_put_back(page, astronaut, folder, tmp_path, capsys):
    photograph = png(astronaut)
    name = page.uploaded(photograph, framing="face")
    seen = pixels(page.get(f"/api/pictures/{name}/image.png").content)
    crop = find_face(astronaut, "astronaut")
    assert (seen == cut(astronaut, crop, SHAPE)).all()
    pasted = page.post(f"/api/pictures/{name}/edit/pasted.png", json=EDIT).content
    changed = (pixels(pasted) != astronaut).any(0)
    x, y = crop.place(np.array([0.5, 0.5]))
    assert changed[int(y), int(x)] and changed.mean() < 0.15
    recipe = page.post(f"/api/pictures/{name}/edit/recipe.json", json=EDIT).content
    assert json.loads(recipe)["crop"]["right"][1] != 0  # the head is not quite level
    (tmp_path / "recipe.json").write_bytes(recipe)
    (tmp_path / "me.png").write_bytes(photograph)
    ask = ["--model", str(folder), "--recipe", str(tmp_path / "recipe.json"), "--paste"]
    assert main(["edit", str(tmp_path / "me.png"), *ask, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "pasted.png").read_bytes() == pasted
    assert "every byte as in the studio" in capsys.readouterr().out


def test_several_faces_and_none_are_told(page, astronaut):
    for photograph, words in (
        (np.concatenate([astronaut] * 2, axis=2), "2 faces"),
        (noise(1, size=64)[0], "No face with two eyes"),
    ):
        answer = page.upload(png(photograph), framing="face")
        assert answer.status_code == 400
        said = answer.json()["error"]
        assert words in said and "draw the box by hand" in said and "--" not in said


def opened(page, tmp_path, photograph):
    """The window in which one says what the model sees."""
    (tmp_path / "me.png").write_bytes(png(photograph))
    page.locator("#upload").set_input_files(tmp_path / "me.png")
    page.locator("#cropper").wait_for()
    return page.locator("#cropper .box")


@pytest.mark.browser
def test_the_box_by_keys(show, tmp_path):
    page, photograph = show(), noise(1, size=20)[0]
    drawn = opened(page, tmp_path, photograph)
    for key, times in (("-", 25), ("ArrowRight", 25), ("ArrowDown", 25)):
        for _ in range(times):
            drawn.press(key, no_wait_after=True)
    assert "16x16 of 20x20" in page.locator("#cropper-words").inner_text()
    page.locator("#crop-box").click()
    until(lambda: (canvas(page, "after") == photograph[:, 4:, 4:]).all())


@pytest.mark.browser
def test_the_box_by_mouse(show, tmp_path):
    page, photograph = show(), noise(1, size=300)[0]
    drawn = opened(page, tmp_path, photograph)
    grip = drawn.locator("span").bounding_box()
    move(page, grip["x"] + 9, grip["y"] + 9, -140, -140)
    corner = drawn.bounding_box()
    move(page, corner["x"] + 40, corner["y"] + 40, 70, 30)
    left, top, width = page.evaluate(
        """() => {
          const [box, image] = document.querySelectorAll("#photo .box, #photo img");
          const [img, b] = box.tagName === "IMG" ? [box, image] : [image, box];
          const scale = img.naturalWidth / img.clientWidth;
          return ["left", "top", "width"].map((name) => parseFloat(b.style[name]) * scale);
        }"""
    )
    assert (left, top, width) == pytest.approx((70, 30, 160), abs=2)
    page.locator("#crop-box").click()
    wanted = cut(photograph, box(left, top, width, width), SHAPE).astype(int)
    until(lambda: np.abs(canvas(page, "after") - wanted).max() <= 1)


def move(page, x, y, right, down):
    page.mouse.move(x, y)
    page.mouse.down()
    for share in (0.3, 0.7, 1.0):
        page.mouse.move(x + share * right, y + share * down)
    page.mouse.up()


@pytest.mark.browser
def test_a_face_that_is_not_found_leaves_the_box(show, tmp_path):
    pytest.importorskip("cv2")
    page = show()
    opened(page, tmp_path, noise(1, size=48)[0])
    page.locator("#crop-face").click()
    until(lambda: "draw the box by hand" in page.locator("#cropper-wrong").inner_text())
    page.keyboard.press("Escape")
    page.locator("#cropper").wait_for(state="hidden")
    assert page.locator("#tray [role=option]").count() == 8


@pytest.mark.browser
def test_the_camera(show):
    page = show()
    before = canvas(page, "after")
    page.locator("#camera").click()
    page.locator("#shoot:enabled").click()
    page.locator("#cropper").wait_for()
    assert page.evaluate("() => document.querySelector('video').srcObject.active") is False
    page.locator("#crop-whole").click()
    page.locator("#tray [title='camera.png']").wait_for()
    until(lambda: (canvas(page, "after") != before).any())
    assert canvas(page, "after").std() > 10  # chromium's camera shows a green field with a clock


def test_an_edit_goes_back_to_the_square_that_was_used_of_an_aligned_face():
    model = small_model()
    model.trained_on = TrainingData(aligned=True)
    face = noise(1, size=218)[0][:, :, :178]
    before = np.full(SHAPE, 100, dtype=np.uint8)
    pasted = checked(png(face), Limits()).with_change(model, before, before + 50)
    rows, columns = np.nonzero((pasted != face).any(0))
    assert rows.min() >= 40 and columns.min() >= 15 and rows.max() < 188 and columns.max() < 163
    assert min(np.ptp(rows), np.ptp(columns)) > 120
