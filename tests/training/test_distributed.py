"""Several processes train the run of one: real commands on loopback, gloo."""

import json
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glowflow import Architecture, DataConfig, Glow, GlowConfig, InputError
from glowflow.data.open import open_splits
from glowflow.data.types import ImageData
from glowflow.latents.directions import load_directions
from glowflow.processes import (
    gather_in_order,
    join_process_group,
    max_over_processes,
    on_every_process,
    on_main_process,
    shard,
    sum_over_processes,
)
from glowflow.training.as_yaml import to_yaml
from glowflow.training.checkpoint import list_checkpoints, load_checkpoint
from glowflow.training.loop import train
from tests.children import Child
from tests.conftest import perturb
from tests.data.test_celeba import folder as celeba  # noqa: F401

from .runs import CONFIG, images, losses

LONG = replace(CONFIG, images=400, validation_images=15, validate_every=1e9)
CUT = replace(LONG, accumulate=2, flip=True, shift=1, conditional=True)
CHILD = """
import json, math, os, signal, sys
from pathlib import Path
import torch
from glowflow.cli import main
from glowflow.data.open import open_splits
from glowflow.data.types import Splits
from glowflow.errors import GlowflowError
from glowflow.processes import process_index
from glowflow.training.as_yaml import from_yaml
from glowflow.training.config import TrainConfig
from glowflow.training.loop import train
from glowflow.training.objective import Objective
from tests.training.runs import part

trouble, *arguments = sys.argv[1:]
original, seen = Objective.forward, []
if trouble == "float64":
    torch.set_default_dtype(torch.float64)

def troubled(self, x, labels=None):
    seen.append(1)
    loss, bits = original(self, x, labels)
    if len(seen) == 5 and process_index() == 1:
        if trouble == "NaN":
            return loss * math.nan, bits * math.nan
        if trouble in ("SIGTERM", "SIGKILL"):
            os.kill(os.getpid(), getattr(signal, trouble))
    return loss, bits

Objective.forward = troubled
if arguments[0] == "train":
    sys.exit(main(arguments))
folder, config = arguments
config = from_yaml(TrainConfig, config, "child")
splits = Splits(part(64, 0), part(16, 1), part(16, 2), "blobs", "0")
if config.data.target:
    splits = open_splits(config.data, progress=False)
try:
    trained = train(config, splits, Path(folder), device="cpu", progress=False)
except GlowflowError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
weights = [w.double().sum().item() for w in trained.model.state_dict().values()]
print(json.dumps([trained.step, trained.interrupted, trained.valid_bits_per_dim, weights]))
"""


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def environment(tmp_path):
    return {
        **os.environ,
        "GLOWFLOW_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


def launch(arguments, tmp_path, count=2, machines=1):
    """What each of `count` processes answered: (exit code, stdout, stderr)."""
    on_each = count // machines
    common = environment(tmp_path) | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(on_each),
    }
    started = [
        Child(
            arguments,
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank % on_each)},
            cwd=tmp_path,
        )
        for rank in range(count)
    ]
    return [child.answer() for child in started]


def train_in_two(folder, config, tmp_path, trouble="none"):
    return launch(["-c", CHILD, trouble, folder, to_yaml(config)], tmp_path)


