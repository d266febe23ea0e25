"""The `glow` command, as a person calls it: most in this process, some in one of their own."""

import contextlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glowflow import Glow, GlowConfig
from glowflow.cli import main
from glowflow.training.as_yaml import from_yaml
from glowflow.training.config import TrainConfig
from tests.children import Child

SMALL = ["--levels", "2", "--steps", "2", "--hidden-channels", "8", "--batch-size", "16"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "GLOWFLOW_CACHE": str(cache), "COLUMNS": "200"}


@pytest.fixture(scope="session")
def process(environment):
    """`python -m glowflow` in a process of its own."""

    def call(*arguments, cwd):
        child = Child(["-m", "glowflow", *arguments], env=environment, cwd=cwd)
        return subprocess.CompletedProcess(arguments, *child.answer(timeout=300))

    return call


@pytest.fixture(scope="session")
def glow(environment):
    """The command in this process, with the answer that a process of its own gives."""

    def call(*arguments, cwd):
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.chdir(cwd)
            for name in ("GLOWFLOW_CACHE", "COLUMNS"):
                patch.setenv(name, environment[name])
            try:
                code = main([*map(str, arguments)])
            except SystemExit as stopped:
                code = stopped.code
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for i in range(24):
        base = random.integers(0, 200, 3)
        ramp = np.arange(20)[:, None, None] * np.array([2, 1, 0])
        Image.fromarray((base + ramp + np.zeros((20, 20, 3))).astype(np.uint8)).save(
            folder / f"{i:02d}.png"
        )
    return folder


