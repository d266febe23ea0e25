"""What `glow studio` opens, and what it refuses before it opens anything."""

import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glowflow import Glow, GlowConfig
from glowflow.cli import main, studio
from glowflow.cli.studio import Options
from glowflow.data.types import ImageData
from glowflow.evaluation.calibration import calibrate, save_calibration
from glowflow.latents.directions import Directions, save_directions
from glowflow.models.companions import identity
from glowflow.studio.explore import MOST

pytest.importorskip("fastapi")


def saved(folder):
    model = Glow(GlowConfig(image_shape=(1, 8, 8), levels=1, steps=1, hidden_channels=4))
    model.initialize(torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8))
    model.save_pretrained(folder)


@pytest.fixture
def opened(monkeypatch):
    """What would have been served, without serving it."""
    seen = {}

    def serve(app, listening):
        seen.update(app=app, address=listening.getsockname())

    monkeypatch.setattr(studio, "_serve", serve)
    monkeypatch.setattr(studio.webbrowser, "open", lambda address: seen.update(page=address))
    return seen


def test_it_says_where_it_is_and_opens_the_page(tmp_path, opened, capsys):
    saved(tmp_path / "one")
    assert main(["studio", str(tmp_path / "one"), "--port", "0"]) == 0
    host, port = opened["address"]
    assert host == "127.0.0.1" and opened["page"] == f"http://127.0.0.1:{port}/"
    assert opened["page"] in capsys.readouterr().out and opened["app"].token is None


def test_a_folder_of_runs_is_all_of_them_the_newest_first(tmp_path, opened):
    for name in ("old", "new"):
        saved(tmp_path / name)
    (tmp_path / "no-model").mkdir()
    found = studio._models(str(tmp_path))
    assert [name for _, name in found] == ["new", "old"]
    assert main(["studio", str(tmp_path), "--port", "0", "--no-open"]) == 0
    assert "page" not in opened


def test_for_others_it_makes_a_token(tmp_path, opened, capsys):
    saved(tmp_path / "one")
    ask = ["studio", str(tmp_path / "one"), "--port", "0", "--no-open"]
    assert main([*ask, "--host", "0.0.0.0"]) == 0
    token = opened["app"].token
    assert len(token) > 20 and f"#token={token}" in capsys.readouterr().out
    assert main([*ask, "--token", "long enough"]) == 0
    assert opened["app"].token == "long enough"


def test_runs_are_those_of_the_folder_that_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "all" / "one")

    def folder(*given, **named):
        return studio._runs(Options(model=str(tmp_path.joinpath(*given)), **named))

    assert folder("all") == tmp_path / "all"
    assert folder("all", "one") == studio._runs(Options()) == Path("runs")
    assert folder("all", runs=Path("other")) == Path("other")


def test_a_folder_whose_runs_have_no_model_yet_is_watched_all_the_same(tmp_path):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "train.yaml").touch()
    assert studio._models(str(tmp_path)) == [("demo-faces", "demo-faces")]
    assert studio._runs(Options(model=str(tmp_path))) == tmp_path


def test_some_drawn_faces_are_looked_at_and_not_all(monkeypatch):
    read = lambda config, progress: SimpleNamespace(data=(config.faces, config.size))  # noqa: E731
    monkeypatch.setattr("glowflow.data.open.open_images", read)
    assert studio._data("demo-faces", None) == ((MOST, (32, 32)), "drawn faces")


def test_what_cannot_be_opened_is_refused(tmp_path, opened, capsys):
    def refused(*arguments):
        assert main(["studio", *arguments, "--no-open"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    saved(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    assert "neither a model nor a folder" in refused(str(tmp_path / "empty"))
    assert "no model at" in refused(str(tmp_path / "nothing"), "--port", "0")
    assert "8 or more" in refused(str(tmp_path / "one"), "--token", "short")
    assert "--port is 70000" in refused(str(tmp_path / "one"), "--port", "70000")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "Cannot listen" in refused(str(tmp_path / "one"), "--port", port)
    fields = Glow(
        GlowConfig(image_shape=(3, 8, 8), levels=1, steps=1, hidden_channels=4, bits=None)
    )
    fields.save_pretrained(tmp_path / "fields")
    assert "no model of pictures" in refused(str(tmp_path / "fields"), "--port", "0")
    assert opened == {}


def test_answers_do_not_wait_for_each_other():
    with studio._listening("127.0.0.1", 0) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert Options().host == "127.0.0.1"


def test_a_model_with_other_files_is_another_version(tmp_path):
    saved(tmp_path / "one")
    before = studio._version(str(tmp_path / "one"))
    assert before == studio._version(str(tmp_path / "one"))
    (tmp_path / "one" / "directions.safetensors").touch()
    assert studio._version(str(tmp_path / "one")) not in (before, None)
    assert studio._version("demo-faces") is None


def test_what_is_of_another_model_or_of_more_draws_is_left_out(tmp_path, capsys):
    saved(tmp_path / "one")
    model = Glow.from_pretrained(tmp_path / "one")
    data = ImageData(np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8))
    path = tmp_path / "one" / "calibration.safetensors"
    for draws in (1, 2):
        save_calibration(path, calibrate(model, data, draws=draws, progress=False))
        stage = studio._stage(str(tmp_path / "one"), "one", "cpu")
        assert (stage.calibration is not None) == (draws == 1)
        stage.close()
        path.unlink()
    latents = {"A": tuple(torch.ones(shape) for shape in model.latent_shapes)}
    known = Directions(latents, "mean", identity(model), {"A": (5, 5)})
    save_directions(tmp_path / "one" / "directions.safetensors", known)
    saved(tmp_path / "one")  # it was trained on
    stage = studio._stage(str(tmp_path / "one"), "one", "cpu")
    assert stage.directions is None and "another model" in capsys.readouterr().err
    stage.close()