@pytest.fixture
def float64():
    """In float32 a hidden value next to 0 can round to the other side of the ReLU's kink, and
    the gradient of a network as small as this one then jumps by a tenth."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_two_processes_have_the_losses_of_one(splits, tmp_path, float64):
    whole = replace(CUT, accumulate=1)
    trained = train(whole, splits, tmp_path / "one", device="cpu", progress=False)
    answers = train_in_two(tmp_path / "two", CUT, tmp_path, "float64")
    assert [code for code, *_ in answers] == [0, 0], answers
    assert len(losses(tmp_path / "two")) == 50
    assert np.allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=0, atol=1e-9)
    (_, a, said), (_, b, _) = answers
    assert "Warning" not in said
    step, stopped, bits, _ = json.loads(a)
    assert json.loads(b) == json.loads(a)  # the average of the weights, and the validation
    assert (step, stopped) == (50, False)
    assert bits == pytest.approx(trained.valid_bits_per_dim, abs=1e-5)
    assert Glow.from_pretrained(tmp_path / "two" / "best").config == trained.model.config


def test_sigterm_to_one_process_stops_all_after_the_step_and_one_goes_on(splits, tmp_path):
    run = tmp_path / "run"
    config = replace(LONG, memory="reversible", images=160)
    answers = train_in_two(run, config, tmp_path, "SIGTERM")
    assert [json.loads(out)[:2] for _, out, _ in answers] == [[5, True], [5, True]], answers
    assert load_checkpoint(run).step == 5
    assert train(config, splits, run, device="cpu", resume=True, progress=False).step == 20
    train(config, splits, tmp_path / "one", device="cpu", progress=False)
    assert len(losses(run)) == 20
    assert np.allclose(losses(run)[:8], losses(tmp_path / "one")[:8], rtol=0, atol=1e-5)


def test_a_killed_process_does_not_leave_the_others_waiting(tmp_path):
    run = tmp_path / "run"
    (code, _, said), (killed, _, _) = train_in_two(run, LONG, tmp_path, "SIGKILL")
    assert killed == -signal.SIGKILL
    assert code == 2
    assert "another process of this run has ended" in said
    assert [path.name for path in list_checkpoints(run)] == ["000000000.pt"]


def test_nan_in_one_process_stops_all_and_is_said_once(tmp_path):
    np.save(tmp_path / "x.npy", images(40, 0))
    command = ["train", "x.npy", "--levels", 2, "--steps", 2, "--hidden-channels", 8,
               "--batch-size", 8, "--out", "run", "--device", "cpu"]  # fmt: skip
    answers = launch(["-c", CHILD, "NaN", *command], tmp_path)
    assert [code for code, *_ in answers] == [2, 2], answers
    (_, a, said), (_, b, silent) = answers
    assert a == b == ""
    assert said.splitlines()[-1].startswith("glow train: Training stopped at step 5: ")
    assert "Training stopped" not in silent
    assert load_checkpoint(tmp_path / "run").step == 0


def accelerated(command, tmp_path):
    """What each of two machines answered, on which `accelerate launch` was called."""
    port = free_port()
    started = [
        Child(
            ["-m", "accelerate.commands.launch", "--multi_gpu",
             "--num_machines", "2", "--num_processes", "2", "--machine_rank", str(rank),
             "--main_process_ip", "127.0.0.1", "--main_process_port", str(port),
             "--mixed_precision", "no", "--dynamo_backend", "no",
             *command],
            env=environment(tmp_path), cwd=tmp_path,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    return [child.answer() for child in started]


@pytest.mark.parametrize("by", ["rank", pytest.param("accelerate", marks=pytest.mark.slow)])
def test_two_machines(by, tmp_path):
    np.save(tmp_path / "x.npy", images(40, 0))
    command = ["-m", "glowflow", "train", "x.npy", "--levels", 2, "--steps", 2,
               "--hidden-channels", 8, "--batch-size", 8, "--images", 64, "--out", "run",
               "--json", "--log-every", 1, "--device", "cpu"]  # fmt: skip
    if by == "rank":  # what a launcher tells each process
        answers = launch(command, tmp_path, machines=2)
    else:
        answers = accelerated(command, tmp_path)
    assert [code for code, *_ in answers] == [0, 0], answers
    (_, said, _), (_, silent, _) = answers
    assert silent == ""
    facts = json.loads(said)
    assert facts["images"] == 64
    assert facts["best_valid_bits_per_dim"] <= facts["valid_bits_per_dim"]
    assert len(losses(tmp_path / "run")) == 8
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_series_with_conditions_has_the_losses_of_one_process(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 1, 8)).cumsum(2)
    np.savez(tmp_path / "data.npz", x=x, coarse=x[..., ::2], theta=x.mean(2))
    data = DataConfig(data=str(tmp_path / "data.npz"), target="x", grid=1, dtype="float64",
                      condition="coarse,theta")  # fmt: skip
    config = replace(CONFIG, data=data, images=64, validation_images=4, memory="reversible",
                     model=Architecture(levels=1, steps=2, hidden_channels=4))  # fmt: skip
    splits = open_splits(data, cache=tmp_path / "cache", progress=False)
    train(config, splits, tmp_path / "one", device="cpu", progress=False)
    answers = train_in_two(tmp_path / "two", config, tmp_path)
    assert [code for code, *_ in answers] == [0, 0], answers
    one, two = (losses(tmp_path / name) for name in ("one", "two"))
    assert len(one) == 8 and np.allclose(two, one, rtol=0, atol=1e-9)


class TestOneProcess:
    def test_shares_and_sums_are_the_plain_things(self):
        rows = torch.arange(5.0)
        assert torch.equal(gather_in_order(shard(rows), 5), rows)
        assert torch.equal(sum_over_processes(rows), rows)
        assert max_over_processes(1.0, 2.0) == (1.0, 2.0)
        assert on_main_process(lambda: "result") == on_every_process(lambda: "result") == "result"

    def test_errors_pass(self):
        with pytest.raises(ZeroDivisionError):
            on_main_process(lambda: 1 / 0)

    def test_a_batch_has_to_divide_into_its_parts(self, splits, tmp_path):
        with pytest.raises(InputError, match=r"does not divide into 3 equal parts"):
            train(replace(CONFIG, accumulate=3), splits, tmp_path / "run", device="cpu")
        assert not (tmp_path / "run").exists()

    def test_a_numbered_device_is_not_for_several(self, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(InputError, match="leave the number out"):
            join_process_group("cuda:0")


SHARED = """
import json, sys
from glowflow import Glow
from glowflow.evaluation.evaluate import evaluate
from glowflow.latents.codes import flatten
from glowflow.latents.estimation import estimate_by_each
from glowflow.processes import process_group
from tests.training.test_distributed import drawn

