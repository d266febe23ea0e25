"""Runs from the command line: what is refused, and what stays as it was."""

import io
import json
import shutil
from contextlib import redirect_stderr
from html import unescape

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from glowflow import Architecture, Glow, InputError
from glowflow.cli import main
from glowflow.data.open import open_splits
from glowflow.data.record import SplitRecord
from glowflow.data.types import TEST, TRAIN
from glowflow.files import LOCK, in_use
from glowflow.launcher import require_whole_launch
from glowflow.training import start as starting
from glowflow.training.config import TrainConfig, read_run_config
from glowflow.training.loop import train

from .test_model_data import pictures

pytestmark = pytest.mark.usefixtures("unseen_plots")
TINY = ["--size", "8", "8", "--levels", "2", "--steps", "1", "--hidden-channels", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps on twenty images, and the folder that holds both."""
    work = tmp_path_factory.mktemp("runs")
    pictures(work / "photos", 20)
    given = [str(work / "photos"), *TINY, "--batch_size", "4", "--images", "8"]
    assert main(["train", *given, "--out", str(work / "run"), "--device", "cpu", "--json"]) == 0
    return work


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained / "run", tmp_path / "run")


@pytest.fixture
def own_data(trained, folder):
    """The run's images as a copy of its own, which the run names."""
    photos = shutil.copytree(trained / "photos", folder.parent / "photos")
    path = folder / "train.yaml"
    config = yaml.safe_load(path.read_text())
    config["data"]["data"] = str(photos)
    path.write_text(yaml.safe_dump(config))
    return photos


def history(folder):
    return [json.loads(line) for line in (folder / "resumed.jsonl").read_text().splitlines()]


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def resume(capsys, folder, *flags):
    capsys.readouterr()
    code = main(["train", "--resume", str(folder), "--device", "cpu", *flags])
    return code, capsys.readouterr()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--size", "16", "16"], "--size 8 8"),
        (["--bits", "5"], "--bits 8"),
        (["--coupling-scale", "exp"], "--coupling-scale bounded"),
        (["--seed", "1"], "--seed 0"),
    ],
)
def test_what_would_change_the_model_leaves_every_byte(folder, capsys, flags, named):
    before = contents(folder)
    code, said = resume(capsys, folder, *flags, "--images", "16")
    assert code == 2
    assert f"has {named}, and" in said.err
    assert contents(folder) == before


def test_a_finished_run_has_nothing_to_do(folder, capsys):
    before = contents(folder)
    code, said = resume(capsys, folder)
    assert code == 0
    assert "Nothing to do" in said.out
    assert contents(folder) == before


def test_a_run_in_use_is_refused(folder, capsys):
    with in_use(folder) as lock:
        lock()
        before = contents(folder)
        code, said = resume(capsys, folder, "--images", "16")
        assert contents(folder) == before
    assert code == 2
    assert "is in use by process" in said.err
    assert not (folder / LOCK).exists()


def test_the_lock_of_a_dead_process_keeps_nobody_out(folder, capsys):
    (folder / LOCK).write_text("process 999999999 on elsewhere")
    code, said = resume(capsys, folder, "--images", "16")
    assert code == 0, said.err
    assert not (folder / LOCK).exists()


def test_what_may_change_is_recorded(folder, capsys):
    flags = ["--images", "24", "--lr", "0.001", "--evaluation-images", "1"]
    code, said = resume(capsys, folder, *flags)
    assert code == 0, said.err
    (line,) = history(folder)
    assert line["changes"] == {
        "images": [8, 24], "lr": [0.005, 0.001], "evaluation_images": [500, 1]
    }  # fmt: skip
    assert (line["step"], line["images"]) == (2, 8)
    config = read_run_config(folder)
    assert (config.images, config.lr, config.evaluation_images) == (24, 0.001, 1)
    assert json.loads((folder / "evaluation.json").read_text())["images"] == 1
    assert resume(capsys, folder)[1].out.startswith("Nothing to do")
    assert len(history(folder)) == 1


def test_another_batch_goes_on_from_the_images_that_were_seen(folder, capsys):
    flags = ["--images", "24", "--batch-size", "8", "--log-every", "1"]
    code, said = resume(capsys, folder, *flags)
    assert code == 0, said.err
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(m["step"], m["images"]) for m in lines if "lr" in m][-2:] == [(3, 16), (4, 24)]
    assert "after 24 training images" in said.out
    assert read_run_config(folder).batch_size == 8
    assert history(folder)[0]["changes"]["batch_size"] == [4, 8]


def test_the_model_says_what_was_done_to_its_images(trained, tmp_path):
    model = Glow.from_pretrained(trained / "run")
    splits = open_splits(read_run_config(trained / "run").data, progress=False)
    parts = (splits.train, splits.valid, splits.test)
    pixels = np.concatenate([data.images for data in parts])
    wanted = {
        "source": str(trained / "photos"), "layout": "folder", "size": [8, 8], "channels": 3,
        "fit": "crop", "dtype": "uint8", "bits": 8, "value_range": [pixels.min(), pixels.max()],
        "split": "hash", "held_out": 0.1, "images": [len(data) for data in parts],
        "checksum": splits.checksum, "class_names": [],
    }  # fmt: skip
    model.save_pretrained(tmp_path / "again")
    for place in (trained / "run", trained / "run" / "best", tmp_path / "again"):
        section = json.loads((place / "config.json").read_text())["data"]
        assert {name: section[name] for name in wanted} == wanted


@pytest.fixture(scope="module")
def unsound(tmp_path_factory):
    """A run on labels of any numbers, whose model decodes the first image of a batch to NaN."""
    work = tmp_path_factory.mktemp("unsound")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.savez(work / "gaps.npz", images=pixels, labels=np.array([0, 127, 255, 127] * 10))
    given = [str(work / "gaps.npz"), "--conditional", *TINY[3:], "--batch-size", "4", "--images",
             "8", "--out", str(work / "run"), "--device", "cpu"]  # fmt: skip
    original, said = Glow.decode, io.StringIO()

    def decode(self, latents, labels=None):
        x = original(self, latents, labels)
        x[0] = float("nan")
        return x

    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said):
        patch.setattr(Glow, "decode", decode)
        assert main(["train", *given]) == 1  # the bytes do not come back
    return work / "run", said.getvalue()


def test_samples_that_are_none_are_said_by_the_run(unsound):
    run, said = unsound
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [m["samples_not_finite"] for m in lines if "samples" in m] == [1, 1]
    assert "Warning: Of 64 samples at temperature 1, 1 are not finite" in said
    page = unescape((run / "report.html").read_text(encoding="utf-8"))
    assert "1 of the samples are not finite or far outside of the range of images" in page


def test_labels_are_the_names_of_the_classes(unsound, tmp_path, capsys):
    run, _ = unsound
    model = Glow.from_pretrained(run)
    assert model.config.classes == 3
    assert model.trained_on.class_names == ("0", "127", "255")
    given = ["sample", "--model", str(run), "--count", "1", "--out", str(tmp_path / "s")]
    assert main([*given, "--class", "1"]) == 2
    assert "no such class: give 0, 127, 255" in capsys.readouterr().err
    assert main([*given, "--class", "127"]) == 0
    wanted = model.sample(1, temperature=0.7, labels=torch.tensor([1]))[0].permute(1, 2, 0)
    assert (np.asarray(Image.open(tmp_path / "s" / "0000.png")) == wanted.numpy()).all()


def test_images_that_changed_are_counted_and_asked_for(folder, own_data, capsys):
    first, second, *_ = sorted(own_data.iterdir())
    first.unlink()
    shutil.copy(second, own_data / "more.png")
    shutil.copy(sorted(own_data.iterdir())[5], second)
    before = contents(folder)
    code, said = resume(capsys, folder, "--images", "16")
    assert code == 2 and "--data-changed ok" in said.err
    assert "1 images were added since the run started, 1 removed and 1 changed" in said.err
    assert contents(folder) == before
    record = SplitRecord.load(folder)
    code, said = resume(capsys, folder, "--images", "16", "--data-changed", "ok")
    assert code == 0, said.err
    assert history(folder)[0]["data"] == {"added": 1, "removed": 1, "changed": 1}
    assert set(record.names.tolist()) < set(SplitRecord.load(folder).names.tolist())


def test_images_that_moved(folder, own_data, capsys):
    elsewhere = own_data.rename(own_data.parent / "elsewhere")
    code, said = resume(capsys, folder, "--images", "16")
    assert code == 2
    assert "train.yaml (data: " in said.err and "--data" in said.err
    code, said = resume(capsys, folder, "--images", "16", "--data", str(elsewhere))
    assert code == 0, said.err
    assert history(folder)[0]["changes"]["data.data"][1] == str(elsewhere)
    assert resume(capsys, folder, "--images", "24")[0] == 0  # it is known from now on


def test_a_configuration_of_before_the_split_by_names(folder, own_data, capsys):
    path = folder / "train.yaml"
    config = yaml.safe_load(path.read_text())
    del config["data"]["split_by"], config["evaluation_images"]
    path.write_text(yaml.safe_dump(config))
    assert read_run_config(folder).data.split_by == "shuffle"
    record = SplitRecord.load(folder)
    code, said = resume(capsys, folder, "--images", "16")
    assert code == 0, said.err
    after = SplitRecord.load(folder)
    assert (after.names == record.names).all() and (after.parts == record.parts).all()


def test_damaged_figures_are_named_before_anything_is_written(folder, capsys):
    (folder / "metrics.jsonl").write_text('{"step": 1}\nno figures\n{"step": 2}\n')
    before = contents(folder)
    code, said = resume(capsys, folder, "--images", "16", "--lr", "0.001")
    assert code == 2 and "metrics.jsonl" in said.err
    assert contents(folder) == before


@pytest.mark.parametrize(
    "odd",
    [b"", b"PK\x03\x04 half", {"step": 1}, {"step": "one"}, [1, 2], torch.zeros(3), "a folder"],
    ids=str,
)
def test_a_damaged_checkpoint_is_one_sentence(folder, capsys, odd):
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    if odd == {"step": "one"}:
        odd = {**torch.load(newest, weights_only=True), **odd}
    newest.unlink()
    if isinstance(odd, str):
        newest.mkdir()
    elif isinstance(odd, bytes):
        newest.write_bytes(odd)
    else:
        torch.save(odd, newest)
    code, said = resume(capsys, folder, "--images", "16")
    assert code == 2 and f"Cannot read {newest}" in said.err.replace("\n", " ")


class Interrupted:
    def __call__(self, *_):
        raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["initialize", "write_run_config"])
def test_nothing_is_left_of_a_run_that_did_not_begin(trained, tmp_path, monkeypatch, when, capsys):
    given = ["train", str(trained / "photos"), *TINY, "--batch-size", "4", "--images", "8"]
    given += ["--device", "cpu", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(starting, when, Interrupted())
        assert main(given) == 130
    assert not (tmp_path / "run").exists()
    assert main(given) == 0, capsys.readouterr().err


def test_weights_data_and_first_map_are_taken_from_a_model(trained, tmp_path, capsys):
    pictures(tmp_path / "new", 30, seed=5, size=(10, 10))
    start, run = str(trained / "run"), tmp_path / "tuned"
    given = [str(tmp_path / "new"), "--from", start, "--images", "8", "--batch-size", "4",
             "--lr", "1e-9", "--device", "cpu", "--out", str(run)]  # fmt: skip
    assert main(["train", *given]) == 0, capsys.readouterr().err
    model, tuned = Glow.from_pretrained(start), Glow.from_pretrained(run)
    assert tuned.config == model.config and tuned.config.first_map != "none"
    for name, value in model.state_dict().items():
        assert torch.allclose(tuned.state_dict()[name], value, atol=1e-6), name
    assert tuned.trained_on.size == (8, 8)
    assert read_run_config(run).started_from == start


@pytest.mark.parametrize("first_map", ["marginals", "interlaced", "whitening", "none"])
def test_a_run_from_a_model_has_its_first_map(first_map, trained, tmp_path):
    config = read_run_config(trained / "run")
    splits = open_splits(config.data, progress=False)
    small = {"levels": 2, "steps": 1, "hidden_channels": 4, "coupling_scale": "bounded"}
    options = {"data": config.data, "batch_size": 4, "images": 4}
    first = TrainConfig(model=Architecture(**small, first_map=first_map), **options)
    model = train(first, splits, tmp_path / "first", device="cpu", progress=False).model
    second = TrainConfig(model=Architecture(**small, first_map="auto"), **options)
    trained_on = train(
        second, splits, tmp_path / "second", device="cpu", start_from=model, progress=False
    )
    assert trained_on.model.config.first_map == first_map
    assert read_run_config(tmp_path / "second").model.first_map == first_map


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "MASTER_ADDR is not set"),
        ({"LOCAL_RANK": "0"}, "MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
    ],
)
def test_what_is_left_of_a_launcher_is_refused(monkeypatch, variables, said):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    require_whole_launch()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        require_whole_launch()