@pytest.fixture(scope="session")
def trained(glow, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    done = glow("train", photos, "--size", 16, 16, "--images", 160, "--warmup-images", 32,
                "--log-every", 1, "--out", "run", *SMALL, "--json", cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run", json.loads(done.stdout)


def test_help_lists_every_command_with_a_line(glow, environment, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "glowflow", "--help"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for command in ("train", "evaluate", "sample", "reconstruct", "demo"):
        assert sum(line.strip().startswith(command + " ") for line in lines) == 1
        shown = glow(command, "--help", cwd=tmp_path)
        assert shown.returncode == 0
        for flag in ("--out", "--seed", "--device", "--json"):
            assert flag in shown.stdout, (command, flag)


def test_train_leaves_a_whole_run(trained):
    run, facts = trained
    for name in (
        "config.json",
        "model.safetensors",
        "train.yaml",
        "metrics.jsonl",
        "evaluation.json",
        "environment.json",
        "loss.png",
        "report.html",
    ):
        assert (run / name).stat().st_size > 0, name
    assert list((run / "checkpoints").glob("*.pt"))
    assert list((run / "samples").glob("*.png"))
    assert facts["images"] == 160
    evaluation = facts["evaluation"]
    assert evaluation["bytes_changed"] == 0
    assert evaluation["bytes_compared"] == evaluation["images"] * 3 * 16 * 16
    names = [b["name"] for b in evaluation["baselines"]]
    assert names == [
        "Independent-pixel entropy",
        "Full-covariance Gaussian",
        "PNG",
        "WebP lossless",
    ]


def test_report_is_self_contained(trained):
    page = (trained[0] / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/png;base64,") == 5
    for word in ("T = 0.7", "bits/dim", "Nearest training images", "SHA-256", "torch", "seed"):
        assert word in page, word
    assert "every figure is in its healthy range" in page


def test_same_seed_gives_the_same_bytes(glow, process, trained, tmp_path):
    run, _ = trained
    for call, name, seed in ((process, "a", 3), (glow, "b", 3), (glow, "c", 4)):
        done = call("sample", "--model", run, "--count", 3, "--seed", seed, "--out", name,
                    "--temperature", 0.5, cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["0000.png", "0001.png", "0002.png", "grid.png"]
    contents = [[(tmp_path / d / f).read_bytes() for f in files] for d in "abc"]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]
    assert Image.open(tmp_path / "a" / "0000.png").size == (16, 16)


def test_evaluate_repeats_the_figure_of_the_run(glow, trained, tmp_path):
    run, facts = trained
    done = glow("evaluate", "--model", run, "--json", "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["evaluation"]
    assert found["mean"] == pytest.approx(facts["evaluation"]["mean"], abs=1e-6)
    saved = json.loads((tmp_path / "here" / "evaluation.json").read_text())["evaluation"]
    assert saved == found
    several = glow("evaluate", "--model", run, "--draws", 4, cwd=tmp_path)
    assert "WebP lossless" in several.stderr
    assert several.stdout.count("\n") == 1
    assert "bytes" in several.stdout


def test_evaluate_other_data(glow, trained, photos, tmp_path):
    done = glow("evaluate", photos, "--model", trained[0], "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "16x16" in json.loads(done.stdout)["data"]


@pytest.fixture
def called(glow, tmp_path):
    """What a command printed, and its facts."""

    def call(*arguments):
        done = glow(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stderr, json.loads(done.stdout) if "--json" in arguments else done.stdout

    return call


def test_a_conditional_model_is_also_scored_as_a_classifier(called, tmp_path):
    _, facts = called("train", "digits", "--conditional", "--images", 2_560, "--lr", 0.02,
                      "--out", "run", *SMALL, "--batch-size", 64, "--json")  # fmt: skip
    found = facts["evaluation"]
    for name in ("bayes_accuracy", "classifier_accuracy"):
        assert 0.2 < found[name] <= 1, found
    shown, sentence = called("evaluate", "--model", "run", "--images", 180, "--out", "again")
    said = f"Right class: {found['bayes_accuracy']:.1%} by Bayes' rule"
    assert said in " ".join(shown.split())
    assert "bits/dim" in sentence
    saved = json.loads((tmp_path / "again" / "evaluation.json").read_text())["evaluation"]
    assert saved["classifier_accuracy"] == found["classifier_accuracy"]
    page = unescape((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert said in page


def test_published_figures_stand_beside_the_same_data_only(called, tmp_path):
    cifar = tmp_path / "cifar-10-batches-py"
    cifar.mkdir()
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {"data": random.integers(0, 256, (1, 3072), dtype=np.uint8), "labels": [0]}
        (cifar / name).write_bytes(pickle.dumps(batch))
    for bits in (8, 5):
        config = GlowConfig(
            image_shape=(3, 32, 32), levels=1, steps=1, hidden_channels=4, bits=bits
        )
        Glow(config).save_pretrained(tmp_path / f"model{bits}")
    shown, _ = called("evaluate", cifar, "--model", "model8")
    assert "Glow, published" in shown and "3.350" in shown
    assert "RealNVP, published" in shown and "3.490" in shown
    for model, split in (("model8", "train"), ("model5", "test")):
        _, facts = called("evaluate", cifar, "--model", model, "--split", split, "--json")
        assert facts["evaluation"]["published"] == []
    assert facts["evaluation"]["dataset"] == "cifar10"


def test_reconstruct_returns_every_byte(glow, trained, photos, tmp_path):
    first, second = photos / "00.png", photos / "01.png"
    done = glow("reconstruct", first, second, "--model", trained[0], "--out", "back", "--json",
                cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes_changed"] == 0
    assert (tmp_path / "back" / "grid.png").is_file()
    from glowflow.photos.images import read_image

    again = np.asarray(Image.open(tmp_path / "back" / "00.png")).transpose(2, 0, 1)
    assert np.array_equal(again, read_image(first, (3, 16, 16)))


def test_config_is_printed_saved_loaded_and_overridden(glow, tmp_path):
    printed = glow("train", "--print-config", "--lr", "0.5", cwd=tmp_path)
    assert from_yaml(TrainConfig, printed.stdout, "x").lr == 0.5
    saved = glow("train", "digits", *SMALL, "--save-config", "c.yaml", cwd=tmp_path)
    assert saved.returncode == 0, saved.stderr
    loaded = glow("train", "--config", "c.yaml", "--levels", 1, "--print-config", cwd=tmp_path)
    config = from_yaml(TrainConfig, loaded.stdout, "x")
    assert (config.data.data, config.model.steps, config.model.levels) == ("digits", 2, 1)
    preset = glow("train", "--preset", "cifar10", "--print-config", cwd=tmp_path)
    config = from_yaml(TrainConfig, preset.stdout, "x")
    assert (config.model.steps, config.batch_size, config.data.size) == (32, 512, (32, 32))


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(glow, environment, photos, tmp_path):
    process = Child(
        ["-m", "glowflow", "train", photos, "--size", 16, 16, "--out", "run", *SMALL,
         "--images", 10_000_000, "--log-every", 1],
        env=environment, cwd=tmp_path,
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_text().count("\n") > 5):
        assert time.monotonic() < deadline
        assert process.alive, process.answer()
        time.sleep(0.05)
    process.send(signal.SIGINT)
    code, out, err = process.answer(timeout=120)
    assert code == 130, err
    assert "glow train --resume run" in out
    Glow.from_pretrained(tmp_path / "run")
    before = json.loads(metrics.read_text().splitlines()[-1])["images"]
    done = glow("train", "--resume", "run", "--images", before + 64, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] >= before + 64
    assert (tmp_path / "run" / "report.html").is_file()


def test_nan_in_training_exits_with_the_cause(glow, photos, tmp_path):
    done = glow("train", photos, "--size", 16, 16, "--out", "run", *SMALL, "--lr", "1e6",
                "--warmup-images", 0, "--images", 3200, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2
    assert "Training stopped at step" in done.stderr
    assert "level" in done.stderr
    assert "checkpoint is run/checkpoints/" in done.stderr
    Glow.from_pretrained(tmp_path / "run")


def test_demo_runs_from_any_folder(process, tmp_path):
    done = process("demo", "--minutes", 0.01, "--faces", 12, "--out", "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("report: demo/report.html")
    assert (tmp_path / "demo" / "report.html").is_file()
    assert done.stdout.count("\n") == 1


def arrays(folder: Path) -> None:
    np.save(folder / "int.npy", np.full((9, 16, 16), 300))
    nan = np.zeros((9, 16, 16), dtype=np.float32)
    nan[4, 2, 2] = np.nan
    np.save(folder / "nan.npy", nan)
    (folder / "empty").mkdir()
    (folder / "text.txt").write_text("no data")
    (folder / "bad.yaml").write_text("lr: fast")
    (folder / "blocker").write_text("a file")


BAD_TRAINING = {
    "missing folder": (["nowhere"], "There is no folder or file nowhere"),
    "folder without images": (["empty"], "There is no image in empty"),
    "not data": (["text.txt"], "names no image that is there"),
    "images smaller than the model's": (
        ["{photos}", "--size", "32", "32"],
        "smaller than the 32x32",
    ),
    "array of the wrong type": (["int.npy"], "is int64 from 300 to 300"),
    "NaN in an array": (["nan.npy"], "NaN or infinite, the first in image 4"),
    "size not divisible": (["{photos}", "--size", "18", "18"], "divisible by 2^levels = 4"),
    "bits 0": (["{photos}", "--bits", "0"], "bits is 0"),
    "bits 9": (["{photos}", "--bits", "9"], "bits is 9"),
    "unwritable output": (["{photos}", "--size", "16", "16", "--out", "blocker/run"], "blocker"),
    "output in use": (["{photos}", "--size", "16", "16", "--out", "empty/.."], "not empty"),
    "bad config": (["--config", "bad.yaml"], "lr is 'fast'"),
    "no such config": (["--config", "none.yaml"], "Cannot read none.yaml"),
    "no such preset": (["--preset", "cifar11"], "no preset 'cifar11'"),
    "no such device": (["{photos}", "--size", "16", "16", "--device", "tpu9"], "no device"),
    "no labels": (["{photos}", "--size", "16", "16", "--conditional"], "no labels"),
    "nothing to resume": (["--resume", "empty"], "give a run's folder"),
}


@pytest.mark.parametrize("name", BAD_TRAINING)
def test_bad_input_to_train(glow, photos, tmp_path, name):
    refuses_to_train(glow, photos, tmp_path, name)


@pytest.mark.parametrize("name", ["missing folder", "unwritable output"])
def test_bad_input_to_train_in_a_process_of_its_own(process, photos, tmp_path, name):
    refuses_to_train(process, photos, tmp_path, name)


def refuses_to_train(call, photos, tmp_path, name):
    arguments, message = BAD_TRAINING[name]
    arrays(tmp_path)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    arguments = [a.format(photos=photos) for a in arguments]
    done = call("train", *arguments, "--levels", "2", cwd=tmp_path)
    refused(done, message)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def refused(done, message):
    """Exit code 2 and one sentence on stderr, besides progress bars."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("glow")]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--model", "nowhere"], "There is no model at nowhere"),
        (["sample", "--model", "{run}", "--count", "0"], "count is 0"),
        (["sample", "--model", "{run}", "--temperature", "-1"], "temperature"),
        (["sample", "--model", "{run}", "--class", "1"], "has 0 classes"),
        (["sample", "--model", "{run}", "--seed", "-1"], "give a whole number from 0 to 2^63 - 1"),
        (["sample", "--model", "{run}", "--seed", "9" * 30], "from 0 to 2^63 - 1"),
        (["sample", "--model", "{run}", "--device", "cuda:99"], "no device 'cuda:99' here"),
        (["sample", "--model", "{run}", "--device", "meta"], "no device 'meta' here"),
        (["sample", "--model", "{run}", "--device", ""], "no device '' here"),
        (["sample", "--model", "truncated"], "truncated"),
        (["sample", "--model", "other"], "another architecture"),
        (["evaluate", "nowhere", "--model", "{run}"], "There is no folder or file"),
        (["evaluate", "--model", "{run}", "--draws", "0"], "draws is 0"),
        (["reconstruct", "a.png", "--model", "{run}"], "There is no image a.png"),
        (["reconstruct", "{small}", "--model", "{run}"], "smaller than the 16x16"),
        (["paint"], "no command 'paint'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_to_the_other_commands(glow, trained, tmp_path, arguments, message):
    run, _ = trained
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 8)).save(small)
    for name in ("truncated", "other"):
        folder = tmp_path / name
        folder.mkdir()
        config = json.loads((run / "config.json").read_text())
        weights = (run / "model.safetensors").read_bytes()
        if name == "other":
            config["steps"] = 3
        else:
            weights = weights[:-64]
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(weights)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    done = glow(*[a.format(run=run, small=small) for a in arguments], cwd=tmp_path)
    refused(done, message)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_unknown_flag_is_named(glow, tmp_path):
    done = glow("train", "--leveks", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert "leveks" in done.stderr
