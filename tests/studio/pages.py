"""A small model with directions, and the studio on it as a client in the same process sees it."""

import asyncio
import io
import sys

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from glowflow import Glow, GlowConfig
from glowflow.data.types import ImageData
from glowflow.evaluation.calibration import calibrate
from glowflow.latents.directions import Directions, save_directions
from glowflow.models.companions import identity
from glowflow.models.training_data import TrainingData
from glowflow.studio.app import make_app
from glowflow.studio.house import Offer
from glowflow.studio.limits import Limits
from glowflow.studio.stage import Stage
from glowflow.studio.training import Trainer

from ..conftest import perturb

HOST = "http://127.0.0.1:7860"


def small_model(seed=0, classes=0):
    torch.manual_seed(seed)
    config = GlowConfig(
        image_shape=(3, 16, 16), levels=2, steps=2, hidden_channels=8, classes=classes
    )
    model = Glow(config)
    model.initialize(torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8))
    model.trained_on = TrainingData(source="noise")
    return perturb(model, 0.05).eval()


def directions_of(model):
    generator = torch.Generator().manual_seed(1)
    latents = {
        name: tuple(0.3 * torch.randn(shape, generator=generator) for shape in model.latent_shapes)
        for name in ("Smiling", "Long_Hair")
    }
    return Directions(latents, "mean", identity(model), dict.fromkeys(latents, (5, 5)))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The model as a user has it: on the disk, with its directions."""
    where = tmp_path_factory.mktemp("model")
    model = small_model()
    model.save_pretrained(where)
    save_directions(where / "directions.safetensors", directions_of(model))
    return where


def stage():
    model = small_model()
    made = Stage(model, "small", directions_of(model))
    made.calibration = calibrate(model, ImageData(noise(40)), progress=False, source="noise")
    return made


def noise(count, size=16, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def png(image):
    """uint8 (C, H, W) as a file."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def pixels(data):
    """The image of a file, uint8 (C, H, W)."""
    return np.asarray(Image.open(io.BytesIO(data))).transpose(2, 0, 1)


def frame(answer):
    """The image of a frame, uint8 (C, H, W)."""
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, np.uint8).reshape(16, 16, 3).transpose(2, 0, 1)


class Client:
    """A page, without a browser."""

    def __init__(self, app, host=HOST, **headers):
        self.app, self.host, self.headers = app, host, headers

    def ask(self, method, path, **given):
        return asyncio.run(self.asking(method, path, **given))

    async def asking(self, method, path, headers=None, **given):
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=self.host, timeout=60) as http:
            return await http.request(
                method, path, headers={**self.headers, **(headers or {})}, **given
            )

    def get(self, path, **given):
        return self.ask("GET", path, **given)

    def post(self, path, **given):
        return self.ask("POST", path, **given)

    def open(self, **asked):
        """Become a visitor; what the page is told."""
        answer = self.post("/api/visitors", json=asked)
        assert answer.status_code == 200, answer.text
        self.headers["Glow-Visitor"] = answer.json()["visitor"]
        return answer.json()

    def upload(self, data, **asked):
        return self.post("/api/pictures", content=data, params=asked)

    def uploaded(self, image=None, **asked):
        """The name of a picture that is taken, by default of noise."""
        answer = self.upload(png(noise(1)[0]) if image is None else image, **asked)
        assert answer.status_code == 200, answer.text
        return answer.json()["picture"]


def shown(model):
    """Images of the model's data, with an attribute."""
    smiling = np.arange(30)[:, None] % 2 == 0
    data = ImageData(noise(30, seed=7), attributes=smiling, attribute_names=("Smiling",))
    return data, "noise"


QUICK = "import sys; sys.exit('glow train: The data are noise: give others.')"
"""Stands for a run that is refused at once."""


@pytest.fixture(scope="session")
def app(tmp_path_factory):
    runs = tmp_path_factory.mktemp("studio") / "runs"
    trainer = Trainer(runs, anywhere=True, command=[sys.executable, "-S", "-c", QUICK])
    yield make_app([Offer("small", stage, data=shown)], trainer=trainer)
    trainer.close()


@pytest.fixture
def page(app):
    """A visitor's page, and what it was told first."""
    client = Client(app)
    client.first = client.open()
    yield client
    client.post("/api/visitors/leave")


@pytest.fixture
def studio_with():
    """The studio with other bounds."""

    def make(token=None, **limits):
        return make_app([Offer("small", stage)], limits=Limits(**limits), token=token)

    return make
