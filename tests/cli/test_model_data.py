"""New images for a model: read as its training images were, whole, in order, by its classes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from glowflow import DataConfig, Glow, GlowConfig, InputError
from glowflow.cli import main
from glowflow.cli.model_data import choose, load_model_for
from glowflow.data import inputs
from glowflow.data.open import open_images, open_splits
from glowflow.data.record import SplitRecord
from glowflow.models import flow
from glowflow.models.training_data import TrainingData
from glowflow.photos.images import read_image
from glowflow.training.as_yaml import to_yaml
from glowflow.training.config import TrainConfig
from glowflow.training.initialisation import training_data

from ..conftest import perturb

PX = 8


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")


def pictures(folder, count, seed=0, size=(PX, PX), colour=None):
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for index in range(count):
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        if colour is not None:
            pixels = (0.1 * pixels + 0.9 * np.array(colour)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


def a_run(folder, config=None, *, classes=0, trained_on=True, record=True):
    """A run's folder, with a model that has seen nothing but its first batch."""
    config = config or DataConfig(data="photos", size=(PX, PX))
    splits = open_splits(config, progress=False)
    shape = splits.train.image_shape
    model = Glow(
        GlowConfig(levels=2, steps=1, hidden_channels=8, image_shape=shape, classes=classes)
    )
    model.initialize(torch.from_numpy(splits.train.images[:16].copy()))
    perturb(model, 0.02).eval()
    settings = TrainConfig(data=config, conditional=bool(classes))
    if trained_on:
        model.trained_on = training_data(settings, splits)
    model.save_pretrained(folder)
    (folder / "train.yaml").write_text(to_yaml(settings))
    if record:
        SplitRecord.of(splits).save(folder)
    return splits


def facts_of(capsys, *arguments):
    capsys.readouterr()
    code = main([*map(str, arguments), "--json"])
    done = capsys.readouterr()
    assert code == 0, done.err
    return json.loads(done.out), done.err


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_new_images_are_fitted_as_the_training_images(tmp_path, capsys, fit):
    pictures(tmp_path / "photos", 30, size=(PX, 2 * PX))
    pictures(tmp_path / "new", 4, seed=1, size=(PX, 2 * PX))
    a_run(tmp_path / "run", DataConfig(data="photos", size=(PX, PX), fit=fit))
    model = load_model_for("run", "cpu")
    assert model.trained_on is not None
    assert model.trained_on.fit == fit
    paths = sorted((tmp_path / "new").iterdir())
    seen = model.prepare(paths)
    chosen = choose(model, "run", "new", progress=False)
    assert (torch.from_numpy(chosen.data.images.copy()) == seen).all()
    as_trained = open_splits(DataConfig(data="new", size=(PX, PX), fit=fit), progress=False)
    rows = {name: image for part in ("train", "valid", "test")
            for name, image in zip(getattr(as_trained, part).names,
                                   getattr(as_trained, part).images, strict=True)}  # fmt: skip
    pairs = zip(paths, seen, strict=True)
    assert all((rows[path.name] == image.numpy()).all() for path, image in pairs)
    facts, said = facts_of(capsys, "evaluate", "new", "--model", "run")
    assert facts["evaluation"]["images"] == 4
    assert facts["evaluation"]["what"] == "new images"
    assert said == ""


@pytest.fixture
def seen(monkeypatch):
    """The bytes of every image that becomes floats for a model."""
    images = set()
    for module in (flow, inputs):

        def recording(some, *given, original=module.dequantize, **options):
            images.update(image.numpy().tobytes() for image in some)
            return original(some, *given, **options)

        monkeypatch.setattr(module, "dequantize", recording)
    return images


