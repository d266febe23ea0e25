"""Models by name: those that come with the package, without a network."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from glowflow import CheckpointError, Glow, GlowConfig, load_model
from glowflow.cli import main
from glowflow.data.config import DataConfig
from glowflow.data.open import open_splits
from glowflow.latents.directions import load_directions
from glowflow.latents.edits import edit
from glowflow.models import pretrained
from glowflow.reports.pictures import save_png, to_pil
from glowflow.training.as_yaml import to_yaml
from glowflow.training.config import TrainConfig
from tests.conftest import perturb

DATA = DataConfig(faces=30, size=(16, 16))


def tiny(folder, seed):
    torch.manual_seed(seed)
    config = GlowConfig(image_shape=(3, 16, 16), levels=2, steps=2, hidden_channels=8)
    model = perturb(Glow(config), 0.02).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A package folder with one model that has its data and its directions."""
    folder = tmp_path_factory.mktemp("pretrained")
    shipped = folder / "models" / "tiny"
    tiny(shipped, 0)
    (shipped / "train.yaml").write_text(to_yaml(TrainConfig(data=DATA)))
    out = shipped / "directions.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOWFLOW_CACHE", str(folder / "cache"))
        assert (
            main(["directions", "--model", str(shipped), "--minimum", "3", "--out", str(out)]) == 0
        )
        image = open_splits(DATA, progress=False).test.images[0]
    save_png(folder / "face.png", to_pil(image))
    return folder


@pytest.fixture
def work(built, monkeypatch):
    monkeypatch.setattr(pretrained, "SHIPPED", built / "models")
    monkeypatch.setenv("GLOWFLOW_CACHE", str(built / "cache"))
    return built


@pytest.fixture
def glow(work, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments, out="out"):
        code = main([*map(str, arguments), "--out", out, "--json"])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return json.loads(shown.out)

    return call


def test_a_name_is_a_shipped_model(work):
    assert pretrained.shipped_models() == ["tiny"]
    saved = load_model(work / "models" / "tiny").state_dict()
    for model in (Glow.from_pretrained("tiny"), load_model("tiny")):
        found = model.state_dict()
        assert saved.keys() == found.keys()
        assert all(torch.equal(found[name], weight) for name, weight in saved.items())


def test_a_folder_goes_before_a_shipped_model(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tiny(tmp_path / "tiny", 1)
    found = Glow.from_pretrained("tiny")
    assert torch.equal(found.sample(2), own.sample(2))
    assert not torch.equal(found.sample(2), load_model(work / "models" / "tiny").sample(2))


def test_an_unknown_name_lists_what_is_shipped(work):
    with pytest.raises(CheckpointError, match=r"no model at tinny: .* is shipped \(tiny\)"):
        Glow.from_pretrained("tinny")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("runs/phots", "no model at runs/phots (there is runs/photos): give a run's folder"),
        ("./nowhere", "no model at ./nowhere: give a run's folder"),
        ("runs/photos/model.safetensors", "is a file: give its folder, runs/photos"),
        ("runs/photos/checkpoints/1.pt", "is a file: give its folder, runs/photos"),
        ("runs/photos/checkpoints", "There is no config.json in runs/photos/checkpoints"),
    ],
)
def test_what_is_no_model_is_told_at_once(tmp_path, monkeypatch, capsys, given, said):
    """No hub is asked for what can be seen to be no name of it."""

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    tiny(tmp_path / "runs" / "photos", 0)
    checkpoint = tmp_path / "runs" / "photos" / "checkpoints" / "1.pt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    monkeypatch.chdir(tmp_path)
    for name in ("getaddrinfo", "create_connection", "socket"):
        monkeypatch.setattr(socket, name, refuse)
    assert main(["sample", "--model", given]) == 2
    assert said in capsys.readouterr().err


def test_sample_and_reconstruct(glow, work):
    assert glow("sample", "--model", "tiny", "--count", 2)["count"] == 2
    Image.open("out/0001.png").verify()
    facts = glow("reconstruct", work / "face.png", "--model", "tiny", out="back")
    assert (facts["bytes"], facts["bytes_changed"]) == (768, 0)


