"""`glow directions`, `edit`, `interpolate`, `pca`, and photographs, as a person calls them."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from glowflow import Glow, GlowConfig, InputError
from glowflow.cli import main
from glowflow.cli.directions import _beside
from glowflow.cli.ranges import numbers
from glowflow.models.companions import identity
from glowflow.photos.images import read_image
from tests.conftest import perturb

pytestmark = pytest.mark.usefixtures("unseen_plots")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latent")
    torch.manual_seed(0)
    config = GlowConfig(image_shape=(3, 16, 16), levels=2, steps=2, hidden_channels=8, classes=2)
    conditional = perturb(Glow(config), 0.02).eval()
    conditional.save_pretrained(folder / "conditional")
    random = np.random.default_rng(0)
    for name, size in (("a", (40, 30)), ("b", (24, 24)), ("small", (8, 8))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            folder / f"{name}.png"
        )
    np.save(folder / "three.npy", random.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def glow(work):
    def call(*arguments):
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(work)
            patch.setenv("GLOWFLOW_CACHE", str(work / "cache"))
            code = main([*map(str, arguments), "--json"])
        assert code == 0, err.getvalue()
        assert out.getvalue().count("\n") == 1
        return json.loads(out.getvalue())

    return call


@pytest.fixture(scope="module")
def run(glow, work):
    glow("train", "--faces", 60, "--size", 16, 16, "--levels", 2, "--steps", 2,
         "--hidden-channels", 8, "--batch-size", 16, "--images", 96, "--warmup-images", 32,
         "--out", "run", "--evaluation-images", 4)  # fmt: skip
    return "run"


@pytest.fixture(scope="module")
def directions(glow, run, work):
    facts = glow("directions", "--model", run, "--estimator", "matched", "--minimum", 5,
                 "--out", "d.safetensors")  # fmt: skip
    return "d.safetensors", facts


def test_directions_are_written_where_an_edit_finds_them(run, work):
    assert _beside(str(work / run)) == work / run / "directions.safetensors"
    assert _beside("demo-faces") == Path("directions.safetensors")


def picture(work, *names):
    return np.asarray(Image.open(work.joinpath(*names))).transpose(2, 0, 1)


def test_directions_say_what_they_are(directions, work):
    _, facts = directions
    assert facts["model"] == identity(Glow.from_pretrained(work / "run"))
    assert facts["estimator"] == "matched"
    for count in facts["counts"].values():
        assert count["with"] + count["without"] == facts["images"] == 48
        assert min(count.values()) >= 5
    assert set(facts["imbalance"]) == set(facts["counts"])
    assert (work / "d.safetensors").is_file()


def test_an_amount_of_0_is_the_image(glow, directions, work):
    facts = glow("edit", "a.png", "--model", "run", "--directions", "d.safetensors", "--attribute",
                 "Smiling", "--amount", 0, "--paste", "--out", "zero")  # fmt: skip
    assert (facts["bytes_changed"], facts["bytes_not_returned"]) == (0, 0)
    seen = read_image(work / "a.png", (3, 16, 16))
    assert np.array_equal(picture(work, "zero", "edited.png"), seen)
    assert np.array_equal(picture(work, "zero", "original.png"), seen)
    assert np.array_equal(picture(work, "zero", "pasted.png"), picture(work, "a.png"))
    assert json.loads((work / "zero" / "edit.json").read_text()) == facts


def test_several_attributes_at_once(glow, directions, work):
    facts = glow("edit", "a.png", "--model", "run", "--directions", "d.safetensors", "--attribute",
                 "Smiling", "Long_Hair", "--amount", 0.8, -0.5, "--crop", "2,10,20", "--paste",
                 "--out", "two")  # fmt: skip
    assert facts["amounts"] == {"Smiling": 0.8, "Long_Hair": -0.5}
    assert 0 < facts["bytes_changed"] <= facts["bytes"] == 768
    assert 0 <= facts["bytes_not_returned"] <= facts["bytes"]
    assert facts["bytes_not_returned_unrounded"] == 0
    before, after = picture(work, "a.png"), picture(work, "two", "pasted.png")
    changed = np.argwhere((before != after).any(axis=0))
    assert changed.min(0).tolist() >= [10, 2]
    assert changed.max(0).tolist() <= [29, 21]


def test_an_attribute_comes_for_another(glow, directions, work):
    edit = ["edit", "a.png", "--model", "run", "--directions", "d.safetensors", "--attribute"]
    told = glow(*edit, "Smiling", "--instead-of", "Long_Hair", "--amount", 0.5, "--out", "told")
    assert told["instead_of"] == ["Long_Hair"] and told["amounts"] == {"Smiling": 0.5}
    assert told["bytes_not_returned_unrounded"] == 0
    plain = glow(*edit, "Smiling", "--amount", 0.5, "--out", "plain")
    assert plain["instead_of"] == []
    edited = [picture(work, name, "edited.png") for name in ("told", "plain")]
    assert not np.array_equal(*edited)
    strip = [*edit, "Smiling", "--instead-of", "Long_Hair", "--amounts", "0:0.5:0.5"]
    glow(*strip, "--out", "told-strip")
    assert np.array_equal(picture(work, "told-strip", "Smiling", "01.png"), edited[0])


def test_strips_and_sheet(glow, directions, work):
    facts = glow("edit", "a.png", "--model", "run", "--directions", "d.safetensors", "--all",
                 "--amounts", "-1:1:0.5", "--out", "sheet")  # fmt: skip
    assert facts["columns"] == ["-1", "-0.5", "+0", "+0.5", "+1"]
    assert facts["rows"] == list(directions[1]["counts"])
    seen = read_image(work / "a.png", (3, 16, 16))
    assert np.array_equal(picture(work, "sheet", "Smiling", "02.png"), seen)
    assert not np.array_equal(picture(work, "sheet", "Smiling", "04.png"), seen)
    assert (work / "sheet" / "sheet.png").is_file()


def test_resampled_levels_repeat_with_the_seed(glow, run, work):
    for name, seed in (("r1", 3), ("r2", 3), ("r3", 4)):
        glow("edit", "a.png", "--model", run, "--resample-level", 1, 2, "--count", 2, "--seed",
             seed, "--out", name)  # fmt: skip
    sheets = [(work / name / "sheet.png").read_bytes() for name in ("r1", "r2", "r3")]
    assert sheets[0] == sheets[1] != sheets[2]
    assert (work / "r1" / "level-2" / "01.png").is_file()


def test_another_class_of_the_same_code(glow, work):
    same, other = (
        glow(
            "edit",
            "a.png",
            "--model",
            "conditional",
            "--class",
            1,
            "--to-class",
            to,
            "--out",
            f"class{to}",
        )
        for to in (1, 0)
    )
    assert same["bytes_changed"] == 0
    assert other["bytes_changed"] > 0
    assert other["to_class"] == "0"


def test_interpolation_starts_and_ends_at_the_images(glow, run, work):
    facts = glow("interpolate", "a.png", "b.png", "--model", run, "--steps", 4, "--curve", "both",
                 "--animation", "webp", "--out", "path")  # fmt: skip
    assert facts["bytes_changed_at_the_ends"] == 0
    assert facts["t"] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for curve in ("linear", "spherical"):
        assert len(facts["bits_per_dim"][curve]) == 4
        for name, file in (("a", "000"), ("b", "003")):
            expected = read_image(work / f"{name}.png", (3, 16, 16))
            assert np.array_equal(picture(work, "path", curve, f"{file}.png"), expected)
        assert Image.open(work / "path" / f"{curve}.webp").n_frames == 6
    for name in ("strip.png", "bits_per_dim.png", "interpolation.json"):
        assert (work / "path" / name).is_file()


def test_temperatures_share_their_noise(glow, run, work):
    facts = glow("sample", "--model", run, "--count", 2, "--temperature", "0:1:0.5", "--out",
                 "warm")  # fmt: skip
    assert facts["temperatures"] == [0, 0.5, 1]
    assert {file.name for file in (work / "warm").iterdir()} == {"grid.png"}
    single = glow("sample", "--model", run, "--count", 2, "--temperature", "0.5", "--out", "one")
    assert single["temperature"] == 0.5
    sheet = np.asarray(Image.open(work / "warm" / "grid.png"))
    image = np.asarray(Image.open(work / "one" / "0000.png").resize((64, 64), 0))
    assert np.array_equal(sheet[2 + 66 : 2 + 66 + 64, 74 : 74 + 64], image)


def test_pca_is_one_page_without_requests(glow, run, work):
    facts = glow("pca", "--model", run, "--components", 3, "--shown", 2, "--minimum", 5,
                 "--out", "pca")  # fmt: skip
    page = (work / "pca" / "pca.html").read_text(encoding="utf-8")
    assert "http://" not in page and "https://" not in page
    assert page.count("data:image/png;base64,") == 2
    assert page.count("data:image/webp;base64,") == 1
    inside = json.loads(page.split("type=application/json id=data>")[1].split("</script>")[0])
    assert [len(level["points"]) for level in inside["levels"]] == [6, 6]
    assert len(inside["attributes"][0]["true"]) == 6
    assert (facts["fitted"], facts["chosen_on"], facts["held_out"]) == (48, 6, 6)
    for level in facts["levels"]:
        shares = level["explained_variance"]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) < 1
    assert all(len(r["accuracy"]) == 2 for r in facts["readouts"])
    assert json.loads((work / "pca" / "pca.json").read_text()) == facts


def test_reconstruct_pastes_the_photograph_unchanged(glow, run, work):
    facts = glow("reconstruct", "a.png", "--model", run, "--crop", "center", "--paste", "--out",
                 "back")  # fmt: skip
    assert facts["bytes_changed"] == 0
    assert np.array_equal(picture(work, "back", "pasted", "a.png"), picture(work, "a.png"))


@pytest.fixture(scope="module")
def astronaut(work):
    pytest.importorskip("cv2")
    data = pytest.importorskip("skimage.data", reason="scikit-image has the photograph")
    Image.fromarray(data.astronaut()).save(work / "face.png")
    return data.astronaut().transpose(2, 0, 1)


def test_align_brings_a_face_in(glow, run, work, astronaut):
    glow("reconstruct", "face.png", "--model", run, "--align", "--out", "aligned")
    face = picture(work, "aligned", "face.png").mean(0)
    assert abs(face[8:].mean() - face[:, ::-1][8:].mean()) < 1e-9
    eyes, cheeks = face[7, [5, 10]], face[9, [5, 10]]
    assert (eyes < cheeks - 10).all()


def test_an_edit_of_a_face_is_put_back_into_the_photograph(glow, directions, work, astronaut):
    how = ["edit", "face.png", "--model", "run", "--directions", "d.safetensors", "--attribute",
           "Smiling", "--align", "--paste"]  # fmt: skip
    assert glow(*how, "--amount", 0, "--out", "face0")["bytes_changed"] == 0
    assert np.array_equal(picture(work, "face0", "pasted.png"), astronaut)
    assert glow(*how, "--amount", 0.8, "--out", "face8")["bytes_changed"] > 0
    changed = np.argwhere((picture(work, "face8", "pasted.png") != astronaut).any(axis=0))
    (top, left), (bottom, right) = changed.min(0), changed.max(0)
    # The face is from 60 to 150 down and 180 to 265 across; its aligned square is 175 wide.
    assert 5 < top < 60 and 150 < bottom < 200
    assert 130 < left < 180 and 265 < right < 320


@pytest.mark.parametrize(
    ("name", "crop", "box"),
    [("china", "center", (106, 0, 533, 427)), ("flower", "250,60,200", (250, 60, 450, 260))],
)
def test_photographs_are_cropped_and_pasted(glow, directions, work, name, crop, box):
    photo = load_sample_image(f"{name}.jpg")
    Image.fromarray(photo).save(work / f"{name}.png")
    how = [f"{name}.png", "--model", "run", "--crop", crop, "--paste", "--out"]
    assert glow("reconstruct", *how, f"{name}-back")["bytes_changed"] == 0
    returned = picture(work, f"{name}-back", "pasted", f"{name}.png")
    assert np.array_equal(returned, photo.transpose(2, 0, 1))
    facts = glow("edit", *how, f"{name}-edit", "--directions", "d.safetensors", "--attribute",
                 "Smiling", "--amount", 0.8)  # fmt: skip
    assert facts["bytes_changed"] > 0
    left, top, right, bottom = box
    different = picture(work, f"{name}-edit", "pasted.png") != returned
    assert different[:, top:bottom, left:right].any()
    different[:, top:bottom, left:right] = False
    assert not different.any()


EDIT = ["edit", "a.png", "--model", "run", "--directions", "d.safetensors"]
BAD = {
    "directions without a model": (["directions", "--model", "none"], "There is no model at none"),
    "another suffix": (["directions", "--model", "run", "--out", "d.pt"], "ends in .safetensors"),
    "file exists": (["directions", "--model", "run", "--out", "d.safetensors"], "exists: choose"),
    "too few of the named one": (
        ["directions", "--model", "run", "--attributes", "Hat", "--minimum", "25", "--out",
         "x.safetensors"],
        "Hat is true of",
    ),
    "no attributes": (
        ["directions", "digits", "--model", "conditional", "--upscale", "--out", "x.safetensors"],
        "have no attributes",
    ),
    "no data known": (["directions", "--model", "conditional"], "give --data"),
    "no such attribute": ([*EDIT, "--attribute", "Wings", "--amount", "1"], "direction 'Wings'"),
    "another model's": (
        ["edit", "a.png", "--model", "conditional", "--class", "0", "--directions",
         "d.safetensors", "--all"],
        "are of another model",
    ),
    "nothing to do": (EDIT, "Say what to do"),
    "no directions": (["edit", "a.png", "--model", "run", "--all"], "give --directions"),
    "an amount too many": (
        [*EDIT, "--attribute", "Smiling", "--amount", "1", "1"], "1 attributes and 2 amounts",
    ),
    "amount and amounts": (
        [*EDIT, "--attribute", "Smiling", "--amount", "1", "--amounts", "0:1:1"], "not both",
    ),
    "instead of nothing known": (
        [*EDIT, "--attribute", "Smiling", "--amount", "1", "--instead-of", "Wings"],
        "direction 'Wings'",
    ),
    "instead of itself": (
        [*EDIT, "--attribute", "Smiling", "--amount", "1", "--instead-of", "Smiling"],
        "cannot come instead of itself",
    ),
    "all instead of one": ([*EDIT, "--all", "--instead-of", "Smiling"], "with one --attribute"),
    "bad amounts": ([*EDIT, "--all", "--amounts", "0:1"], "--amounts is '0:1'"),
    "paste of a sheet": ([*EDIT, "--all", "--paste"], "Only one edit"),
    "temperature": (
        [*EDIT, "--attribute", "Smiling", "--amount", "1", "--temperature", "-1"],
        "temperature is -1",
    ),
    "draws of no level": (
        [*EDIT, "--attribute", "Smiling", "--amount", "1", "--count", "3"], "give --resample-level",
    ),
    "temperature of a class": (
        ["edit", "a.png", "--model", "conditional", "--class", "0", "--to-class", "1",
         "--temperature", "0.5"],
        "--temperature is of attributes and levels",
    ),
    "directions of nothing": ([*EDIT, "--resample-level", "1"], "--directions are of attributes"),
    "no such level": (
        ["edit", "a.png", "--model", "run", "--resample-level", "3"], "the levels 1 to 2",
    ),
    "no class": (["edit", "a.png", "--model", "conditional", "--to-class", "1"], "with --class"),
    "no such class": (
        ["edit", "a.png", "--model", "conditional", "--class", "0", "--to-class", "2"],
        "--to-class is 2",
    ),
    "class without classes": (
        ["edit", "a.png", "--model", "run", "--to-class", "1"], "has 0 classes",
    ),
    "image too small": (
        ["interpolate", "a.png", "small.png", "--model", "run"], "smaller than the 16x16",
    ),
    "crop too small": (
        ["interpolate", "a.png", "b.png", "--model", "run", "--crop", "1,1,9"],
        "The crop of a.png is 9x9",
    ),
    "crop elsewhere": (
        ["reconstruct", "a.png", "--model", "run", "--crop", "90,1,20"], "outside of a.png",
    ),
    "no crop": (["reconstruct", "a.png", "--model", "run", "--crop", "1,2"], "--crop is '1,2'"),
    "align and crop": (
        ["reconstruct", "a.png", "--model", "run", "--crop", "center", "--align"], "not both",
    ),
    "one step": (["interpolate", "a.png", "b.png", "--model", "run", "--steps", "1"], "at least 2"),
    "axes of one image": (["pca", "three.npy", "--model", "run"], "there are 1: give more"),
    "no components": (["pca", "--model", "run", "--components", "0"], "components is 0"),
    "sample": (["sample", "--model", "run", "--temperature", "hot"], "--temperature is 'hot'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name, directions, work, monkeypatch, capsys):
    arguments, message = BAD[name]
    monkeypatch.chdir(work)
    monkeypatch.setenv("GLOWFLOW_CACHE", str(work / "cache"))
    before = results(work)
    code = main(arguments)
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("glow")]
    assert code == 2, shown
    assert len(lines) == 1 and message in lines[0], shown.err
    assert shown.out == ""
    assert results(work) == before


def results(work):
    return sorted(p for p in work.rglob("*") if (work / "cache") not in p.parents)


def test_numbers():
    assert numbers("0.7", "x") == [0.7]
    assert numbers("-1:1:0.5", "x") == [-1, -0.5, 0, 0.5, 1]
    assert numbers("0:1:0.1", "x")[3] == 0.3
    assert numbers("1:0:-0.5", "x") == [1, 0.5, 0]
    for text in ("", "1:2", "0:1:0", "0:1:-1", "0:1:nan", "0:1:1e-9"):
        with pytest.raises(InputError, match="x is"):
            numbers(text, "x")
