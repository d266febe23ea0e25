"""`glow export` on the command line."""

import json

import pytest
import torch

from glowflow import Glow, GlowConfig
from glowflow.cli import main
from glowflow.interop import comparison


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "SECONDS", 0.0)
    model = Glow(GlowConfig(image_shape=(1, 4, 4), levels=1, steps=1, hidden_channels=4))
    model.save_pretrained(tmp_path / "raw")
    model.initialize(torch.randint(0, 256, (16, 1, 4, 4), dtype=torch.uint8))
    model.save_pretrained(tmp_path / "model")
    return tmp_path


def test_it_writes_compares_and_says_so(saved, capsys):
    out = saved / "out"
    command = ["export", str(saved / "model"), "--format", "torch", "--out", str(out), "--json"]
    assert main(command) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["close"] and facts["bytes_that_differ"] == 0 < facts["bytes_compared"]
    assert facts["bytes_of_files"] == {
        f"{name}.pt2": (out / f"{name}.pt2").stat().st_size
        for name in ("decode", "encode", "log_prob")
    }
    assert {time["program"] for time in facts["times"]} == {"encode", "decode", "log_prob"}
    meta = json.loads((out / "meta.json").read_text())
    assert meta["programs"]["decode"]["inputs"] == [
        {"name": "latent1", "dtype": "float32", "shape": ["batch", 4, 2, 2]}
    ]
    assert main(command) == 2
    assert "not empty" in capsys.readouterr().err


def test_programs_that_are_off_end_with_1(saved, capsys, monkeypatch):
    monkeypatch.setattr(comparison, "TOLERANCE", 0.0)
    monkeypatch.setattr(comparison, "ROUNDING", 0.0)
    out = str(saved / "out")
    assert main(["export", str(saved / "model"), "--format", "torch", "--out", out]) == 1
    shown = capsys.readouterr().out
    assert "it is not the model" in shown and "batch 64" in shown


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (["raw", "--format", "torch"], "has seen no images"),
        (["model", "--format", "pickle"], "--format"),
        (["nowhere", "--format", "torch"], "There is no model at"),
        (["model", "--format", "torch", "--directions", "no.safetensors"], "There is no file"),
        (["model", "--format", "torch", "--device", "cuda"], "leave --device out"),
    ],
)
def test_refusals_leave_nothing(saved, capsys, monkeypatch, rest, said):
    monkeypatch.chdir(saved)
    assert main(["export", *rest, "--out", "out"]) == 2
    assert said in capsys.readouterr().err
    assert not (saved / "out").exists()
