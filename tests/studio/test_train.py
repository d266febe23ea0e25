"""Train: the form, runs that are started and stopped, and what is shown of them."""

import json
import sys
import time

import pytest
from PIL import Image

from glowflow import InputError
from glowflow.studio.app import make_app
from glowflow.studio.form import FIRST, STARTS, filled, form, starting_point
from glowflow.studio.house import Offer
from glowflow.studio.stage import Stage
from glowflow.studio.training import Trainer
from glowflow.training.as_yaml import from_yaml
from glowflow.training.config import TrainConfig, write_run_config

from .pages import Client, small_model

CHILD = """
import json, pathlib, shutil, signal, sys, time
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
folder = pathlib.Path(given.get("--out") or given["--resume"])
folder.mkdir(parents=True, exist_ok=True)
if "--config" in given:
    shutil.copy(given["--config"], folder / "train.yaml")
(folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "images": 16, "bits_per_dim": 5.0}))
end = time.monotonic() + 20
while not stopped and time.monotonic() < end:
    time.sleep(0.01)
(folder / "checkpoint").touch()
sys.exit(130)
"""
"""Stands for `glow train`: it takes its options, and leaves a checkpoint when it is stopped."""


def trainer(folder, child=CHILD, **how):
    return Trainer(folder, command=[sys.executable, "-S", "-c", child], **how)


def plain():
    return Stage(small_model(), "small")


def page_of(made):
    page = Client(make_app([Offer("small", plain)], trainer=made))
    page.open()
    return page


def until(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("start", STARTS)
def test_the_form_as_it_is_changes_nothing(start):
    config = starting_point(start)
    fields = form(config)
    assert filled(config, {field.name: field.value for field in fields}) == config
    assert all(field.help for field in fields), [f.name for f in fields if not f.help]
    assert [f.name for f in fields if f.first] == [
        n for n in FIRST if n in {f.name for f in fields}
    ]


def test_what_is_written_in_the_form_is_taken():
    written = {
        "data.data": "photos of mine/", "data.size": "64, 48", "data.channels": "1",
        "minutes": "2.5", "model.dequantization": "uniform",
        "flip": True, "track": "tensorboard wandb", "model.bits": "", "lr": "1e-3",
        "model.coupling": "additive",
    }  # fmt: skip
    config = filled(starting_point("glow"), written)
    assert (config.data.data, config.data.size, config.data.channels) == (
        "photos of mine/", (64, 48), 1,
    )  # fmt: skip
    assert (config.minutes, config.flip, config.track) == (2.5, True, ("tensorboard", "wandb"))
    assert (config.model.bits, config.lr, config.model.coupling) == (None, 1e-3, "additive")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("images", "many", "whole number"), ("images", "0", "at least 1"), ("lr", "", "a number"),
     ("data.size", "64", "2 values"), ("flip", "yes", "true or false"), ("images", True, "a value"),
     ("model.coupling", "odd", "choose one of"), ("model.scales", "2", "no option"),
     ("images", "9" * 5000, "whole number"), ("lr", "nan", "more than 0")],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_name(name, value, words):
    with pytest.raises(InputError, match=words) as refusal:
        filled(starting_point("glow"), {name: value})
    assert name.rpartition(".")[2] in str(refusal.value) and len(str(refusal.value)) < 400


def test_a_run_is_started_watched_stopped_and_gone_on_with(tmp_path):
    made = trainer(tmp_path / "runs", anywhere=True)
    page = page_of(made)
    asked = {"name": "mine", "options": {"data.data": str(tmp_path), "images": "99"}}
    assert page.post("/api/runs", json=asked).json() == {"run": "mine"}
    again = page.post("/api/runs", json={**asked, "name": "other"})
    assert again.status_code == 400 and "mine is under way" in again.json()["error"]
    until(lambda: (tmp_path / "runs/mine/metrics.jsonl").is_file())
    until(lambda: page.get("/api/runs").json()["runs"])
    (run,) = page.get("/api/runs").json()["runs"]
    assert (run["run"], run["state"], run["of_images"]) == ("mine", "training", 99)
    assert from_yaml(
        TrainConfig, (tmp_path / "runs/mine/train.yaml").read_text(), "it"
    ).data.data == str(tmp_path)
    assert page.post("/api/training/stop").status_code == 204
    until(lambda: page.get("/api/runs").json()["child"]["state"] == "ended")
    assert (tmp_path / "runs/mine/checkpoint").is_file()
    assert page.get("/api/runs").json()["child"]["told"] == ""
    assert "No run is under way" in page.post("/api/training/stop").json()["error"]
    taken = page.post("/api/runs", json=asked)
    assert taken.status_code == 400 and "already" in taken.json()["error"]
    assert page.post("/api/runs/mine/resume").status_code == 200
    made.close()
    assert not made.child.alive


