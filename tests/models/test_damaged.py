"""Files of models that are damaged or made up: each is refused in a sentence, or works.

More of them: `python -m tests.fuzzing.saved 20000 7`.
"""

import json
import resource
import subprocess
import sys
import tracemalloc

import pytest
import torch
from safetensors.torch import save_file

from glowflow import CheckpointError, Glow, GlowConfig, RealNVP, RealNVPConfig, load_model
from tests.fuzzing.saved import MOST, World, fault, memory


@pytest.mark.parametrize("cases", [800, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_files_end_in_a_sentence_or_work(tmp_path, monkeypatch, cases):
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path)
    before = memory()
    assert not [each for n in range(cases) if (each := fault(world, 11, n)) is not None]
    assert memory() - before < MOST
    assert not (tmp_path / "hacked").exists()


HUGE = [
    (Glow, {"hidden_channels": 65_536}),
    (Glow, {"steps": 10_000}),
    (Glow, {"image_shape": [65_536, 8, 8]}),
    (Glow, {"image_shape": [65_536, 8, 8], "permutation": "plain"}),
    (Glow, {"image_shape": [3, 65_536, 65_536], "levels": 16}),
    (Glow, {"classes": 1_000_000}),
    (Glow, {"first_map": "whitening", "rank": 65_536, "image_shape": [3, 512, 512]}),
    (Glow, {"first_map": "marginals", "image_shape": [3, 65_536, 65_536]}),
    (Glow, {"first_map": "whitening", "dense_steps": 10_000}),
    (Glow, {"first_map": "interlaced", "interlaced_channels": 65_536}),
    (Glow, {"dequantization": "variational", "dequantization_channels": 65_536}),
    (RealNVP, {"hidden_channels": 65_536}),
    (RealNVP, {"residual_blocks": 10_000}),
    (RealNVP, {"image_shape": [65_536, 8, 8]}),
    (RealNVP, {"image_shape": [3, 65_536, 65_536], "scales": 16}),
]


@pytest.mark.parametrize(("kind", "changes"), HUGE)
def test_a_model_larger_than_its_file_is_refused_before_it_is_made(tmp_path, kind, changes):
    """Up to petabytes, by a file of some kilobytes."""
    shape = {"image_shape": (3, 8, 8), "hidden_channels": 2}
    if kind is Glow:
        model = Glow(GlowConfig(**shape, levels=1, steps=1))
    else:
        model = RealNVP(RealNVPConfig(**shape, scales=1, residual_blocks=1))
    model.save_pretrained(tmp_path)
    load_model(tmp_path)  # whatever is loaded once is loaded now
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"another architecture|or more, and there are"):
        load_model(tmp_path)
    _, of_python = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert of_python < 8 * 2**20
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 64 * 2**20


def test_weights_of_another_kind_are_named(tmp_path):
    model = Glow(GlowConfig(image_shape=(3, 4, 4), levels=1, steps=1, hidden_channels=2))
    model.save_pretrained(tmp_path)
    state = dict(model.state_dict())
    rows, log_s = "levels.0.steps.0.permutation.rows", "levels.0.steps.0.permutation.log_s"
    for name, weight, said in (
        (log_s, state[log_s].to(torch.int64), r"log_s is torch.int64 and the model's is"),
        (log_s, torch.full_like(state[log_s], torch.nan), r"log_s is not finite: .* damaged"),
        (rows, torch.zeros_like(state[rows]), r"order of 12 channels is not a permutation"),
        (rows, state[rows].to(torch.float32), r"rows is torch.float32 and the model's is"),
    ):
        save_file({**state, name: weight}, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=said):
            load_model(tmp_path)


def test_loading_does_not_load_the_compiler(tmp_path):
    """Which takes seconds, for what is only asked of shapes."""
    code = (
        "import sys\n"
        "from glowflow import Glow, RealNVP, RealNVPConfig, load_model\n"
        "RealNVP(RealNVPConfig(image_shape=(3, 8, 8), residual_blocks=1)).save_pretrained('m')\n"
        "for m in ('demo-faces', 'm'): load_model(m)\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr
