"""A run is never lost: kills, full disks, cut-off files, signals, the best model."""

import json
import math
import os
import random
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks import kill

from glowflow import CheckpointError, Glow, InputError
from glowflow.files import remove_leftovers, replacing
from glowflow.training.checkpoint import best_so_far, list_checkpoints, load_checkpoint, save_best
from glowflow.training.metrics import read_metrics
from glowflow.training.validation import validate
from tests.children import Child

from .runs import CONFIG, images, losses, run, stop_in


@pytest.mark.parametrize(
    ("times", "steps"), [(2, 25), pytest.param(20, 400, marks=pytest.mark.slow)]
)
def test_killed_runs_go_on_to_the_bit(times, steps, capsys):
    code = kill.main(["--times", str(times), "--steps", str(steps)])
    shown = capsys.readouterr()
    assert code == 0, shown
    assert f"{times} kills, 0 differences." in shown.out


def test_sigterm_leaves_a_checkpoint_of_the_step(splits, tmp_path):
    stop_in(7, tmp_path / "run", splits, CONFIG, signal.SIGTERM)
    assert load_checkpoint(tmp_path / "run").step == 7
    assert Glow.from_pretrained(tmp_path / "run").initialized


def test_lines_that_cross_a_checkpoint_are_the_same_too(splits, tmp_path):
    config = replace(CONFIG, log_every=6)
    run(config, splits, tmp_path / "whole")
    stop_in(9, tmp_path / "cut", splits, config, signal.SIGTERM)
    run(config, splits, tmp_path / "cut", resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_global_random_states_do_not_matter(splits, tmp_path):
    config = replace(CONFIG, flip=True, shift=1, validate_every=1e-9, images=64)

    def scramble(model, images):
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(images + 17)

    run(config, splits, tmp_path / "a")
    run(config, splits, tmp_path / "b", on_validation=scramble)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_leftovers_of_a_killed_process_are_removed(splits, tmp_path):
    folder = tmp_path / "run"
    stop_in(5, folder, splits, CONFIG, signal.SIGTERM)
    left = [
        folder / "checkpoints" / ".000000099.pt.0123abcd.part.pt",
        folder / ".model.safetensors.89abcdef.part.safetensors",
        folder / "best" / ".config.json.00000000.part.json",
    ]
    for path in left:
        path.write_bytes(b"half of ")
    dear = folder / ".my.notes.part2.txt"
    dear.write_text("dear to somebody")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "bits_per')
    assert [line["step"] for line in read_metrics(folder) if "lr" in line] == [1, 2, 3, 4, 5]
    run(CONFIG, splits, folder, resume=True)
    run(CONFIG, splits, tmp_path / "whole")
    assert not any(path.exists() for path in left)
    assert dear.exists()
    assert losses(folder) == losses(tmp_path / "whole")


def test_a_cut_off_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is not JSON"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


@pytest.mark.parametrize("odd", ["3", "null", '{"images": 8}', '{"step": "2"}'])
def test_a_line_that_is_no_line_of_figures_is_named(tmp_path, odd):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{odd}\n{{"step": 3}}\n')
    with pytest.raises(CheckpointError, match=r"Line 2 of .*metrics\.jsonl has no step"):
        read_metrics(tmp_path)


def test_a_folder_of_figures_is_refused_before_anything_is_written(splits, tmp_path):
    run(CONFIG, splits, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    (tmp_path / "run" / "metrics.jsonl").mkdir()
    with pytest.raises(CheckpointError, match="is a folder and not a file of figures"):
        run(replace(CONFIG, images=320), splits, tmp_path / "run", resume=True)
    assert not (tmp_path / "run" / "resumed.jsonl").exists()


@pytest.mark.parametrize("keep", [1, 3])
def test_so_many_checkpoints_are_kept(splits, tmp_path, keep):
    run(replace(CONFIG, validate_every=1e-9, keep=keep), splits, tmp_path / "run")
    names = [path.stem for path in list_checkpoints(tmp_path / "run")]
    assert names == [f"{step:09d}" for step in range(21 - keep, 21)]


def test_the_best_model_stays(splits, tmp_path):
    folder = tmp_path / "run"
    config = replace(CONFIG, validate_every=1e-9, images=160, lr=0.05, warmup_images=0)
    trained = run(config, splits, folder)
    lines = {m["step"]: m for m in read_metrics(folder) if "valid_bits_per_dim" in m}
    step = min(lines, key=lambda s: lines[s]["valid_bits_per_dim"])
    best = lines[step]["valid_bits_per_dim"]
    assert json.loads((folder / "best" / "validation.json").read_text()) == {
        "step": step,
        "valid_bits_per_dim": best,
    }
    assert trained.best == best_so_far(folder) == best
    model = Glow.from_pretrained(folder / "best")
    found = validate(model, splits.valid, limit=config.validation_images, batch_size=64)
    assert found == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("first_map", ["marginals", "interlaced", "whitening"])
def test_the_best_model_is_never_worse_than_the_first_map(splits, tmp_path, first_map):
    folder = tmp_path / "run"
    model = replace(CONFIG.model, first_map=first_map)
    trained = run(replace(CONFIG, model=model, lr=0.2, ema=0.0), splits, folder)
    assert trained.valid_bits_per_dim > trained.best
    assert json.loads((folder / "best" / "validation.json").read_text()) == {
        "step": 0,
        "valid_bits_per_dim": trained.best,
    }
    best = Glow.from_pretrained(folder / "best")
    assert not any(p.any() for n, p in best.named_parameters() if n.endswith("network.last.weight"))
    found = validate(best, splits.valid, limit=CONFIG.validation_images)
    assert found == pytest.approx(trained.best, abs=1e-6)


def test_the_best_model_is_never_worse_than_the_one_started_from(splits, tmp_path):
    start = run(CONFIG, splits, tmp_path / "start")
    config = replace(CONFIG, lr=0.05, warmup_images=0, ema=0.0)
    tuned = run(config, splits, tmp_path / "tuned", start_from=start.model)
    assert tuned.best == pytest.approx(start.valid_bits_per_dim, abs=1e-6)
    assert tuned.valid_bits_per_dim > tuned.best


def test_a_resumed_run_does_not_replace_a_better_model(splits, tmp_path):
    folder = tmp_path / "run"
    trained = stop_in(9, folder, splits, CONFIG, signal.SIGTERM)
    save_best(folder, trained.model, 3, -100.0)
    assert run(CONFIG, splits, folder, resume=True).best == -100.0
    assert best_so_far(folder) == -100.0
    assert best_so_far(tmp_path) == math.inf


def test_both_figures_of_a_validation_are_shown(splits, tmp_path):
    trained = run(CONFIG, splits, tmp_path / "run")
    line = read_metrics(tmp_path / "run")[-1]
    assert line["valid_bits_per_dim"] == trained.valid_bits_per_dim
    assert line["valid_bits_per_dim_last"] == trained.valid_bits_per_dim_last
    assert trained.valid_bits_per_dim != trained.valid_bits_per_dim_last
    options = {"limit": CONFIG.validation_images, "batch_size": 64}
    assert validate(trained.model, splits.valid, **options) == trained.valid_bits_per_dim
    alone = run(replace(CONFIG, ema=0.0), splits, tmp_path / "without")
    assert "valid_bits_per_dim_last" not in read_metrics(tmp_path / "without")[-1]
    assert alone.valid_bits_per_dim == alone.valid_bits_per_dim_last


LIMITED = """
import resource, sys
from pathlib import Path
from glowflow.cli import main
from glowflow.training.metrics import read_metrics
import glowflow.training.state

limit = int(sys.argv[1])
save = glowflow.training.state.save_checkpoint

def later(run, checkpoint, keep):
    if checkpoint.step:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return save(run, checkpoint, keep)

glowflow.training.state.save_checkpoint = later
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("limit", [20_000])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, limit):
    np.save(tmp_path / "x.npy", images(40, 0))
    code, _, said = Child(
        ["-c", LIMITED, limit, "train", "x.npy", "--levels", 2, "--steps", 2,
         "--hidden-channels", 8, "--images", 64, "--out", "run"],
        env={**os.environ, "GLOWFLOW_CACHE": str(tmp_path / "cache"), "COLUMNS": "300"},
        cwd=tmp_path,
    ).answer()  # fmt: skip
    assert code == 2, said
    last = said.splitlines()[-1]
    assert last.startswith("glow train: Cannot write run/")
    assert "(File too large)" in last
    assert "Traceback" not in said
    assert load_checkpoint(tmp_path / "run").step == 0
    assert not list((tmp_path / "run").rglob("*.part*"))
    Glow.from_pretrained(tmp_path / "run")


def test_a_failed_write_leaves_the_file_before(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(InputError, match="No space left"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    with pytest.raises(ZeroDivisionError), replacing(path):
        raise ZeroDivisionError  # which is not the disk's doing
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
    remove_leftovers(tmp_path)
    assert path.exists()


@pytest.mark.parametrize("memory", ["stored", "reversible"])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(splits, tmp_path, memory):
    config = replace(CONFIG, memory=memory, conditional=True, images=80)
    run(config, splits, tmp_path / "whole")
    run(replace(config, accumulate=4), splits, tmp_path / "parts")
    for name in ("bits_per_dim", "grad_norm"):
        whole, parts = (
            [line[name] for line in read_metrics(tmp_path / folder) if name in line]
            for folder in ("whole", "parts")
        )
        assert np.allclose(whole, parts, rtol=1e-5, atol=1e-5)


def test_presets_are_cut_into_parts_of_the_published_size():
    from glowflow.training.presets import PRESETS, preset_config, scaled_lr

    assert preset_config("cifar10").accumulate == 8
    assert preset_config("cifar10", processes=8).accumulate == 1
    assert preset_config("celebahq256").accumulate == 40
    assert preset_config("cifar10").lr == 1e-3
    assert preset_config("cifar10").shift == 3
    for name, preset in PRESETS.items():
        for processes in (1, 2, 4, 5, 8):
            config = preset_config(name, processes=processes)
            assert config.batch_size == preset.batch_size
            assert preset.batch_size // processes // config.accumulate <= preset.part_size
            assert preset.batch_size // processes % config.accumulate == 0
    small = preset_config("cifar10", batch_size=128)
    assert small.lr == pytest.approx(5e-4)
    assert small.batch_size == 128
    assert scaled_lr(1.0, 4, 1) == 2.0
    with pytest.raises(InputError, match="no preset 'cifar11'"):
        preset_config("cifar11")


def name_of_the_first_version(name, last):
    """`splits.L.…`, `top.…` and `classifier.…` for what is in `levels.L.split` since."""
    if ".split." not in name:
        return name
    level, _, rest = name.removeprefix("levels.").partition(".split.")
    return rest.replace("prior.", "top.", 1) if int(level) == last else f"splits.{level}.{rest}"


def as_the_first_version_wrote_it(fields, parameters, last):
    """A checkpoint with the names, the order and the memory layout of the first version."""
    kinds = ("levels", "splits", "top", "classifier")

    def in_order(names):
        old = {name_of_the_first_version(name, last): name for name in names}
        return {name: old[name] for name in sorted(old, key=lambda n: kinds.index(n.split(".")[0]))}

    def permuted(value):
        as_rows = isinstance(value, torch.Tensor) and value.dim() == 4
        return value.contiguous(memory_format=torch.channels_last) if as_rows else value

    numbers = [parameters.index(name) for name in in_order(parameters).values()]
    assert numbers != sorted(numbers)
    state = fields["optimizer"]["state"]
    return {
        **fields,
        **{
            part: {
                old: permuted(fields[part][name]) for old, name in in_order(fields[part]).items()
            }
            for part in ("model", "average")
        },
        "optimizer": {
            **fields["optimizer"],
            "state": {
                old: {key: permuted(value) for key, value in state[number].items()}
                for old, number in enumerate(numbers)
            },
        },
    }


@pytest.mark.parametrize("optimizer", ["adamax", "adamw"])
def test_a_checkpoint_of_the_first_version_goes_on_to_the_bit(splits, tmp_path, optimizer):
    config = replace(CONFIG, conditional=True, optimizer=optimizer)
    whole = run(config, splits, tmp_path / "whole")
    trained = stop_in(9, tmp_path / "half", splits, config)
    parameters = [name for name, _ in trained.model.named_parameters()]
    newest = list_checkpoints(tmp_path / "half")[-1]
    fields = torch.load(newest, weights_only=True)
    torch.save(as_the_first_version_wrote_it(fields, parameters, last=1), newest)
    resumed = run(config, splits, tmp_path / "half", resume=True)
    assert losses(tmp_path / "half") == losses(tmp_path / "whole")
    expected = whole.model.state_dict()
    assert all(torch.equal(w, expected[name]) for name, w in resumed.model.state_dict().items())