def test_a_run_that_fails_as_it_is_stopped_says_so(tmp_path):
    full = "sys.exit('glow train: The disk is full.')"
    made = trainer(tmp_path, CHILD.replace("sys.exit(130)", full), anywhere=True)
    made.start(starting_point("glow"), "mine")
    until(lambda: (tmp_path / "mine/metrics.jsonl").is_file())
    made.stop()
    until(lambda: not made.child.alive)
    assert made.child.told == "The disk is full."
    made.close()


def test_the_run_ends_with_the_studio_and_leaves_its_checkpoint(tmp_path):
    made = trainer(tmp_path, anywhere=True)
    made.start(starting_point("glow"), "mine")
    until(lambda: (tmp_path / "mine/metrics.jsonl").is_file())
    made.close()
    assert made.child.process.returncode == 130 and (tmp_path / "mine/checkpoint").is_file()
    stubborn = trainer(tmp_path, CHILD.replace("not stopped and ", ""), anywhere=True)
    stubborn.start(starting_point("glow"), "stubborn")
    until(lambda: (tmp_path / "stubborn/metrics.jsonl").is_file())
    stubborn.close(patience=0.05)
    assert not stubborn.child.alive


def test_a_run_that_is_refused_says_why(page):
    assert page.post("/api/runs", json={"options": {"data.data": "nothing"}}).status_code == 200
    until(lambda: page.get("/api/runs").json()["child"]["state"] == "ended")
    assert page.get("/api/runs").json()["child"]["told"] == "The data are noise: give others."


@pytest.mark.parametrize("name", ["..", "../out", "a/b", ".hidden", "-x", "", "a" * 99, "é"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    made = trainer(tmp_path / "runs", anywhere=True)
    (tmp_path / "train.yaml").touch()
    with pytest.raises(InputError):
        made.runs.run(name)
    if name:
        with pytest.raises(InputError, match="cannot be called"):
            made.start(starting_point("glow"), name)
    assert made.child is None


def test_from_another_machine_no_path_is_read(tmp_path, monkeypatch):
    made = trainer(tmp_path)
    glow = starting_point("glow")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "photos").mkdir(parents=True)
    places = (tmp_path, f"hub:{tmp_path}", "hub:../photos", "hub:my/photos@1")
    for changed in (*({"data.data": str(place)} for place in places), {"started_from": "/etc"}):
        with pytest.raises(InputError, match="From another machine"):
            made.start(filled(glow, changed), "mine")
    made.start(glow, "mine")  # of faces
    made.close()
    made.start(filled(glow, {"data.data": "hub:somebody/set:part@main"}), "theirs")
    made.close()


def test_curves_health_and_samples_of_a_run(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    write_run_config(folder, starting_point("glow"))
    lines = [{"step": i, "images": 16 * i, "bits_per_dim": 8 - i / 999} for i in range(1, 1000)]
    unwell = {"round_trip_error": float("inf"), "condition_by_level": [2.0, float("nan")]}
    lines.append({"step": 999, "images": 15984, "valid_bits_per_dim": 7.1, **unwell})
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "samples").mkdir()
    for name, colour in (("000000016", "black"), ("000015984", "white")):
        Image.new("RGB", (4, 4), colour).save(folder / f"samples/{name}.png")
    small_model().save_pretrained(folder)
    offered = []
    page = page_of(trainer(tmp_path, offer=lambda *what: offered.append(what) or Offer("x", plain)))
    found = page.get("/api/runs/one").json()
    assert 300 <= len(found["curves"]["bits_per_dim"]) <= 400
    assert found["curves"]["bits_per_dim"][-1] == [15984, pytest.approx(7)]
    assert found["curves"]["valid_bits_per_dim"] == [[15984, 7.1]]
    assert found["health"]["condition_by_level"] == [2.0, None] and len(found["warnings"]) == 2
    assert "hidden_channels: 128" in found["configuration"]
    newest = (folder / "samples/000015984.png").read_bytes()
    assert page.get("/api/runs/one/samples.png").content == newest
    (run,) = page.get("/api/runs").json()["runs"]
    assert (run["state"], run["model"], run["valid_bits_per_dim"]) == ("ended", "one", 7.1)
    assert offered == [(str(folder), "one")] and page.open(model="one")["model"]["name"] == "small"
    (folder / "metrics.jsonl").write_text("{\n{}\n")
    assert "not JSON" in page.get("/api/runs").json()["runs"][0]["told"]
    assert page.get("/api/runs/two").status_code == 404


def test_a_run_of_another_process_is_told_from_one_that_has_died(tmp_path):
    import os
    import platform

    from glowflow.files import has_holder

    assert not has_holder(tmp_path)
    for process, alive in ((os.getpid(), True), (2**22 + 5, False)):
        (tmp_path / ".lock").write_text(f"process {process} on {platform.node()}")
        assert has_holder(tmp_path) == alive
    (tmp_path / ".lock").write_text("process 1 on another machine")
    assert has_holder(tmp_path)


def test_without_a_folder_of_runs_there_is_nothing_to_train():
    page = page_of(None)
    assert page.get("/api/runs").json() == {"folder": None, "runs": [], "child": None}
    assert "no folder of runs" in page.post("/api/runs", json={}).json()["error"]
