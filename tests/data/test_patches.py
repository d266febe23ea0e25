"""Photographs cut into squares at their own resolution."""

import io
import json
import zipfile

import numpy as np
import pytest
import yaml
from PIL import Image

from glowflow import DataConfig, InputError
from glowflow.cli import main
from glowflow.data.loader import batches
from glowflow.data.open import open_images
from glowflow.data.patches import Grids, joined, marked_incomplete, mosaics, photographs
from glowflow.data.types import ImageData

SIDE = 8


@pytest.fixture
def photos(tmp_path, random):
    """Eight photographs of several sizes, whose pixels say where they are: red the row, green the
    column, blue the photograph."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        height, width = 30 + 3 * number, 40 + 5 * number
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[..., 0] = np.arange(height)[:, None]
        pixels[..., 1] = np.arange(width)
        pixels[..., 2] = number
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def parts(splits):
    return (splits.train, splits.valid, splits.test)


def test_every_square_has_the_pixels_of_its_place(photos, read):
    splits = read(photos, patches=SIDE)
    found = [data for data in parts(splits) if len(data)]
    count = sum(((30 + 3 * n) // SIDE) * ((40 + 5 * n) // SIDE) for n in range(8))
    assert sum(map(len, found)) == count
    for data in found:
        for image, (_, row, column), name in zip(
            data.images, data.patches, data.names, strict=True
        ):
            assert image[0, 0, 0] == row * SIDE and image[1, 0, 0] == column * SIDE
            assert (image[0] == row * SIDE + np.arange(SIDE)[:, None]).all()
            assert name == f"{image[2, 0, 0]}.png[{row},{column}]"


def test_a_photograph_is_in_one_part(photos, read):
    whose = [set(np.unique(data.images[:, 2])) for data in parts(read(photos, patches=SIDE))]
    assert all(whose)
    assert len(set.union(*whose)) == sum(map(len, whose)) == 8


def test_crops_are_at_every_place_and_the_same_again(photos, read):
    data = read(photos, patches=SIDE).train
    seen = {}
    for epoch in range(60):
        for images, _ in batches(data, 16, seed=1, epoch=epoch, crops=True, drop_last=False):
            for image in images.numpy():
                top, left, number = (int(v) for v in image[:, 0, 0])
                assert (image[0] == top + np.arange(SIDE)[:, None]).all()
                assert (image[1] == left + np.arange(SIDE)).all()
                assert (image[2] == number).all()
                seen.setdefault(number, set()).add((top, left))
    for number, places in seen.items():
        rows, columns = (30 + 3 * number) // SIDE, (40 + 5 * number) // SIDE
        possible = ((rows - 1) * SIDE + 1) * ((columns - 1) * SIDE + 1)
        assert len(places) > 0.5 * possible
        assert {max(p[0] for p in places), max(p[1] for p in places)} == {
            (rows - 1) * SIDE, (columns - 1) * SIDE
        }  # fmt: skip
    one, other = (next(iter(batches(data, 16, seed=1, epoch=0, crops=True)))[0] for _ in range(2))
    assert (one == other).all()
    later = list(batches(data, 16, seed=1, epoch=0, crops=True))[2][0]
    assert (next(iter(batches(data, 16, seed=1, epoch=0, skip=32, crops=True)))[0] == later).all()


def test_squares_without_their_neighbours_stay_where_they_are(photos, read):
    data = read(photos, patches=SIDE).train.choose(np.arange(0, 40, 3))
    grids = Grids.of(data.patches)
    assert (grids.rows == 1).all() and (grids.start == np.arange(len(data))).all()
    cut = grids.crops(data.images, np.arange(len(data)), np.random.default_rng(0))
    assert (cut == data.images).all()


def test_photographs_are_put_together_again(photos, cache):
    data = open_images(DataConfig(data=str(photos), patches=SIDE), cache=cache).data
    back = photographs(data)
    assert len(back) == 8
    for number, image in enumerate(back):
        original = np.asarray(Image.open(photos / f"{number}.png")).transpose(2, 0, 1)
        assert (image == original[:, : image.shape[1], : image.shape[2]]).all()
        assert original.shape[1] - image.shape[1] < SIDE
    assert len(photographs(data.choose(np.arange(1, len(data))))) == 7


def test_a_mosaic_has_every_square_once(random):
    squares = random.integers(0, 256, (11, 3, SIDE, SIDE), dtype=np.uint8)
    large, rest = mosaics(squares)
    assert large.shape == (3, 3 * SIDE, 3 * SIDE) and rest.shape == (3, SIDE, 2 * SIDE)
    assert (large[:, SIDE : 2 * SIDE, :SIDE] == squares[3]).all()
    assert (rest[:, :, SIDE:] == squares[10]).all()
    assert (joined(squares[:1], 1) == squares[0]).all()


def test_turned_small_and_broken_photographs(photos, cache, random):
    pixels = random.integers(0, 256, (24, 40, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(photos / "turned.png", exif=turned)
    Image.fromarray(pixels[:5]).save(photos / "small.png")
    Image.fromarray(pixels).save(photos / "whole.jpg", quality=95)
    whole = (photos / "whole.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "headless.png").write_bytes(whole[:20])
    images = open_images(DataConfig(data=str(photos), patches=SIDE), cache=cache)
    mine = [i for i, name in enumerate(images.data.names) if name.startswith("turned")]
    assert len(mine) == 15
    upright = np.rot90(pixels, -1)
    assert (images.data.images[mine[1]] == upright[:SIDE, SIDE : 2 * SIDE].transpose(2, 0, 1)).all()
    (left,) = images.reading.left_out
    assert left.example == "small.png" and left.reason == "smaller than 8x8"
    assert any(line.startswith("headless.png[0,0]: ") for line in images.skipped)
    assert sum(line.startswith("cut.jpg[") for line in images.skipped) == 3 * 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patches": 8, "size": (16, 16)}, "leave the other two out"),
        ({"patches": 8, "fit": "pad"}, "leave the other two out"),
        ({"fit": "patches"}, "--patches"),
        ({"fit": "patches", "size": (8, 16)}, "--patches"),
        ({"patches": 8, "upscale": True}, "leave upscale out"),
        ({"patches": 0}, "at least 1 pixel"),
    ],
)
def test_what_does_not_go_together(options, said):
    with pytest.raises(InputError, match=said):
        DataConfig(**options)


def test_what_is_not_a_folder_of_images_is_not_cut(read):
    with pytest.raises(InputError, match="not to be cut into patches"):
        read("digits", patches=8)


@pytest.fixture
def facts(cache, monkeypatch, tmp_path, capsys):
    """What a command says with --json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOWFLOW_CACHE", str(cache))

    def call(*arguments):
        code = main([*map(str, arguments), "--json"])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return json.loads(shown.out)

    return call


