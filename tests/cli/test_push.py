"""`glow push`, and the commands on what it has sent."""

import json

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from glowflow import Glow, GlowConfig, load_model
from glowflow.cli import main
from glowflow.data.config import DataConfig
from glowflow.evaluation.calibration import Calibration, save_calibration
from glowflow.latents.directions import Directions, save_directions
from glowflow.models.companions import identity
from glowflow.models.training_data import TrainingData
from glowflow.training.as_yaml import to_yaml
from glowflow.training.config import TrainConfig
from tests.conftest import perturb
from tests.hub_server import READ, WRITE

EVALUATION = {"mean": 3.21, "standard_error": 0.043, "images": 500, "draws": 8, "bits": 8,
              "dataset": "", "what": "held-out images"}  # fmt: skip


@pytest.fixture
def glow(hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITE)

    def call(*arguments, code=0):
        assert main([*map(str, arguments), "--json"]) == code
        shown = capsys.readouterr()
        return json.loads(shown.out) if not code else shown.err.splitlines()[-1]

    return call


@pytest.fixture
def run(tmp_path):
    """A run's folder with all that goes along, trained on a folder of this machine."""
    folder = tmp_path / "runs" / "mine"
    config = GlowConfig(image_shape=(3, 8, 8), levels=2, steps=1, hidden_channels=4)
    model = perturb(Glow(config), 0.02).eval()
    photos = str(tmp_path / "private" / "photos")
    model.trained_on = TrainingData(source=photos, size=(8, 8), channels=3, images=(80, 10, 10))
    model.save_pretrained(folder)
    mine = identity(model)
    latents = tuple(torch.randn(shape) for shape in model.latent_shapes)
    counts = {"Smiling": (3, 4)}
    directions = Directions({"Smiling": latents}, "mean", mine, counts, source="faces")
    save_directions(folder / "directions.safetensors", directions)
    calibration = Calibration(np.linspace(-900.0, -700.0, 30), np.linspace(1e3, 2e3, 30), 1, mine)
    save_calibration(folder / "calibration.safetensors", calibration)
    recipe = TrainConfig(data=DataConfig(data=photos, size=(8, 8)))
    (folder / "train.yaml").write_text(to_yaml(recipe))
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    return folder


def sent(hub, name="me/mine"):
    repo = hub.repos[name]
    files = repo.commits[repo.branches["main"]]
    return {path: content for path, content in files.items() if path != ".gitattributes"}


def test_a_run_goes_to_the_hub_and_commands_take_its_name(glow, hub, run, tmp_path):
    facts = glow("push", run, "me/mine", "--license", "mit")
    assert facts["url"].startswith(f"{hub.address}/me/mine/commit/")
    assert facts["left_out"] == []
    assert set(sent(hub)) == set(facts["files"]) == {
        "README.md", "calibration.safetensors", "config.json", "directions.safetensors",
        "edits.png", "evaluation.json", "model.safetensors", "samples.png", "train.yaml",
    }  # fmt: skip
    own = load_model(run).sample(2, temperature=0.7, seed=0)
    assert glow("sample", "--model", "me/mine", "--count", 2, "--out", "drawn")["count"] == 2
    drawn = np.stack([np.asarray(Image.open(f"drawn/000{n}.png")) for n in range(2)])
    assert np.array_equal(drawn, own.permute(0, 2, 3, 1).numpy())
    Image.fromarray(drawn[0]).save("me.png")
    how = ["--model", "me/mine", "--attribute", "Smiling", "--amount", 0.5]
    assert glow("edit", "me.png", *how, "--out", "edit")["bytes_changed"] > 0
    scored = glow("score", "me.png", "--model", "me/mine@main", "--out", "scores")
    assert scored["calibration_images"] == 30


def test_nothing_says_where_the_data_lay(glow, hub, run, tmp_path):
    glow("push", run, "me/mine")
    assert not any(b"private" in content for content in sent(hub).values())
    assert yaml.safe_load(sent(hub)["train.yaml"])["data"]["data"] == "photos"


def test_the_card(glow, run):
    glow("push", run, "me/mine", "--dry-run", "--out", "out", "--license", "cc-by-4.0",
         "--data-license", "CC0, from the museum")  # fmt: skip
    card = ModelCard.load("out/README.md")
    head = card.data.to_dict()
    assert head["library_name"] == "glowflow"
    assert head["pipeline_tag"] == "unconditional-image-generation"
    assert head["license"] == "cc-by-4.0"
    assert "datasets" not in head
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("bits_per_dimension", 3.21)
    for part in (
        "**3.210 ± 0.043 bits/dim** on 500 held-out images (8 draws of dequantisation noise",
        "(3 x 8 x 8 = 192 an image), of 8 bits.",
        "| source | photos |",
        "| licence of the images | CC0, from the museum |",
        "![samples at temperature 0.7](samples.png)",
        "![samples moved along attributes](edits.png)",
        'load_model("me/mine")',
        "not an anomaly score by itself",
        "batch_size:",
    ):
        assert part in card.text, part
    for name in ("samples.png", "edits.png"):
        Image.open(f"out/{name}").verify()


