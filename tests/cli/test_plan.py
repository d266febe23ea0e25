"""`glow plan`, as a person calls it."""

import json
from dataclasses import replace

import pytest

from glowflow.cli import main
from glowflow.training.as_yaml import to_yaml
from glowflow.training.config import TrainConfig
from glowflow.training.presets import FAMILIES

SMALL = ["--levels", "2", "--steps", "2", "--hidden-channels", "8", "--size", "16", "16"]


def facts(capsys, *arguments):
    assert main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_preset_on_a_device_that_is_not_here(capsys):
    assert main(["plan", "--preset", "celebahq256", "--device", "h100"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    assert "celebahq256 on h100" in shown.out
    for said in ("175,099,620 parameters", "reversible", "--accumulate", "35% of the",
                 "1,000,000 images"):  # fmt: skip
        assert said in " ".join(shown.err.split()), said


def test_the_figures_for_a_script(capsys, tmp_path):
    plan = facts(capsys, "--preset", "cifar10", "--device", "rtx4090", "--devices", "4",
                 "--out", str(tmp_path / "plan"))  # fmt: skip
    assert plan["parameters"] == 44_603_604
    assert plan["batch"] == 512
    stored, reversible = plan["modes"]["stored"], plan["modes"]["reversible"]
    for mode in (stored, reversible):
        assert mode["at_once"] * mode["accumulation"] >= 128
        assert mode["peak"] <= plan["usable_memory"]
    assert reversible["needs"]["activations"] < stored["needs"]["activations"] / 10
    assert stored["flops"] == 3 * plan["forward_flops"]
    assert json.loads((tmp_path / "plan" / "plan.json").read_text(encoding="utf-8")) == plan
    alone = facts(capsys, "--preset", "cifar10", "--device", "rtx4090")
    assert alone["modes"]["stored"]["images_per_second"] < stored["images_per_second"]


def test_flags_and_a_configuration_file(capsys, tmp_path):
    by_flags = facts(capsys, *SMALL, "--batch-size", "6", "--device", "h100")
    assert (by_flags["batch"], by_flags["model"]["image_shape"]) == (6, [3, 16, 16])
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(TrainConfig(batch_size=6)), encoding="utf-8")
    assert facts(capsys, "--config", str(file), *SMALL, "--device", "h100") == by_flags


def test_a_realnvp_is_planned(capsys, tmp_path):
    shape = ["--size", "16", "16", "--device", "h100"]
    small = ["--family", "realnvp", "--scales", "2", "--residual-blocks", "1", *shape]
    assert main(["plan", *small]) == 0
    shown = capsys.readouterr()
    assert "--memory stored" in shown.out
    assert "2 scales" in shown.err
    assert "reversible" not in shown.err
    plan = facts(capsys, *small)
    assert plan["model"]["residual_blocks"] == 1
    assert list(plan["modes"]) == ["stored"]
    file = tmp_path / "run.yaml"
    model = replace(FAMILIES["realnvp"].model, scales=2, residual_blocks=1)
    file.write_text(to_yaml(replace(FAMILIES["realnvp"], model=model)), encoding="utf-8")
    assert facts(capsys, "--config", str(file), *shape) == plan


def test_the_processor_here_is_timed(capsys):
    plan = facts(capsys, *SMALL, "--device", "cpu")
    assert plan["device"] == "cpu"
    assert len(plan["flops_per_second"]) == 2
    assert plan["modes"]["stored"]["seconds"] > 0


def test_a_device_by_its_number(capsys):
    plan = facts(capsys, *SMALL, "--device", "cpu:0")
    assert plan["device"] == "cpu:0"
    assert plan["usable_memory"] > 0 and plan["modes"]["stored"]["seconds"] > 0


def test_a_run_that_does_not_fit_says_so(capsys):
    assert main(["plan", "--size", "4096", "4096", "--hidden-channels", "512",
                 "--device", "l4"]) == 0  # fmt: skip
    assert "does not fit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "h1000", *SMALL], "no figures of it"),
        (["--preset", "cifar11"], "no preset"),
        (["--device", "h100"], "--size"),
        (["--device", "h100", "--devices", "17", *SMALL], "1 to 16"),
        (["--device", "h100", "--size", "18", "18"], "cannot be halved"),
        (
            ["--device", "h100", "--grid", "3", "--size", "16", "16"],
            "planned from a file",
        ),
    ],
)
def test_bad_input_is_one_sentence(capsys, arguments, said):
    assert main(["plan", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1
