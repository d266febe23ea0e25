"""From a file of a port to a model that the other commands take."""

import json

import pytest
import torch

from glowflow import Glow
from glowflow.cli import main
from tests.interop import originals
from tests.interop.test_port_files import STATES

ASKED = {
    "rosinality": ["--image-size", "4", "4", "--bits", "5"],
    "y0ast": [],
    "chaiyujin": [],
    "normflows": ["--bits", "8", "--black", "0", "--coupling-scale", "sigmoid"],
}


def saved(path, name):
    """A file as the port saves it, and the weights in it."""
    weights = STATES[name]()
    content = weights
    if name == "rosinality":
        content = {f"module.{key}": weight for key, weight in weights.items()}
    if name == "chaiyujin":
        optim = {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": []}
        content = {"global_step": 3, "graph": weights, "optim": optim, "criterion": {}}
    torch.save(content, path)
    return weights


def original(name, weights, x):
    forward = {
        "rosinality": originals.rosinality_forward,
        "normflows": originals.normflows_forward,
    }.get(name)
    log_p, _, _ = forward(weights, x) if forward else originals.flownet_forward(name, weights, x)
    return log_p


@pytest.mark.parametrize("name", ["rosinality", "chaiyujin", "normflows"])
def test_one_command(name, tmp_path, capsys):
    path = tmp_path / "trained.pkg"
    weights = saved(path, name)
    out = tmp_path / "converted"
    assert main(["convert", str(path), "--out", str(out), "--json", *ASKED[name]]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["format"] == name
    assert [line.partition(",")[0].partition(" ")[0] for line in told["left_out"]] == (
        ["global_step", "optim"] if name == "chaiyujin" else []
    )
    model = Glow.from_pretrained(out)
    x = torch.rand(2, 1, 4, 4)
    black = -0.5 if name == "rosinality" else 0.0
    with torch.no_grad():
        expected = original(name, weights, x + black)
        assert (model.log_prob(x - 0.5) - expected).abs().max() / 16 < 1e-4


def test_from_python(tmp_path):
    weights = saved(tmp_path / "glow_model_1.pth", "y0ast")
    model = Glow.from_foreign(tmp_path / "glow_model_1.pth", dtype=torch.float64)
    x, labels = torch.rand(2, 1, 4, 4).double() - 0.5, torch.tensor([1, 0])
    weights = {name: weight.double() for name, weight in weights.items()}
    expected, _, logits = originals.flownet_forward("y0ast", weights, x, labels)
    assert (model.log_prob(x, labels) - expected).abs().max() / 16 < 1e-6
    assert torch.allclose(model.class_scores(x).logits, logits, atol=1e-5)


def test_what_has_to_be_given_and_half_a_file_leave_nothing_behind(tmp_path, capsys):
    path, out = tmp_path / "model.pt", tmp_path / "converted"
    weights = saved(path, "rosinality")
    assert main(["convert", str(path), "--out", str(out), "--bits", "5"]) == 2
    assert "--image-size HEIGHT WIDTH" in capsys.readouterr().err
    weights.popitem()
    torch.save(weights, path)
    assert main(["convert", str(path), "--out", str(out), *ASKED["rosinality"]]) == 2
    assert "lacks blocks.1.prior.conv.bias" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:-500])
    assert main(["convert", str(path), "--out", str(out), *ASKED["rosinality"]]) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["model.pt"]
