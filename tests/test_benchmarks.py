"""The benchmark: its arithmetic, what its contenders do, and the command on tiny shapes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import contenders as contenders_module
from benchmarks import speedrun
from benchmarks.__main__ import main
from benchmarks.contenders import (
    MODES,
    NORMFLOWS,
    Bare,
    Flow,
    Setting,
    build,
    contender_names,
    ours,
)
from benchmarks.device import Device, read_cpuinfo
from benchmarks.measure import (
    MeasurementError,
    peak_memory_in_a_process,
    time_rounds,
)
from benchmarks.results import Memory, Ratio, Report, Target, Timing, slug, speed_ratio
from PIL import Image

from glowflow import Glow, GlowConfig
from glowflow.data.patches import Grids
from glowflow.data.types import ImageData
from glowflow.nn.coupling_network import CouplingNetwork

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
TINY = Setting(size=16, hidden=4, batch=2)
DEVICE = Device("Some CPU @ 2.0 GHz", "cpu", 2, "2.13.0", "AVX2", None)
STORED, REVERSIBLE = ours("float32-stored"), ours("float32-reversible")


def timing(contender, steps, seconds, measure="train"):
    return Timing(contender, steps, measure, tuple(seconds), warm_up=99.0)


def report(timings=(), memory=(), steps=(4, 8, 32), setting=None):
    return Report(DEVICE, setting or Setting(), steps, list(timings), list(memory))


def row(measured, start):
    return next(ratio for ratio in measured.ratios() if ratio.name.startswith(start))


def test_a_ratio_of_speeds_is_the_median_of_the_rounds_ratios():
    over, under = [1.0, 4.0, 5.0], [3.0, 4.0, 20.0]  # their medians' ratio is 1
    assert speed_ratio(over, under) == 3.0
    with pytest.raises(ValueError):
        speed_ratio([1.0, 2.0], [1.0])


def test_the_median_leaves_the_warm_up_out():
    assert timing("a", 4, [3.0, 1.0, 2.0]).median == 2.0


def test_the_bare_figure_is_that_of_the_faster_memory_format():
    measured = report(
        [
            timing("bare float32 contiguous", 8, [1.0, 1.0, 9.0]),
            timing("bare float32 channels_last", 8, [2.0, 2.0, 2.0]),
            timing("bare bf16 contiguous", 8, [0.1, 0.1, 0.1]),
            timing(STORED, 8, [2.0, 2.0, 9.0]),
        ]
    )
    assert measured.timing("bare float32", 8, "train").contender == "bare float32 contiguous"
    ratio = row(measured, "training images/s, float32, stored / bare")
    assert ratio.values == {8: 0.5}
    assert ratio.met is False
    names = ["bare float32 contiguous", "bare float32 channels_last", STORED, REVERSIBLE]
    assert measured.fastest(names, 8) == ["bare float32 contiguous", STORED]


def test_a_target_is_judged_at_its_depth_or_at_every_depth():
    assert Ratio("r", {4: 0.1, 8: 0.95}, Target(0.93), judged_at=8).met is True
    assert Ratio("r", {4: 0.1, 8: 0.95}, Target(0.93)).met is False
    assert Ratio("r", {4: 0.1}, Target(0.93), judged_at=8).met is None
    assert Ratio("r", {4: 0.1}).met is None
    assert Ratio("r", {32: 1.2}, Target(1.1, at_least=False)).met is False
    assert Ratio("r", {32: 1.1}, Target(1.1, at_least=False)).met is True


def test_sampling_is_held_against_the_bare_forward_pass():
    measured = report(
        [
            timing("bare float32 contiguous", 4, [1.0], "forward"),
            timing("bare float32 contiguous", 4, [7.0], "train"),
            timing(STORED, 4, [2.0], "sample"),
        ]
    )
    assert row(measured, "sampling images/s / bare").values == {4: 0.5}


def test_growth_with_depth_of_time_and_memory():
    measured = report(
        [timing(STORED, 4, [1.0, 3.0, 1.0]), timing(STORED, 32, [8.0, 8.0, 2.0])],
        [
            Memory(REVERSIBLE, 4, 100),
            Memory(REVERSIBLE, 32, 105),
            Memory(NORMFLOWS, 32, 1050),
            Memory(NORMFLOWS, 4, None),
        ],
    )
    time, growth = (
        row(measured, "time a step, K=32 / K=4"),
        row(measured, "peak memory: reversible K"),
    )
    assert time.values == {32: 8.0}
    assert str(time.target) == "≤ 8.20"
    assert growth.values == {32: 1.05}
    assert growth.met is True
    share = row(measured, "peak memory: reversible / normflows")
    assert share.values == {32: 0.1}
    assert share.met is True


def test_targets_are_for_the_standard_setting_and_depths():
    timings = [timing(STORED, 2, [1.0]), timing(STORED, 4, [2.0])]
    other_depths = row(report(timings, steps=(2, 4)), "time a step, K=4 / K=2")
    assert other_depths.values == {4: 2.0}
    assert other_depths.target is None
    assert all(ratio.target is None for ratio in report(timings, setting=TINY).ratios())


def test_what_was_not_measured_is_shown_as_missing():
    page = report().markdown()
    assert "| training images/s, bf16 / normflows float32 | ≥ 2.00 | — | — | — | — |" in page


def test_a_device_name_becomes_a_file_name():
    assert slug("Some CPU (R) @ 2.0 GHz") == "some-cpu-r-2-0-ghz"
    assert slug("™") == "unknown"


def test_the_first_processor_is_read(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("model name\t: One\nflags\t\t: a amx_bf16\n\nmodel name\t: Two\n")
    assert read_cpuinfo(path) == {"model name": "One", "flags": "a amx_bf16"}
    assert read_cpuinfo(tmp_path / "absent") == {}


def test_the_bare_nets_have_the_channels_of_every_coupling():
    model = Glow(GlowConfig(image_shape=(3, 16, 16), levels=3, steps=2, hidden_channels=4))
    expected = []

    def note(network, inputs, output):
        expected.append((tuple(inputs[0].shape), tuple(output.shape)))

    for network in (m for m in model.modules() if isinstance(m, CouplingNetwork)):
        network.register_forward_hook(note)
    model.log_prob(torch.rand(2, 3, 16, 16) - 0.5)
    bare = build("bare float32 channels_last", TINY, 2, CPU)
    found = [(tuple(x.shape), tuple(gradient.shape)) for _, x, gradient in bare.nets]
    assert found == expected
    assert [[tuple(w.shape) for w in weights] for weights, _, _ in bare.nets[::2]] == [
        [(4, 6, 3, 3), (4, 4, 1, 1), (12, 4, 3, 3)],
        [(4, 12, 3, 3), (4, 4, 1, 1), (24, 4, 3, 3)],
        [(4, 24, 3, 3), (4, 4, 1, 1), (48, 4, 3, 3)],
    ]
    assert all(
        weight.is_contiguous(memory_format=torch.channels_last) for weight in bare.parameters
    )


def everyone():
    return contender_names(list(MODES))[0]


@pytest.mark.parametrize("name", [n for n in everyone() if not n.endswith("compile")])
def test_training_gives_every_weight_a_gradient_and_inference_none(name):
    contender = build(name, TINY, 1, CPU)
    contender.forward()
    if isinstance(contender, Flow):
        contender.prepare(training=False)
        contender.sample(2)
        contender.encode_one()
        contender.prepare(training=True)
    assert all(parameter.grad is None for parameter in contender.parameters)
    contender.train()
    gradients = [parameter.grad for parameter in contender.parameters]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)
    moved = sum(float(g.float().abs().sum()) > 0 for g in gradients)
    assert moved > 0.9 * len(gradients)


def test_normflows_has_the_same_couplings():
    pytest.importorskip("normflows")

    def kernels(name):
        parameters = build(name, TINY, 2, CPU).parameters
        return sorted(tuple(w.shape) for w in parameters if w.ndim == 4 and w.shape[0] > 1)

    assert kernels(NORMFLOWS) == kernels("bare float32 contiguous")


def test_the_same_name_builds_the_same_weights():
    first, second = (build(STORED, TINY, 1, CPU).parameters for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_without_normflows_a_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(contenders_module, "find_spec", lambda name: None)
    names, skipped = contender_names(["float32-stored"])
    assert NORMFLOWS not in names
    assert len(skipped) == 1
    assert "pip install" in skipped[0]


class Failing(Bare):
    def forward(self):
        raise RuntimeError("out of memory\nand more")


def test_rounds_interleave_and_leave_out_who_fails_in_the_warm_up():
    names = ["bare float32 contiguous", STORED]
    taking_part = {name: build(name, TINY, 1, CPU) for name in names}
    taking_part["failing"] = Failing(TINY, 1, torch.float32, torch.contiguous_format, CPU)
    notes = []
    timings, failed = time_rounds(taking_part, TINY, 1, 2, CPU, notes.append)
    assert failed == ["failing at K=1: out of memory"]
    assert {t.contender for t in timings} == set(names)
    assert {t.measure for t in timings if t.contender == names[0]} == {"train", "forward"}
    assert {t.measure for t in timings if t.contender == STORED} > {"sample one", "train+optimizer"}
    assert all(len(t.seconds) == 2 and min(t.seconds) > 0 for t in timings)
    training = [line.split(", ")[1].split(":")[0] for line in notes if ": train," in line]
    assert training == [names[0], STORED, "failing", STORED, names[0], names[0], STORED]
    gradients = [p.grad for contender in taking_part.values() for p in contender.parameters]
    assert gradients and all(gradient is None for gradient in gradients)


def test_stored_activations_are_seen_in_the_peak_memory_of_a_process(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one_map = 4 * 4 * 16 * 16 * 256  # bytes of a hidden layer of the first level
    setting = Setting(hidden=256, batch=4)
    peak = peak_memory_in_a_process(STORED, setting, 4, CPU)
    if peak is None:
        pytest.skip("this system does not say how much memory a process has")
    assert 4 * 2 * one_map < peak < 40 * one_map


def test_a_failed_process_is_named(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho Traceback >&2\necho out of memory >&2\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(MeasurementError, match=f"peak memory of {STORED} at K=1: out of memory"):
        peak_memory_in_a_process(STORED, TINY, 1, CPU)


def quick(out, *arguments):
    return ["--quick", "--device", "cpu", "--out", str(out), *arguments]


def test_the_command_writes_figures_a_table_and_a_plot(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    # A process takes seconds to start: one is measured above.
    monkeypatch.setattr("benchmarks.__main__.peak_memory_in_a_process", lambda *_: 2**20)
    modes = ("float32-stored", "float32-reversible")
    code = main(quick(tmp_path, "--modes", *modes, "--hidden", "4"))
    out, error = capsys.readouterr()
    assert code == 0, error
    data, page, picture = (next(tmp_path.glob(f"benchmark-*.{e}")) for e in ("json", "md", "png"))
    rounds = next(tmp_path.glob("rounds-*.json"))
    assert len(list(tmp_path.iterdir())) == 4

    measured = json.loads(data.read_text(encoding="utf-8"))
    assert measured["device"]["kind"] == "cpu"
    assert measured["device"]["name"] in page.read_text(encoding="utf-8")
    assert slug(measured["device"]["name"]) in data.name
    names, skipped = contender_names(modes)
    assert measured["skipped"] == skipped
    assert {t["contender"] for t in measured["timings"]} == set(names)
    assert {t["steps"] for t in measured["timings"]} == {1, 2}
    assert all(t["rounds"] == 2 for t in measured["timings"])
    assert all(t["lowest"] <= t["median"] <= t["highest"] for t in measured["timings"])
    timed = json.loads(rounds.read_text(encoding="utf-8"))
    assert all(len(t["seconds"]) == 2 for t in timed)
    assert len(timed) == len(measured["timings"])
    assert {m["contender"] for m in measured["memory"]} >= {STORED, REVERSIBLE}
    ratios = {ratio["name"]: ratio["values"] for ratio in measured["ratios"]}
    assert set(ratios["training images/s, reversible / stored"]) == {"1", "2"}
    assert set(ratios["time a step, K=2 / K=1"]) == {"2"}

    assert "| training images/s, float32, stored / bare nets in float32 |" in page.read_text()
    assert picture.name in page.read_text()
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
    assert "training images/s, reversible / stored" in out
    assert str(data) in out
    assert f"K=2 peak memory, {STORED}" in error


def interrupt(process):
    """Ctrl-C until it ends: Python drops one that arrives while it frees an object."""
    for _ in range(15):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=10)
    process.kill()
    return process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent otherwise there")
def test_ctrl_c_ends_with_one_line_and_leaves_nothing(tmp_path):
    arguments = quick(tmp_path, "--repeats", "100000", "--modes", "float32-stored")
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = process.stderr.readline()
    out, error = interrupt(process)
    assert "K=1 warm-up" in first or "Not measured" in first
    assert process.returncode == 130, error
    assert error.splitlines()[-1] == "Interrupted: nothing was written."
    assert "Traceback" not in error
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_stops_the_run_before_it_starts(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--quick", "--out", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--modes", "float16"], ["--device", "tpu"]])
def test_wrong_options_are_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        main(wrong)
    assert wrong[0] in capsys.readouterr().err


def test_a_speedrun_writes_what_each_recipe_reached(tmp_path, capsys):
    race = ["speedrun", "--data", "digits", "--size", "8", "--at", "0.1", "--seeds", "1"]
    assert main([*race, "--images", "8", "--threads", "1", "--out", str(tmp_path)]) == 0
    table = (tmp_path / "speedrun-digits.md").read_text()
    runs = json.loads((tmp_path / "speedrun-digits.json").read_text())["runs"]
    first_maps = {row["contender"]: row["first_map"] for row in runs}
    assert first_maps["the official recipe"] == "none"
    assert first_maps["defaults"] == "marginals"
    for row in runs:
        ((seconds, _, bits),) = row["checks"]
        assert 0 < row["start"][0] <= seconds and seconds >= 0.1
        assert f"{bits:.3f}" in table
        assert f"{row['start'][2]:.3f} after" in table


def test_a_speedrun_on_photographs_with_a_recipe_of_ones_own(tmp_path, capsys):
    photographs = np.random.default_rng(0).integers(0, 256, (4, 40, 48, 3), np.uint8)
    for i, photograph in enumerate(photographs):
        Image.fromarray(photograph).save(tmp_path / f"{i}.png")
    race = ["speedrun", "--data", str(tmp_path), "--fit", "patches", "--size", "8", "--steps", "1"]
    race += ["--held-out", "0.3", "--at", "0.1", "--seeds", "1", "--images", "8", "--threads", "1"]
    best = "--hidden-channels 8 --lr 0.01 --first-map none"
    assert main([*race, "--best", best, "--out", str(tmp_path / "out")]) == 0
    (written,) = (tmp_path / "out").glob("*.json")
    results = json.loads(written.read_text())
    recipe = results["recipes"][speedrun.BEST]
    assert (recipe["model"]["hidden_channels"], recipe["model"]["steps"], recipe["lr"]) == (
        8,
        1,
        0.01,
    )
    assert recipe["model"]["first_map"] == "none" and recipe["batch_size"] == 16
    assert results["runs"][-1]["contender"] == speedrun.BEST
    assert best in written.with_suffix(".md").read_text()


def test_squares_of_a_speedrun_are_of_all_photographs_and_train_at_random_places():
    grid = np.stack([np.repeat([0, 1, 2], 4), np.tile([0, 0, 1, 1], 3), np.tile([0, 1], 6)], axis=1)
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), np.uint8)
    data = ImageData(images, patches=grid)
    assert torch.equal(speedrun.test_images(data, 3), torch.from_numpy(images[[0, 5, 11]]))
    taken = speedrun.taken(data, Grids.of(grid), np.arange(12), np.random.default_rng(1))
    assert taken.shape == images.shape and not np.array_equal(taken, images)
    whole = ImageData(images)
    first = speedrun.taken(whole, None, np.arange(3), np.random.default_rng(1))
    assert np.array_equal(first, images[:3])
    assert torch.equal(speedrun.test_images(whole, 3), torch.from_numpy(images[:3]))


def test_the_peer_is_overtaken_at_the_first_check_that_is_as_good():
    peer = {"contender": speedrun.PEER, "start": (1, 0, 9.0), "checks": [(5, 1, 8.0), (10, 2, 6.0)]}
    ours = {"contender": "defaults", "start": (2, 0, 7.0), "checks": [(5, 1, 6.0), (10, 2, 5.0)]}
    worse = {**ours, "checks": [(5, 1, 6.5), (10, 2, 6.2)]}
    goals = {0: peer["checks"][-1][2]}
    for row, found in ((peer, "10 s"), (ours, "5 s"), (worse, "–")):
        assert speedrun.reached([{**row, "seed": 0}], goals) == found