folder, count = sys.argv[1], int(sys.argv[2])
model = Glow.from_pretrained(folder)
with process_group("cpu"):
    figures = evaluate(model, drawn(count, 1), train=drawn(40, 2), draws=2, batch_size=4)
    found = estimate_by_each(model, drawn(30, 3), ("mean", "matched", "linear"), batch_size=4)
lengths = {
    f"{kind} {name}": flatten([eps[None] for eps in latents])[0].tolist()
    for kind, directions in found.items()
    for name, latents in directions.latents.items()
}
print(json.dumps([figures.to_dict(), lengths]))
"""


def drawn(count, seed):
    """Images of two classes with two attributes, as bytes."""
    generator = np.random.default_rng(seed)
    bright, wide = generator.random((2, count)) < 0.5
    images = generator.integers(0, 100, (count, 1, 8, 8))
    images += (100 * bright + 50 * wide)[:, None, None, None]
    return ImageData(
        images.astype(np.uint8),
        labels=bright.astype(np.int64),
        class_names=("dark", "bright"),
        attributes=np.stack((bright, wide), axis=1),
        attribute_names=("bright", "wide"),
    )


def assert_alike(found, expected):
    """The same JSON, numbers to 1e-5."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_alike(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_alike(a, b)
    else:
        exact = expected is None or isinstance(expected, str)
        assert found == (expected if exact else pytest.approx(expected, rel=1e-5, abs=1e-6))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    shape = {"image_shape": (1, 8, 8), "levels": 2, "steps": 2, "hidden_channels": 8}
    model = Glow(GlowConfig(**shape, classes=2))
    model.initialize(torch.from_numpy(drawn(64, 0).images))
    folder = tmp_path_factory.mktemp("model")
    perturb(model, 0.05).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("count", [7, 1])  # neither divides by two
def test_images_are_evaluated_and_encoded_once(saved, tmp_path, count):
    one, two = (launch(["-c", SHARED, saved, count], tmp_path, number) for number in (1, 2))
    assert [code for code, *_ in one + two] == [0, 0, 0], one + two
    (figures, directions), *others = (json.loads(out) for _, out, _ in one + two)
    assert figures["images"] == count and len(directions) == 6
    for found, theirs in others:
        assert_alike(found, figures)
        assert theirs.keys() == directions.keys()
        for name, direction in directions.items():
            assert np.allclose(theirs[name], direction, rtol=1e-4, atol=1e-5), name


def test_evaluate_command_in_two_processes(saved, tmp_path):
    data = drawn(41, 1)
    np.savez(tmp_path / "images.npz", images=data.images, labels=data.labels)
    command = ["-m", "glowflow", "evaluate", "--model", saved, "--data", "images.npz", "--json"]
    (_, out, _), (_, nothing, _) = two = launch([*command, "--out", "out"], tmp_path)
    assert [code for code, *_ in two] == [0, 0] and not nothing, two
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == json.loads(out)
    (_, alone, _), *_ = launch(command, tmp_path, 1)
    found, expected = (json.loads(text)["evaluation"] for text in (out, alone))
    assert_alike(found, expected)
    two = launch([*command, "--images", "0"], tmp_path)
    assert [code for code, *_ in two] == [2, 2]
    assert sum("images is 0" in error for _, _, error in two) == 1, two


def test_sample_command_in_two_processes(saved, tmp_path):
    command = ["-m", "glowflow", "sample", "--model", saved, "--count", "3", "--json"]
    (_, out, _), (_, nothing, _) = two = launch([*command, "--out", "two"], tmp_path)
    assert [code for code, *_ in two] == [0, 0] and not nothing, two
    assert json.loads(out)["count"] == 3
    files = sorted((tmp_path / "two").glob("0*.png"))
    seen = np.stack([np.asarray(Image.open(file)) for file in files])
    wanted = Glow.from_pretrained(saved).sample(3, temperature=0.7)[:, 0]
    assert np.array_equal(seen, wanted.numpy())


def test_directions_command_in_two_processes(celeba, tmp_path):  # noqa: F811
    torch.manual_seed(0)
    model = Glow(GlowConfig(image_shape=(3, 8, 8), levels=1, steps=1, hidden_channels=4))
    model.initialize(torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8))
    model.save_pretrained(tmp_path / "model")
    command = ["-m", "glowflow", "directions", "--model", "model", "--data", celeba]
    command += ["--minimum", "2", "--json"]
    for number in (1, 2):
        out = tmp_path / f"{number}.safetensors"
        answers = launch([*command, "--out", out], tmp_path, number)
        assert all(code == 0 for code, *_ in answers), answers
    one, two = (load_directions(tmp_path / f"{n}.safetensors", model) for n in (1, 2))
    assert one.latents.keys() == two.latents.keys() and one.counts == two.counts
    for name, latents in one.latents.items():
        torch.testing.assert_close(two.latents[name], latents)
    answers = launch([*command, "--out", out], tmp_path, 2)
    assert [code for code, *_ in answers] == [2, 2]
    assert sum("exists" in error for _, _, error in answers) == 1, answers
