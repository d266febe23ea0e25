"""What the tests share."""

import io
import os
import shutil

# The tests' tensors are tiny: a second thread waits longer for the first than it helps it, and
# with a process for each core it waits for another test. The children of a test do the same.
# Libraries read this when they are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from PIL import Image

ACCELERATOR = torch.accelerator.current_accelerator(check_available=True)
ONLY_ASKED = {
    "slow": "takes minutes: --slow runs it, and its small twin always runs",
    "network": "needs the network: --network runs it, and its twin reads a local copy",
}


def pytest_addoption(parser):
    for name, reason in ONLY_ASKED.items():
        parser.addoption(f"--{name}", action="store_true", help=f"also what {reason.split(':')[0]}")


def pytest_collection_modifyitems(config, items):
    reasons = {name: why for name, why in ONLY_ASKED.items() if not config.getoption(name)}
    if ACCELERATOR is None:
        reasons["gpu"] = "there is no accelerator here: its twin runs on the CPU"
    for item in items:
        for name in reasons.keys() & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.skip(reason=reasons[name]))


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """What tests draw and decode stays out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOWFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _as_at_the_start():
    torch.manual_seed(0)
    # torch.compile turns it off, for every test that follows in the process.
    torch.distributions.Distribution.set_default_validate_args(True)


@pytest.fixture(scope="module")
def unseen_plots():
    """Curves that nobody looks at are not laid out, which takes as long as a small training.

    `tests/reports`, `tests/studies` and `tests/cli/test_commands.py` draw them.
    """
    from glowflow.reports import plots

    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, format="PNG")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "plot_png", lambda figure: file.getvalue())
        yield


@pytest.fixture(scope="module")
def chromium():
    """A browser that is installed here."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
        args = ["--no-sandbox", *camera]
        shown = started.chromium.launch(executable_path=program, args=args)
        yield shown
        shown.close()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub, and a person without a token whose cache is empty."""
    from huggingface_hub import constants

    from tests.hub_server import running

    with running() as server:
        pattern = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", pattern)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(tmp_path)
        yield server


def perturb(module: torch.nn.Module, std: float = 0.1) -> torch.nn.Module:
    """Move every weight away from its start, so that nothing is zero or the identity by luck."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            scale = std if not name.endswith("logs") else std / 3
            weight.add_(scale * torch.randn_like(weight))
    return module