def test_a_configuration_that_is_not_text(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"lr: \xff\xfe")
    assert main(["train", "--config", str(path)]) == 2
    assert "(it is not UTF-8 text): give a YAML file" in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["1", "5"])
def test_help_on_a_narrow_console_ends(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    assert "--batch-size" in capsys.readouterr().out


@pytest.fixture
def classes(tmp_path):
    """Folders of three classes, each of its own brightness, and a run that knows them."""
    for seed, (name, level) in enumerate({"cat": 40, "dog": 200, "owl": 120}.items()):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        random = np.random.default_rng(seed)
        for index in range(30):
            pixels = random.normal(level, 10, (8, 8, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"im{index}.png")
    given = [str(tmp_path / "photos"), *TINY, "--conditional", "--batch-size", "4", "--images", "8"]
    assert main(["train", *given, "--out", str(tmp_path / "run"), "--device", "cpu", "--json"]) == 0
    return tmp_path


def held_out_that_was_trained_on(run, record, capsys):
    """The final evaluation's number of images, and how many of the test had been trained on."""
    capsys.readouterr()
    assert main(["evaluate", "--model", str(run), "--device", "cpu", "--json"]) == 0
    now = json.loads(capsys.readouterr().out)["evaluation"]["images"]
    final = json.loads((run / "evaluation.json").read_text())["images"]
    kept = SplitRecord.load(run)
    test = kept.contents[kept.present & (kept.parts == TEST)]
    return final, now, int(np.isin(test, record.contents[record.parts == TRAIN]).sum())


@pytest.mark.parametrize("way", ["resume", "from"])
def test_renamed_training_images_are_not_reported_on(classes, way, capsys):
    run, record = classes / "run", SplitRecord.load(classes / "run")
    for path in sorted((classes / "photos" / "cat").iterdir()):
        path.rename(path.with_name(f"renamed-{path.name}"))
    capsys.readouterr()
    if way == "resume":
        given = ["--resume", str(run), "--images", "16"]
    else:
        given = [str(classes / "photos"), "--from", str(run), "--images", "8", "--batch-size", "4"]
        given += ["--out", str(classes / "tuned")]
    assert main(["train", *given, "--device", "cpu"]) == 0
    if way == "from":
        assert (
            "that the weights were trained on: they are trained on again" in capsys.readouterr().err
        )
        run = classes / "tuned"
    final, now, leaked = held_out_that_was_trained_on(run, record, capsys)
    assert final == now > 0
    assert leaked == 0


def test_images_behind_the_weights_stay_known(classes, capsys):
    pictures(classes / "new", 30, seed=7, size=(10, 10))
    given = [str(classes / "new"), "--from", str(classes / "run")]
    assert main(["train", *given, "--images", "8", "--device", "cpu"]) == 2  # it has no classes
    shutil.rmtree(classes / "run")
    given = [str(classes / "photos"), *TINY, "--images", "8", "--device", "cpu"]
    assert main(["train", *given, "--out", str(classes / "run")]) == 0
    given = [str(classes / "new"), "--from", str(classes / "run"), "--images", "8"]
    assert main(["train", *given, "--out", str(classes / "tuned"), "--device", "cpu"]) == 0
    capsys.readouterr()
    given = ["--model", str(classes / "tuned"), "--data", str(classes / "photos")]
    assert main(["evaluate", *given, "--device", "cpu"]) == 0
    trained = int((SplitRecord.load(classes / "run").parts == TRAIN).sum())
    assert f"{trained} of the 90 images are among those that" in capsys.readouterr().err


def test_classes_are_taken_by_name_when_a_run_goes_on(classes, capsys):
    run = classes / "run"
    (classes / "photos" / "dog").rename(classes / "photos" / "ant")
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "--images", "16", "--device", "cpu"]) == 2
    assert "a class 'ant', which the model does not know" in capsys.readouterr().err
    (classes / "photos" / "ant").rename(classes / "photos" / "dog")
    shutil.rmtree(classes / "photos" / "cat")
    given = ["--resume", str(run), "--images", "16", "--data-changed", "ok"]
    assert main(["train", *given, "--device", "cpu"]) == 0, capsys.readouterr().err
    model = Glow.from_pretrained(run)
    assert model.trained_on.class_names == ("cat", "dog", "owl")
    assert model.trained_on.unseen_classes == ("cat",)
    assert "no training image has class cat" in capsys.readouterr().err
    assert main(["sample", "--model", str(run), "--class", "cat", "--out", str(classes / "s")]) == 0
    assert "No image of class cat was trained on" in capsys.readouterr().err


