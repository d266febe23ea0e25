"""What commands write and say: marked where it means nothing, in its place, and of any name."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glowflow import Glow, GlowConfig
from glowflow.cli import main
from glowflow.models.training_data import TrainingData
from tests.conftest import perturb

SIDE = 16


def a_model(folder, *, shape=(3, SIDE, SIDE), bits=8, classes=0, **data):
    """A model that has seen one batch, with what it knows of its data."""
    torch.manual_seed(0)
    config = GlowConfig(
        image_shape=shape, levels=1, steps=1, hidden_channels=4, bits=bits, classes=classes
    )
    model = Glow(config)
    images = torch.rand(8, *shape) - 0.5
    model.initialize(images if bits is None else (images * 255 + 128).byte())
    known = TrainingData(size=shape[1:], channels=shape[0], bits=bits)
    model.trained_on = replace(known, **data)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def said(capsys):
    """Exit code, facts and what is said on stderr."""

    def call(*arguments, code=0):
        capsys.readouterr()
        assert main([*map(str, arguments), "--device", "cpu", "--json"]) == code
        shown = capsys.readouterr()
        return json.loads(shown.out) if shown.out else {}, shown.err

    return call


@pytest.fixture
def bad_first(monkeypatch):
    """The first image that is decoded in each part is not a number, `times` times."""
    left = [1]
    original = Glow.decode

    def decode(self, latents, labels=None):
        x = original(self, latents, labels)
        if left[0]:
            left[0] -= 1
            x[0] = float("nan")
        return x

    monkeypatch.setattr(Glow, "decode", decode)
    return left


class TestSamples:
    def test_what_is_no_picture_is_crossed_out(self, tmp_path, said, bad_first):
        facts, _ = said("sample", "--model", a_model(tmp_path / "m"), "--count", 4, "--out", "s")
        assert (facts["not_finite"], facts["redrawn"]) == (1, 0)
        sheet = np.asarray(Image.open("s/grid.png").convert("L"))
        cell = sheet[: sheet.shape[0] // 2, : sheet.shape[1] // 2]
        assert set(np.unique(cell).tolist()) == {0, 255}
        assert len(np.unique(sheet)) > 10

    def test_redrawn_ones_are_counted(self, tmp_path, said, bad_first):
        bad_first[0] = 3  # the first draw and two attempts
        model = a_model(tmp_path / "m")
        facts, _ = said("sample", "--model", model, "--count", 4, "--out", "s", "--redraw")
        assert (facts["not_finite"], facts["redrawn"]) == (3, 3)
        first = np.asarray(Image.open("s/0000.png"))
        assert len(np.unique(first)) > 2

    def test_what_never_becomes_a_picture_is_a_failure(self, tmp_path, said, bad_first):
        bad_first[0] = 1_000
        model = a_model(tmp_path / "m")
        facts, _ = said("sample", "--model", model, "--count", 4, "--out", "s", "--redraw", code=1)
        assert (facts["not_finite"], facts["redrawn"]) == (21, 20)
        facts, _ = said("sample", "--model", model, "--count", 4, "--out", "t")
        assert facts["not_finite"] == 1  # and the others can be used

    def test_a_sheet_of_temperatures_is_not_redrawn(self, tmp_path, said):
        model = a_model(tmp_path / "m")
        _, error = said("sample", "--model", model, "--temperature", "0:1:0.5", "--redraw", code=2)
        assert "--redraw is for one temperature" in error
        assert not (tmp_path / "runs").exists()

    def test_the_class_is_said(self, tmp_path, capsys):
        model = a_model(tmp_path / "m", classes=2, class_names=("cat", "dog"))
        assert main(["sample", "--model", str(model), "--class", "dog", "--out", "s"]) == 0
        assert "images of class dog at temperature 0.7" in capsys.readouterr().out

    def test_what_is_no_picture_is_said(self, tmp_path, capsys, bad_first):
        model = str(a_model(tmp_path / "m"))
        given = ["sample", "--model", model, "--count", "4", "--device", "cpu", "--out"]
        assert main([*given, "s"]) == 0
        said = capsys.readouterr().out
        assert "1 of 4 were not finite and 0 far outside of the range of images" in said
        bad_first[0] = 1
        assert main([*given, "t", "--temperature", "0.5:1:0.5"]) == 0
        assert "1 of 8 were not finite" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("names", "label", "number"),
        [
            (("cat", "dog"), "dog", 1),
            (("cat", "dog"), "1", 1),
            (("1", "2", "10"), "2", 1),
            (("1", "2", "10"), "10", 2),
            ((), "1", 1),
        ],
    )
    def test_a_class_goes_by_its_name(self, tmp_path, capsys, names, label, number):
        model = a_model(tmp_path / "m", classes=len(names) or 2, class_names=names)
        perturb(Glow.from_pretrained(model), 0.05).save_pretrained(model)
        given = ["sample", "--model", str(model), "--class", label, "--count", "2", "--out", "s"]
        assert main([*given, "--device", "cpu"]) == 0
        assert f"images of class {label} at temperature 0.7" in capsys.readouterr().out
        seen = np.stack([np.asarray(Image.open(f"s/000{i}.png")) for i in range(2)])
        draws = [
            Glow.from_pretrained(model).sample(2, temperature=0.7, labels=torch.full((2,), k))
            for k in range(len(names) or 2)
        ]
        same = [np.array_equal(seen, drawn.permute(0, 2, 3, 1).numpy()) for drawn in draws]
        assert same == [k == number for k in range(len(draws))]

    @pytest.mark.parametrize(
        ("names", "label"), [(("cat", "dog"), "ant"), (("1", "2", "10"), "0"), (("cat",), "1")]
    )
    def test_an_unknown_class_is_told_the_known_ones(self, tmp_path, said, names, label):
        model = a_model(tmp_path / "m", classes=len(names), class_names=names)
        _, error = said("sample", "--model", model, "--class", label, "--out", "s", code=2)
        known = ", ".join(names)
        assert f"--class is {label}, and this model has no such class: give {known}." in error
        assert not (tmp_path / "s").exists()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_float_samples_are_one_array(self, tmp_path, said, dtype):
        model = Glow.from_pretrained(
            a_model(tmp_path / "m", bits=None, dtype="float32")
        ).to(dtype)  # fmt: skip
        model.save_pretrained(tmp_path / "n")
        said("sample", "--model", "n", "--count", 5, "--seed", 3, "--out", "s")
        array = np.load("s/samples.npy")
        again = Glow.from_pretrained("n")
        assert torch.equal(torch.from_numpy(array), again.sample(5, temperature=0.7, seed=3))
        assert {p.name for p in (tmp_path / "s").iterdir()} == {"grid.png", "samples.npy"}


class TestEdits:
    """An edit that is no picture is written, said, and no success."""

    @pytest.mark.parametrize(
        ("value", "said_of_it"),
        [(float("nan"), "1 of 1 edited images are not finite"), (50.0, "1 are far outside")],
    )
    def test_an_edit_that_is_no_picture(self, tmp_path, said, monkeypatch, value, said_of_it):
        model = a_model(tmp_path / "m", classes=2)
        picture = TestPlaces.photograph(tmp_path / "a.png", SIDE, SIDE)
        edit = ("edit", picture, "--model", model, "--class", 0, "--to-class", 1)
        facts, _ = said(*edit, "--out", "good")
        assert facts["concern"] == ""
        original = Glow.decode

        def decode(self, latents, labels=None):
            x = original(self, latents, labels)
            x[0, 0, 0, 0] = value
            return x

        monkeypatch.setattr(Glow, "decode", decode)
        facts, _ = said(*edit, "--out", "bad", code=1)
        assert said_of_it in facts["concern"]
        assert (tmp_path / "bad" / "edited.png").is_file()


class TestPlaces:
    """A change is put back where it was taken from."""

    @staticmethod
    def photograph(path, height, width):
        x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
        pixels = np.stack([x, y, 255 - x], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    @pytest.mark.parametrize("flags", [(), ("--crop", "center")])
    @pytest.mark.parametrize(
        ("size", "data", "place"),
        [
            ((218, 178), {"aligned": True}, (15, 40, 148)),
            ((218, 178), {}, (0, 20, 178)),
            ((100, 60), {"aligned": True}, (0, 20, 60)),
        ],
    )
    def test_the_middle_is_what_the_model_sees(self, tmp_path, flags, size, data, place):
        from glowflow.cli.options import PhotoOptions
        from glowflow.cli.photos import read_photos

        model = Glow.from_pretrained(a_model(tmp_path / "m", **data))
        path = self.photograph(tmp_path / "a.png", *size)
        options = PhotoOptions(paste=True, crop=flags[1] if flags else None)
        (photo,) = read_photos((path,), model, options)
        left, top, side = place
        assert photo.crop.origin == (left, top) and photo.crop.size == (side, side)
        assert np.array_equal(photo.seen, model.prepare(path)[0].numpy())
        white = np.full_like(photo.seen, 255)
        changed = (photo.pasted(white * 0, white) != photo.original).any(0)
        rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
        for found, start in ((rows, top), (columns, left)):
            assert start <= found[0] < start + 8 and start + side - 8 <= found[-1] < start + side

    def test_patches_are_put_back_pixel_by_pixel(self, tmp_path):
        from glowflow.cli.options import PhotoOptions
        from glowflow.cli.photos import read_photos

        model = Glow.from_pretrained(a_model(tmp_path / "m", fit="patches"))
        path = self.photograph(tmp_path / "a.png", 51, 70)
        (photo,) = read_photos((path,), model, PhotoOptions(paste=True))
        assert photo.crop.origin == (27, 17)
        assert np.array_equal(photo.seen, photo.original[:, 17:33, 27:43])
        after = photo.pasted(photo.seen, 255 - photo.seen)
        assert np.array_equal(after[:, 21:29, 31:39], 255 - photo.original[:, 21:29, 31:39])

    @pytest.mark.parametrize(
        "flags", [(), ("--crop", "4,4,20"), ("--crop", "center"), ("--paste",)]
    )
    def test_the_range_of_deep_pixels_is_the_model_s(self, tmp_path, said, flags):
        model = a_model(tmp_path / "m", shape=(1, SIDE, SIDE), source_range=(0.0, 4095.0))
        Image.fromarray(np.full((30, 30), 4095, np.uint16)).save("deep.png")
        said("reconstruct", "deep.png", "--model", model, "--out", "back", *flags)
        assert (np.asarray(Image.open("back/deep.png").convert("L")) == 255).all()

    def test_a_model_that_enlarges_does_so_by_hand_too(self, tmp_path, said):
        self.photograph(tmp_path / "small.png", 10, 10)
        strict, ready = a_model(tmp_path / "m"), a_model(tmp_path / "n", upscale=True)
        _, error = said("reconstruct", "small.png", "--model", strict, "--crop", "0,0,10", code=2)
        assert "add --upscale" in error
        said("reconstruct", "small.png", "--model", ready, "--crop", "0,0,10", "--out", "b")
        assert Image.open("b/small.png").size == (SIDE, SIDE)


class TestNumbers:
    """What is not finite is counted by every command that decodes."""

    @pytest.mark.parametrize(
        ("given", "what"),
        [
            (("reconstruct", "a.png"), "1 of 1 reconstructions are not finite"),
            (("interpolate", "a.png", "a.png", "--steps", "3"), "of 3 images between the two are"),
            (("edit", "a.png", "--resample-level", "1", "--count", "2"), "of 2 edited images are"),
        ],
    )
    def test_a_decoded_image_that_is_none(self, tmp_path, capsys, bad_first, given, what):
        TestPlaces.photograph(tmp_path / "a.png", SIDE, SIDE)
        main([*given, "--model", str(a_model(tmp_path / "m")), "--device", "cpu", "--out", "o"])
        shown = capsys.readouterr()
        assert what in shown.out + shown.err
        assert "not finite" in shown.out + shown.err


class TestNames:
    def test_results_never_fall_on_one_another(self, tmp_path, said):
        for index, place in enumerate(("a/0001.png", "b/0001.png", "grid.png")):
            path = tmp_path / place
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (SIDE, SIDE), (80 * index, 9, 9)).save(path)
        given = ["a/0001.png", "b/0001.png", "grid.png"]
        facts, _ = said("reconstruct", *given, "--model", a_model(tmp_path / "m"), "--out", "r")
        assert facts["files"] == ["0000-0001.png", "0001-0001.png", "0002-grid.png"]
        for place, file in zip(given, facts["files"], strict=True):
            assert (np.asarray(Image.open(f"r/{file}")) == np.asarray(Image.open(place))).all()
        assert Image.open("r/grid.png").size != (SIDE, SIDE)

    def test_a_name_that_is_not_utf8_is_shown_escaped(self, tmp_path, capsys):
        folder = tmp_path / os.fsdecode(b"d\xfcr")
        folder.mkdir()
        photo = folder / os.fsdecode(b"M\xfcller.png")
        TestPlaces.photograph(tmp_path / "a.png", SIDE, SIDE).rename(photo)
        TestPlaces.photograph(tmp_path / "b.png", SIDE, SIDE)
        given = ["--model", str(a_model(tmp_path / "m")), "--device", "cpu", "--out"]
        assert main(["reconstruct", str(photo), *given, "r"]) == 0
        assert {path.name for path in Path("r").iterdir()} == {
            "grid.png", "M_udcfcller.png"
        }  # fmt: skip
        capsys.readouterr()
        scored = ["score", str(folder), *given, "s", "--calibration-data", "b.png"]
        assert main([*scored, "--upscale"]) == 0
        assert "the strangest is M\\udcfcller.png" in capsys.readouterr().out
        assert Path("s/scores.csv").read_text(encoding="utf-8").count("M\\udcfcller.png,") == 1

    def test_results_are_no_data(self, tmp_path, said):
        for index in range(5):
            path = tmp_path / "photos" / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (SIDE, SIDE), (40 * index, 9, 9)).save(path)
        model, photo = a_model(tmp_path / "m"), "photos/0.png"
        for name, given in {
            "r": ("reconstruct", photo), "i": ("interpolate", photo, photo, "--steps", "2"),
            "s": ("sample", "--count", 1), "t": ("sample", "--count", 1, "--temperature", "0:1:1"),
            "e": ("edit", photo, "--resample-level", 1, "--count", 1),
        }.items():  # fmt: skip
            said(*given, "--model", model, "--out", f"photos/{name}")
        said("data", "info", "photos", "--size", 16, 16, "--sheet", "--out", "photos/d")
        facts, _ = said("data", "info", "photos", "--size", 16, 16)
        assert sum(facts["splits"].values()) == 5
        assert facts["classes"] == [] and facts["left_out"] == [
            {"reason": "written by this package, not data", "files": 6, "example": "d/"}
        ]  # fmt: skip


REFUSED_BY_COMMANDS = (
    ("train", "{}"),
    ("evaluate", "--model", "{}"),
    ("sample", "--model", "{m}", "--temperature", "{}"),
    ("sample", "--model", "{m}", "--class", "{}"),
    ("reconstruct", "a.png", "--model", "{m}", "--crop", "{}"),
    ("score", "{}", "--model", "{m}"),
    ("{}",),
)
REFUSED_BY_THE_PARSER = (
    ("plan", "{}"),
    ("study", "{}"),
    ("edit", "a.png", "--model", "{m}", "--resample-level", "{}"),
    ("edit", "{}.png", "--model", "{m}", "--resample-level", "1"),
)


class TestLongWords:
    @pytest.mark.parametrize(
        ("length", "arguments"),
        [
            *((400, given) for given in REFUSED_BY_COMMANDS),
            *((5_000, given) for given in (*REFUSED_BY_COMMANDS, *REFUSED_BY_THE_PARSER)),
        ],
        ids=lambda value: str(value) if isinstance(value, int) else " ".join(value),
    )
    def test_a_refusal_is_short(self, tmp_path, capsys, arguments, length):
        TestPlaces.photograph(tmp_path / "a.png", 20, 20)
        model = str(a_model(tmp_path / "m"))
        long = "x" * length
        given = [a.replace("{m}", model).replace("{}", long) for a in arguments]
        assert main(given) == 2
        error = capsys.readouterr().err
        assert 0 < len(error) < 600, error[:300]
        assert "Traceback" not in error

    def test_a_name_of_300_characters(self, tmp_path, said):
        folder = tmp_path
        for _ in range(3):
            folder = folder / ("d" * 120)
        folder.mkdir(parents=True)
        path = TestPlaces.photograph(folder / f"{'é' * 100}.png", 20, 20)
        facts, _ = said("reconstruct", path, "--model", a_model(tmp_path / "m"), "--out", "back")
        assert facts["bytes_changed"] == 0
        assert len([p for p in (tmp_path / "back").iterdir() if p.suffix == ".png"]) == 2


MARKUP = "[bold]x[/bold]"


class TestMarkup:
    """What looks like markup of the terminal is a name like any other."""

    @pytest.fixture
    def faces(self, tmp_path):
        folder = tmp_path / "[red]faces"
        (folder / "img_align_celeba").mkdir(parents=True)
        names = [f"{i}.png" for i in range(24)]
        for i, name in enumerate(names):
            path = folder / "img_align_celeba" / name
            Image.fromarray(np.full((SIDE, SIDE, 3), 9 * i, np.uint8)).save(path)
        rows = [f"{name} {1 if i % 2 else -1} {1 if i else -1}" for i, name in enumerate(names)]
        lines = [str(len(names)), f"{MARKUP} [dim]rare", *rows]
        (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
        parts = [f"{name} {0 if i < 20 else 1 + i % 2}" for i, name in enumerate(names)]
        (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
        return folder

    def test_of_attributes_and_folders(self, tmp_path, faces, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "250")
        assert main(["data", "info", str(faces), "--size", str(SIDE), str(SIDE)]) == 0
        shown = capsys.readouterr()
        assert MARKUP in shown.err and "[dim]rare" in shown.err
        assert "[red]faces" in shown.out + shown.err
        model = str(a_model(tmp_path / "m"))
        assert main(["directions", str(faces), "--model", model, "--minimum", "3"]) == 0
        shown = capsys.readouterr()
        assert MARKUP in shown.err and "[dim]rare" in shown.err
        assert "1 directions (mean) from 20 images (1 attributes refused)" in shown.out

    def test_what_was_not_asked_for_stops_nothing(self, tmp_path, faces, said):
        model = a_model(tmp_path / "m")
        find = ("directions", faces, "--model", model, "--minimum", 3)
        facts, _ = said(*find, "--attributes", MARKUP, "--out", "one.safetensors")
        assert list(facts["counts"]) == [MARKUP] and facts["refused"] == {}
        _, error = said(*find, "--attributes", "[dim]rare", "--out", "two.safetensors", code=2)
        assert "[dim]rare is true of 19" in error
        said(*find, "--out", "all.safetensors")
        picture = TestPlaces.photograph(tmp_path / "a.png", SIDE, SIDE)
        edit = ("edit", picture, "--model", model, "--directions", "all.safetensors")
        facts, _ = said(*edit, "--attribute", MARKUP, "--amount", 0.5, "--out", "e")
        assert facts["amounts"] == {MARKUP: 0.5}
        facts, _ = said(*edit, "--all", "--amounts=0:1:1", "--out", "sheet")
        assert facts["rows"] == [MARKUP]