def faces(folder, count):
    """Wide pictures with attributes, in CelebA's layout."""
    pictures(folder / "img_align_celeba", count, seed=1, size=(PX, 2 * PX))
    names = [f"{index:03d}.png" for index in range(count)]
    rows = [f"{name} {(-1) ** index} {1 - index % 4}" for index, name in enumerate(names)]
    rows = [row.replace(" 0", " -1").replace(" -2", " -1") for row in rows]
    parts = [f"{name} {max(0, index - count + 3)}" for index, name in enumerate(names)]
    head = f"{count}\nSmiling Young\n"
    (folder / "list_attr_celeba.txt").write_text(head + "\n".join(rows) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return folder


A, B = (f"new/img_align_celeba/00{index}.png" for index in (0, 1))
TAKE_IMAGES = {
    "evaluate": ("--data", "new"),
    "score": ("--data", "new", "--calibration-data", "new"),
    "directions": ("--data", "new", "--minimum", "2"),
    "pca": ("--data", "new", "--components", "1", "--shown", "1", "--minimum", "1"),
    "study bits": ("--data", "new", "--draws", "1"),
    "reconstruct": (A, B),
    "edit": (A, "--resample-level", "1", "--count", "1"),
    "interpolate": (A, B, "--steps", "2"),
}


@pytest.mark.parametrize("command", TAKE_IMAGES)
@pytest.mark.parametrize(("fit", "channels"), [("pad", 3), ("stretch", 1)])
def test_every_command_sees_images_as_in_training(tmp_path, capsys, seen, command, fit, channels):
    pictures(tmp_path / "photos", 20, size=(PX, 2 * PX))
    faces(tmp_path / "new", 16)
    config = DataConfig(data="photos", size=(PX, PX), fit=fit, channels=channels)
    a_run(tmp_path / "run", config)
    seen.clear()
    facts_of(capsys, *command.split(), *TAKE_IMAGES[command], "--model", "run")

    def read(fit):
        images = open_images(replace(config, data="new", fit=fit), progress=False).data.images
        return {image.tobytes() for image in images}

    assert seen and seen <= read(fit)
    assert not seen & read("crop")


def test_another_fit_is_said_aloud(tmp_path, capsys, seen):
    pictures(tmp_path / "photos", 30, size=(PX, 2 * PX))
    a_run(tmp_path / "run", DataConfig(data="photos", size=(PX, PX), fit="pad"))
    photo = tmp_path / "photos" / "000.png"
    for command in ("evaluate", "reconstruct"):
        seen.clear()
        _, said = facts_of(capsys, command, photo, "--model", "run", "--fit", "stretch")
        assert "read with --fit stretch; " in said and "was trained with pad" in said
        assert seen == {read_image(photo, (3, PX, PX), fit="stretch").tobytes()}


def test_a_model_of_the_first_version_takes_the_fit_of_its_run(tmp_path, capsys):
    pictures(tmp_path / "photos", 30, size=(PX, 2 * PX))
    config = DataConfig(data="photos", size=(PX, PX), fit="stretch")
    a_run(tmp_path / "run", config, trained_on=False, record=False)
    assert "data" not in json.loads((tmp_path / "run" / "config.json").read_text())
    assert load_model_for("run", "cpu").trained_on.fit == "stretch"
    _, said = facts_of(capsys, "evaluate", "--model", "run")
    assert "keeps no list of them" in said
    (tmp_path / "run" / "train.yaml").unlink()
    _, said = facts_of(capsys, "evaluate", "photos", "--model", "run")
    assert "does not say how its training images became" in said


def test_what_was_trained_on_is_never_held_out(tmp_path, capsys):
    photos = pictures(tmp_path / "photos", 60)
    splits = a_run(tmp_path / "run")
    facts, said = facts_of(capsys, "evaluate", "--model", "run")
    assert (facts["evaluation"]["images"], said) == (len(splits.test), "")
    for number, name in enumerate(splits.train.names):
        (photos / name).rename(photos / f"renamed{number}.png")
    moved = open_splits(DataConfig(data="photos", size=(PX, PX)), progress=False)
    renamed = sum(name.startswith("renamed") for name in moved.test.names)
    assert renamed
    facts, said = facts_of(capsys, "evaluate", "--model", "run")
    assert facts["evaluation"]["images"] == len(moved.test) - renamed
    assert "left out: the model was trained on them" in said
    assert f"{len(splits.train)} images were added since the run started" in said
    facts, said = facts_of(capsys, "evaluate", "--model", "run", "--split", "train")
    assert facts["evaluation"]["what"] == "training images"
    pictures(tmp_path / "new", 3, seed=5)
    (tmp_path / "new" / "copy.png").write_bytes((photos / "renamed0.png").read_bytes())
    facts, said = facts_of(capsys, "evaluate", "new", "--model", "run")
    assert "1 of the 4 images are among those that the model was trained on" in said
    assert facts["evaluation"]["what"] == "images"


def test_best_knows_its_run(tmp_path, capsys):
    pictures(tmp_path / "photos", 40)
    splits = a_run(tmp_path / "run")
    load_model_for("run", "cpu").save_pretrained(tmp_path / "run" / "best")
    facts, said = facts_of(capsys, "evaluate", "--model", "run/best")
    assert (facts["evaluation"]["images"], said) == (len(splits.test), "")


def test_new_data_are_used_whole_and_in_their_order(tmp_path, capsys):
    pictures(tmp_path / "photos", 40)
    a_run(tmp_path / "run")
    model = load_model_for("run", "cpu")
    frames = np.random.default_rng(3).integers(0, 256, (25, PX, PX, 3), dtype=np.uint8)
    np.save("frames.npy", frames)
    chosen = choose(model, "run", "frames.npy", progress=False)
    assert chosen.data.names == tuple(map(str, range(25)))
    assert (chosen.data.images == frames.transpose(0, 3, 1, 2)).all()
    np.save("one.npy", frames[:1])
    assert facts_of(capsys, "evaluate", "one.npy", "--model", "run")[0]["evaluation"]["images"] == 1
    pictures(tmp_path / "only" / "test", 5, seed=4)
    assert facts_of(capsys, "evaluate", "only", "--model", "run")[0]["evaluation"]["images"] == 5
    facts, said = facts_of(capsys, "evaluate", "frames.npy", "--model", "run", "--split", "valid")
    assert facts["evaluation"]["images"] == 25
    assert "has no split of its own: all of it is used" in said


def test_a_part_of_new_data_with_a_split_of_their_own(tmp_path, capsys):
    pictures(tmp_path / "photos", 40)
    a_run(tmp_path / "run")
    for part, count in (("train", 7), ("val", 3), ("test", 4)):
        pictures(tmp_path / "published" / part, count, seed=count)
    counts = {}
    for part in (None, "train", "valid", "all"):
        more = () if part is None else ("--split", part)
        facts, _ = facts_of(capsys, "evaluate", "published", "--model", "run", *more)
        counts[part] = facts["evaluation"]["images"]
    assert counts == {None: 4, "train": 7, "valid": 3, "all": 14}


COLOURS = {"ant": (128, 128, 128), "cat": (220, 40, 40), "dog": (40, 220, 40), "fox": (40, 40, 220)}


def test_classes_go_by_their_names(tmp_path, capsys):
    for name in ("cat", "dog", "fox"):
        pictures(tmp_path / "photos" / name, 12, colour=COLOURS[name])
    for name in ("dog", "fox"):
        pictures(tmp_path / "missing" / name, 4, seed=9, colour=COLOURS[name])
    a_run(tmp_path / "run", classes=3)
    model = load_model_for("run", "cpu")
    data = choose(model, "run", "missing", progress=False).data
    assert data.labels.tolist() == [1] * 4 + [2] * 4
    assert data.class_names == ("cat", "dog", "fox")
    pictures(tmp_path / "missing" / "ant", 4, seed=9)
    with pytest.raises(InputError, match=r"a class 'ant', which the model does not know.*cat, dog"):
        choose(model, "run", "missing", progress=False)
    model.trained_on = replace(model.trained_on, class_names=())
    assert choose(model, "run", "missing", progress=False).data.class_names == ("ant", "dog", "fox")


def test_scores_of_few_images_read_few(tmp_path, capsys):
    pictures(tmp_path / "photos", 40)
    a_run(tmp_path / "run")
    model = load_model_for("run", "cpu")
    np.save("many.npy", np.zeros((500, PX, PX, 3), np.uint8))
    chosen = choose(model, "run", "many.npy", limit=10, progress=False)
    assert len(chosen.data) == 10
    assert chosen.data.names[0] == "0"
    assert chosen.data.names[-1] == "499"


@pytest.mark.parametrize("command", ["evaluate", "reconstruct"])
def test_the_range_of_deep_pixels_is_that_of_the_training_images(tmp_path, capsys, seen, command):
    for index in range(10):
        path = tmp_path / "photos" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((PX, PX), 400 * index, np.uint16)).save(path)
    deep = {"source_range": (0, 4095), "channels": 1}
    a_run(tmp_path / "run", DataConfig(data="photos", size=(PX, PX), **deep))
    Image.fromarray(np.full((PX, PX), 4095, np.uint16)).save("new.png")
    seen.clear()
    facts_of(capsys, command, "new.png", "--model", "run")
    assert seen == {bytes([255] * PX * PX)}