def test_from_the_command_line(photos, facts, tmp_path):
    facts("train", photos, "--patches", 8, "--levels", 1, "--hidden-channels", 8,
          "--interlaced-channels", 8, "--images", 64, "--batch-size", 16, "--device", "cpu",
          "--out", "run")  # fmt: skip
    found = facts("evaluate", "--model", "run", "--images", 20)["evaluation"]
    rows = {row["name"] for row in found["baselines"]}
    assert {"PNG, these patches in one image", "WebP lossless, these patches in one image"} <= rows
    assert found["bytes_changed"] == 0
    others = facts("evaluate", photos / "3.png", "--model", "run", "--split", "all")
    assert others["evaluation"]["images"] == (39 // 8) * (55 // 8)
    whole = {row["name"]: row["mean"] for row in others["evaluation"]["baselines"]}
    pixels = np.asarray(Image.open(photos / "3.png"))[:32, :48]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    assert whole["PNG, the whole images"] == 8 * file.tell() / pixels.size
    back = facts("reconstruct", photos / "3.png", "--model", "run", "--out", "back")
    assert back["bytes_changed"] == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["fit"] == "patches" and config["data"]["size"] == [8, 8]


def test_squares_are_trained_on_by_small_levels(facts):
    def model(data, *flags):
        return yaml.safe_load(facts("train", data, *flags, "--print-config")["config"])

    squares = model("photos", "--patches", 32)
    assert (squares["model"]["steps"], squares["model"]["hidden_channels"]) == (1, 32)
    assert squares == {
        **model("photos", "--fit", "patches", "--size", 32, 32),
        "data": squares["data"],
    }
    chosen = model("photos", "--patches", 32, "--steps", 4, "--lr", 1e-3)
    assert (chosen["model"]["steps"], chosen["lr"]) == (4, 1e-3)
    others = (("--patches", 32, "--first-map", "whitening"), ("--patches", "None"), ("--size", 32))
    for flags in others:
        assert model("photos", *flags)["model"]["steps"] > 1
    floats = model("photos", "--patches", 32, "--bits", "None")
    assert floats["model"]["bits"] is None


def test_images_that_are_not_whole_are_no_images():
    rows, columns = np.divmod(np.arange(4), 2)
    patches = np.stack([np.repeat([0, 1, 2], 4), np.tile(rows, 3), np.tile(columns, 3)], axis=1)
    chosen = np.array([0, 1, 4, 8, 9, 10, 11])  # a row, a square, and all
    marked = marked_incomplete(patches, chosen)
    assert marked[:, 0].tolist() == [-1, -1, -2, 2, 2, 2, 2]
    images = np.arange(len(chosen) * 4, dtype=np.uint8).reshape(-1, 1, 2, 2)
    (whole,) = photographs(ImageData(images, patches=marked))
    assert whole.shape == (1, 4, 4)
    assert Grids.of(marked).rows.tolist() == [1, 1, 1, 2, 2, 2, 2]


def test_a_limit_takes_whole_images(read, tmp_path):
    (tmp_path / "photos").mkdir()
    for index in range(10):
        Image.new("RGB", (64, 64), (index, 0, 0)).save(tmp_path / "photos" / f"{index}.png")
    splits = read(tmp_path / "photos", patches=16, limit=80)
    grids = Grids.of(splits.train.patches)
    assert (grids.rows > 1).sum() >= len(splits.train) - 16
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 80


def test_a_broken_member_of_an_archive_is_skipped(photos, tmp_path, cache):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for each in sorted(photos.iterdir()):
            archive.write(each, each.name)
        start = archive.getinfo("3.png").header_offset
    content = bytearray(path.read_bytes())
    content[start + 100] ^= 255
    path.write_bytes(content)
    config = DataConfig(data=str(path), size=(SIDE, SIDE), fit="patches")
    found = open_images(config, cache=cache, progress=False)
    left = {f"{number}.png" for number in range(8)} - {"3.png"}
    assert {name.split("[")[0] for name in found.data.names} == left
    assert any("3.png" in each for each in found.skipped)