def test_another_fit_makes_no_image_new(trained, tmp_path, capsys):
    pictures(tmp_path / "wide", 30, size=(8, 12))
    given = [str(tmp_path / "wide"), *TINY, "--images", "8", "--device", "cpu"]
    assert main(["train", *given, "--out", str(tmp_path / "run")]) == 0
    shutil.copytree(tmp_path / "wide", tmp_path / "copy")
    capsys.readouterr()
    given = ["evaluate", "--model", str(tmp_path / "run"), "--device", "cpu", "--fit", "stretch"]
    assert main([*given, "--data", str(tmp_path / "copy")]) == 0
    out, err = capsys.readouterr()
    assert "whether they were trained on is not known" in err
    assert "new images" not in out
    assert main(given) == 0
    assert "changed" not in capsys.readouterr().err


def test_copies_of_training_images_are_counted(tmp_path, capsys):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "twice.npz", x_train=x, x_test=x[:10])
    assert main(["train", str(tmp_path / "twice.npz"), *TINY, "--images", "8", "--device", "cpu",
                 "--out", str(tmp_path / "run")]) == 0  # fmt: skip
    said = " ".join(capsys.readouterr().err.split())
    count = int(said.split(" held-out images are, byte for byte, copies")[0].split()[-1])
    data = open_splits(read_run_config(tmp_path / "run").data, progress=False)
    rows = {image.tobytes() for image in data.train.images}
    found = sum(image.tobytes() in rows for d in (data.valid, data.test) for image in d.images)
    assert count == found > 5


def test_save_config_overwrites_nothing(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("mine")
    assert main(["train", "digits", "--save-config", str(tmp_path / "mine.yaml")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "mine"


def test_the_split_is_taken_from_a_model_too(tmp_path, capsys):
    pictures(tmp_path / "photos", 60)
    small = ["--images", "8", "--batch-size", "4", "--device", "cpu"]
    given = [str(tmp_path / "photos"), *TINY, *small, "--held-out", "0.05", "--out"]
    assert main(["train", *given, str(tmp_path / "first")]) == 0
    capsys.readouterr()
    again = ["train", "--from", str(tmp_path / "first"), *small, "--out", str(tmp_path / "second")]
    assert main(again) == 0
    assert "trained on again" not in capsys.readouterr().err
    records = [SplitRecord.load(tmp_path / run) for run in ("first", "second")]
    first, second = (np.bincount(each.parts[each.present]) for each in records)
    assert (first == second).all()
    assert read_run_config(tmp_path / "second").data.held_out == 0.05
    other = [*again[:-1], str(tmp_path / "third"), "--held-out", "0.2"]  # whose test was trained on
    assert main(other) == 2
    assert "none is left to be called test" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


def test_a_run_whose_validation_images_have_gone(folder, own_data, capsys):
    splits = open_splits(read_run_config(folder).data, progress=False)
    for name in splits.valid.names:
        (own_data / name).unlink()
    before = contents(folder)
    code, said = resume(capsys, folder, "--images", "16", "--data-changed", "ok")
    assert code == 2 and "no image is left to be called valid" in said.err
    assert contents(folder) == before


def test_another_number_of_validation_images_has_a_best_of_its_own(folder, capsys):
    best = folder / "best" / "validation.json"
    figures = {**json.loads(best.read_text()), "valid_bits_per_dim": -1e3}
    best.write_text(json.dumps(figures))
    assert resume(capsys, folder, "--images", "16")[0] == 0
    assert json.loads(best.read_text())["valid_bits_per_dim"] == -1e3
    assert resume(capsys, folder, "--images", "24", "--validation-images", "1")[0] == 0
    assert json.loads(best.read_text())["valid_bits_per_dim"] > 0