def test_of_two_new_images_the_broken_one_is_named(tmp_path, capsys):
    pictures(tmp_path / "photos", 40)
    a_run(tmp_path / "run")
    pictures(tmp_path / "two", 2, seed=6)
    (tmp_path / "two" / "000.png").write_bytes(b"broken")
    evaluated, _ = facts_of(capsys, "evaluate", "two", "--model", "run")
    scored, _ = facts_of(capsys, "score", "two", "--model", "run", "--out", "s")
    assert evaluated["evaluation"]["images"] == scored["images"] == 1
    for facts in (evaluated, scored):
        assert [line.split(":")[0] for line in facts["skipped"]] == ["000.png"]


@pytest.mark.parametrize("command", ["evaluate", "score", "directions", "pca", "study bits"])
def test_where_the_images_of_a_run_were_is_said(tmp_path, capsys, command):
    photos = pictures(tmp_path / "photos", 20)
    a_run(tmp_path / "run")
    photos.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main([*command.split(), "--model", "run"]) == 2
    lines = (tmp_path / "run" / "train.yaml").read_text().splitlines()
    number = lines.index("  data: photos") + 1
    named = f"no folder or file photos, which line {number} of run/train.yaml (data: photos) names"
    said = capsys.readouterr().err
    assert named in said and "--data" in said


def test_no_data_and_no_run(tmp_path):
    model = Glow(GlowConfig(levels=1, steps=1, hidden_channels=4, image_shape=(3, PX, PX)))
    model.trained_on = TrainingData(fit="pad")
    model.save_pretrained("model")
    with pytest.raises(InputError, match="does not say what to read: give --data"):
        choose(load_model_for("model", "cpu"), "model", None)
