"""RealNVP by the `glow` command."""

import json

import pytest
from PIL import Image

from glowflow import RealNVP
from tests.cli.test_commands import environment, glow, photos  # noqa: F401


@pytest.mark.usefixtures("unseen_plots")
def test_trains_evaluates_samples_and_reconstructs(glow, photos, tmp_path):  # noqa: F811
    done = glow("train", photos, "--family", "realnvp", "--size", 8, 8, "--scales", 2,
                "--residual-blocks", 1, "--hidden-channels", 4, "--batch-size", 8, "--images", 48,
                "--flip", "--out", "run", "--json", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    figure = json.loads(done.stdout)["evaluation"]["mean"]
    assert isinstance(RealNVP.from_pretrained(tmp_path / "run"), RealNVP)
    assert "RealNVP on" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    done = glow("evaluate", "--model", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["evaluation"]["mean"] == figure

    done = glow("sample", "--model", "run", "--count", 2, "--out", "drawn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "drawn" / "0001.png").size == (8, 8)

    image = sorted(photos.iterdir())[0]
    done = glow("reconstruct", image, "--model", "run", "--out", "back", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes_changed"] == 0