def test_evaluate_reads_the_data_it_was_trained_on(glow, work):
    facts = glow("evaluate", "--model", "tiny")
    assert (facts["evaluation"]["images"], facts["evaluation"]["bytes_changed"]) == (3, 0)
    assert facts["data"] == "drawn faces: 30 images, 16x16 RGB"


def test_edit_finds_the_directions_it_comes_with(glow, work):
    how = ["edit", work / "face.png", "--model", "tiny", "--attribute", "Smiling", "--amount", 0.8]
    facts = glow(*how)
    assert facts["bytes_changed"] > 0
    given = work / "models" / "tiny" / "directions.safetensors"
    assert glow(*how, "--directions", given, out="again") == {**facts, "out": "again"}


@pytest.mark.parametrize("answer", [b"", b"no protocol\r\n\r\n", b"HTTP/1.1 404 No\r\n\r\n"])
def test_a_hub_that_answers_oddly_is_said(hub, monkeypatch, answer):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with suppress(OSError):
                while True:
                    with server.accept()[0] as connection:
                        connection.recv(4096)
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        pattern = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", pattern)
        with pytest.raises(CheckpointError) as refused:
            Glow.from_pretrained("someone/model")
        server.shutdown(socket.SHUT_RDWR)
    said = str(refused.value)
    assert said.startswith("There is no folder someone/model") and "\n" not in said
    assert "the hub did not give a model of that name: " in said


class TestDemoFaces:
    """The model that the package really comes with."""

    @pytest.fixture(scope="class", name="model")
    @staticmethod
    def load():
        return Glow.from_pretrained("demo-faces")

    def faces(self, tmp_path):
        data = DataConfig(faces=12, size=(32, 32))
        return open_splits(data, cache=tmp_path, progress=False).train

    def test_it_loads_without_a_network(self, tmp_path):
        code = "from glowflow import Glow; Glow.from_pretrained('demo-faces').sample(1)"
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.iterdir()) == []

    def test_it_is_small_and_whole(self):
        folder = pretrained.SHIPPED / "demo-faces"
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        assert sorted(sizes) == [
            "README.md",
            "attributes.json",
            "calibration.safetensors",
            "config.json",
            "directions.safetensors",
            "model.safetensors",
            "train.yaml",
        ]
        assert sum(sizes.values()) < 20_000_000

    def test_it_draws_faces(self, model, tmp_path):
        drawn = model.sample(16, temperature=0.7, seed=0)
        assert drawn.shape == (16, 3, 32, 32)
        # A face has a colour and a shape in the middle: samples are nearer to faces than noise is.
        faces = self.faces(tmp_path).images.astype(float)
        noise = np.random.default_rng(0).integers(0, 256, drawn.shape).astype(float)
        nearest = [
            np.sqrt(((images[:, None] - faces[None]) ** 2).mean(axis=(2, 3, 4))).min(1).mean()
            for images in (drawn.numpy().astype(float), noise)
        ]
        assert nearest[0] < 0.7 * nearest[1]

    def test_a_drawn_face_comes_back_byte_for_byte(self, model, tmp_path):
        images = torch.from_numpy(self.faces(tmp_path).images[:4].copy())
        x = model.to_float(images, noise="center")
        assert torch.equal(model.to_images(model.decode(model.encode(x))), images)
        assert float(model.bits_per_dim(images).mean()) < 3.0

    def test_smiling_moves_the_mouth(self, model, tmp_path):
        path = pretrained.locate("demo-faces", "directions.safetensors")
        smiling = load_directions(path, model).latents["Smiling"]
        images = torch.from_numpy(self.faces(tmp_path).images[:8].copy())
        latents = model.encode(model.to_float(images, noise="center"))
        moved = [
            model.to_images(model.decode(edit(latents, [smiling], [amount]))).int()
            for amount in (-0.8, 0.8)
        ]
        change = (moved[1] - moved[0]).abs().float().mean(dim=(0, 1))
        mouth, above = change[20:26, 11:21].mean(), change[:12].mean()
        assert mouth > 3 * above