def test_what_was_not_measured_is_not_claimed(glow, run):
    (run / "evaluation.json").unlink()
    (run / "train.yaml").unlink()
    glow("push", run, "me/mine", "--dry-run", "--out", "out")
    card = ModelCard.load("out/README.md")
    assert "Bits per dimension: not measured." in card.text
    assert "Not recorded." in card.text
    assert not card.data.eval_results and "license" not in card.data.to_dict()
    assert "| licence of the images | not stated" in card.text


def test_data_of_the_hub_are_linked(glow, run):
    model = load_model(run)
    model.trained_on = TrainingData(source="hub:someone/birds@v2")
    model.save_pretrained("other")
    glow("push", "other", "me/mine", "--dry-run", "--out", "out")
    assert ModelCard.load("out/README.md").data.to_dict()["datasets"] == ["someone/birds"]


def test_another_evaluation_goes_along_without_its_paths(glow, hub, run):
    evaluation = {"model": "/private/run", "skipped": ["/private/a.png"],
                  "evaluation": {**EVALUATION, "mean": 3.1}}  # fmt: skip
    (run / "more.json").write_text(json.dumps(evaluation))
    glow("push", run, "me/mine", "--evaluation", run / "more.json")
    assert json.loads(sent(hub)["evaluation.json"])["mean"] == 3.1
    assert b"3.100" in sent(hub)["README.md"]
    (run / "more.json").write_text('{"mean": "low"}')
    said = glow("push", run, "me/mine", "--evaluation", run / "more.json", code=2)
    assert "more.json has no figures of glow evaluate" in said


def test_companions_of_another_model_stay(glow, hub, run):
    glow("push", run, "me/mine")
    model = load_model(run)
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
    model.save_pretrained(run)
    facts = glow("push", run, "me/mine")
    assert facts["left_out"] == [
        "directions.safetensors is of another model",
        "calibration.safetensors is of another model",
    ]
    assert not {"directions.safetensors", "edits.png"} & set(sent(hub))
    assert torch.equal(load_model("me/mine").sample(1), model.sample(1))


def test_the_best_model_of_a_run(glow, hub, run):
    """It has the run's recipe, and none of the figures of the last one."""
    perturb(load_model(run)).save_pretrained(run / "best")
    glow("push", run / "best", "me/mine")
    assert "train.yaml" in sent(hub)
    assert not {"evaluation.json", "directions.safetensors"} & set(sent(hub))


def test_a_branch_and_a_private_repository(glow, hub, run):
    glow("push", run, "me/mine", "--private", "--revision", "v2", "--message", "Second")
    repo = hub.repos["me/mine"]
    assert repo.private and not sent(hub) and repo.messages[1:] == ["Second"]
    assert glow("sample", "--model", "me/mine@v2", "--count", 1, "--out", "drawn")["count"] == 1
    assert "has no config.json" in glow("sample", "--model", "me/mine", "--out", "x", code=2)


def test_a_dry_run_asks_nobody(glow, hub, run, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    facts = glow("push", run, "me/mine", "--dry-run", "--out", "out")
    assert facts["url"] is None and not hub.asked
    assert torch.equal(load_model("out").sample(2), load_model(run).sample(2))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "me/mine"], "There is no folder nowhere: give that of a run."),
        (["RUN", "mine"], "mine is no name on the hub: give organisation/name."),
        (["RUN", "me/mine", "--out", "x"], "--out is for --dry-run"),
        (["RUN", "me/mine", "--evaluation", "x.json"], "There is no file x.json"),
        (["RUN", "me/mine", "--revision", "v2", "--create-pr"], "goes to main, and not to v2"),
        (["RUN", "me/my model"], "'me/my model' is no name on the hub"),
        (["RUN", "me/mine", "--revision", "a b"], "'a b' is no name of a branch"),
        (["RUN", "me/mine", "--message", " "], "commit_message is empty"),
    ],
)
def test_what_cannot_be(glow, hub, run, arguments, said):
    assert said in glow("push", *[run if each == "RUN" else each for each in arguments], code=2)
    assert not hub.repos


@pytest.mark.parametrize(
    "arguments", [["me/x.git"], ["me/x", "--revision", "v2", "--create-pr"], ["me/x", "--message="]]
)
def test_a_dry_run_refuses_what_a_push_would(glow, run, tmp_path, arguments):
    glow("push", run, *arguments, "--dry-run", "--out", "out", code=2)
    assert not (tmp_path / "out").exists()


def test_a_token_that_may_only_read(glow, hub, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ)
    said = glow("push", run, "me/mine", code=2)
    assert said.startswith("glow push: The hub does not let this token make me/mine (403): log in")
