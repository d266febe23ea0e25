"""`glow data`, as a person calls it."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from glowflow.cli import main

BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


@pytest.fixture
def cifar(tmp_path):
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    for name in BATCHES:
        content = {"data": np.full((4, 3072), 7, np.uint8), "labels": [0, 1, 2, 9]}
        (root / name).write_bytes(pickle.dumps(content, protocol=2))
    return root


@pytest.fixture
def glow(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        code = main(["data", *map(str, arguments)])
        done = capsys.readouterr()
        return code, done.out, done.err

    return call


def array_of(tmp_path):
    (path,) = (tmp_path / "cache").rglob("images.npy")
    return path


def test_prepare_decodes_once_and_warns(glow, cifar, tmp_path):
    code, out, err = glow("prepare", cifar)
    assert code == 0
    assert out.startswith("CIFAR-10: 24 images, 32x32 RGB (incomplete: train 20 of 50,000, ")
    assert len(out.splitlines()) == 1
    assert "incomplete" in err
    written = array_of(tmp_path).stat().st_mtime_ns
    assert glow("prepare", cifar)[0] == 0
    assert array_of(tmp_path).stat().st_mtime_ns == written


def test_info_for_people(glow, cifar):
    code, out, err = glow("info", cifar)
    assert code == 0
    assert out.strip().endswith("19 train, 1 valid, 4 test.")
    for word in ("cifar10", "3 x 32 x 32 uint8", "airplane", "SHA-256", "incomplete"):
        assert word in err, word


def test_info_for_scripts(glow, cifar):
    code, out, err = glow("info", cifar, "--json", "--seed", 3, "--device", "cpu")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["dataset"] == "cifar10"
    assert facts["splits"] == {"train": 19, "valid": 1, "test": 4}
    assert facts["shape"] == [3, 32, 32]
    assert facts["classes"][9] == "truck"
    assert facts["counts"][1] == {"part": "test", "found": 4, "published": [10_000]}
    assert len(facts["checksum"]) == 64


def test_attributes_are_counted(glow):
    code, out, _ = glow("info", "faces", "--faces", 20, "--size", 16, 16, "--json")
    assert code == 0
    attributes = json.loads(out)["attributes"]
    assert 0 < attributes["Smiling"] < 20
    assert json.loads(out)["completeness"] == ""
    _, _, shown = glow("info", "faces", "--faces", 20, "--size", 16, 16)
    assert f"{attributes['Smiling']} images" in shown


def test_verify(glow, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((9, 4, 4), np.uint8))
    code, out, _ = glow("verify", tmp_path / "a.npy")
    assert code == 0
    assert "the array is as it was prepared" in out
    path = array_of(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, out, _ = glow("verify", tmp_path / "a.npy", "--json")
    assert code == 1
    assert "has changed since it was prepared" in json.loads(out)["problems"][0]
    assert glow("info", tmp_path / "a.npy")[0] == 0


def test_verify_a_set_that_is_not_complete(glow, cifar):
    code, out, _ = glow("verify", cifar)
    assert code == 1
    assert "the data set is not complete" in out


def test_verify_images_that_cannot_be_read(glow, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(40):
        Image.new("RGB", (64, 64)).save(folder / f"{i}.png")
    (folder / "4.png").write_bytes(b"broken")
    code, out, _ = glow("verify", folder)
    assert code == 1
    assert "1 images cannot be read, as 4.png" in out


def test_results_are_written(glow, tmp_path):
    code, out, _ = glow("info", "--data", "digits", "--out", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads((tmp_path / "out" / "data.json").read_text()) == json.loads(out)
    code, _, err = glow("info", "digits", "--out", tmp_path / "out")
    assert code == 2
    assert "is not empty" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere"], "There is no folder or file nowhere"),
        (["verify", "digits", "--limit", "1"], "limit is 1"),
        (["prepare", "digits", "--device", "tpu9"], "There is no device"),
    ],
)
def test_bad_input(glow, arguments, message):
    code, out, err = glow(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("glow data: ")
    assert message in err
    assert "Traceback" not in err


def test_a_missing_batch_is_bad_input(glow, cifar):
    (cifar / "data_batch_5").unlink()
    code, _, err = glow("verify", cifar)
    assert code == 2
    assert "has no data_batch_5" in err


@pytest.fixture
def photos(tmp_path):
    """Two classes of ten pictures; one of a colour; a copy of a training image in the test."""
    root = tmp_path / "photos"
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("valid", 2), ("test", 2)):
        for name in ("cat", "dog"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    Image.new("RGB", (8, 8), "red").save(root / "train" / "cat" / "3.png")
    copied = (root / "train" / "dog" / "1.png").read_bytes()
    (root / "test" / "cat" / "1.png").write_bytes(copied)
    return root


def test_info_names_copies_colours_ranges_and_classes(glow, photos):
    code, out, _ = glow("info", photos, "--size", 8, 8, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["splits"] == {"train": 16, "valid": 4, "test": 4}
    assert facts["split"] == "published"
    assert facts["class_counts"]["dog"] == {"train": 8, "valid": 2, "test": 2}
    assert facts["duplicates"] == {
        "across_parts": 1,
        "examples": [["test/cat/1.png (test)", "train/dog/1.png (train)"]],
        "inside_train": 0,
    }
    assert facts["one_colour"] == {"count": 1, "examples": ["train/cat/3.png"]}
    assert facts["value_range"] == [0, 255]
    _, _, shown = glow("info", photos, "--size", 8, 8)
    for words in ("copies across parts", "of one colour", "0 to 255", "8 train, 2 valid, 2 test"):
        assert words in shown, words


def test_a_sheet_in_the_working_directory(glow, photos, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, out, _ = glow("info", photos, "--size", 8, 8, "--sheet", "sheet.png")
    assert code == 0 and out.rstrip().endswith("Contact sheet: sheet.png.")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["sheet.png"]
    with Image.open("sheet.png") as picture:
        assert picture.width > 8


def test_sheet_shows_what_the_model_sees(glow, photos, tmp_path):
    sheet = tmp_path / "sheet.png"
    code, out, _ = glow("info", photos, "--size", 8, 8, "--sheet", sheet)
    assert code == 0
    assert str(sheet) in out
    with Image.open(sheet) as picture:
        seen = np.asarray(picture.convert("RGB"))
    first = np.asarray(Image.open(photos / "train" / "cat" / "0.png"))
    enlarged = np.kron(first, np.ones((8, 8, 1), np.uint8))
    places = np.lib.stride_tricks.sliding_window_view(seen, enlarged.shape)[2, :, 0]
    assert any((place == enlarged).all() for place in places)
    assert glow("info", photos, "--size", 8, 8, "--sheet", sheet)[0] == 2
    code, out, _ = glow("info", photos, "--size", 8, 8, "--out", tmp_path / "out", "--sheet")
    assert code == 0
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_info_of_images_that_cannot_be_trained_on(glow, tmp_path):
    folder = tmp_path / "two"
    folder.mkdir()
    for index in range(2):
        Image.new("RGB", (8, 8), (index, 9, 9)).save(folder / f"{index}.png")
    code, out, _ = glow("info", folder, "--size", 8, 8, "--json")
    facts = json.loads(out)
    assert (code, facts["splits"]) == (0, {"all": 2})
    assert "at least 3 are needed" in facts["untrainable"]
