"""Training by inversion: the same gradients, flat memory, a guard, hooks, several processes."""

import gc
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch

from glowflow import Glow, GlowConfig, InputError, TrainingError
from glowflow.data.types import Splits
from glowflow.fused.steps import Steps
from glowflow.nn.coupling_network import CouplingNetwork
from glowflow.training.objective import Objective
from tests.children import Child
from tests.conftest import perturb
from tests.training.runs import CONFIG, losses, part, run


def make(steps=4, dtype=torch.float32, **changes):
    torch.manual_seed(0)
    shape = {"image_shape": (3, 8, 8), "levels": 2, "hidden_channels": 8}
    model = Glow(GlowConfig(**{**shape, "steps": steps, **changes}))
    model.initialize(torch.randint(0, 256, (64, *model.config.image_shape), dtype=torch.uint8))
    return perturb(model, 0.02).to(dtype)


def batch(dtype=torch.float32, count=6):
    return 0.3 * torch.randn(count, 3, 8, 8, dtype=dtype)


def grads(model, x, labels=None):
    model.zero_grad()
    model.log_prob(x, labels).sum().backward()
    return {name: w.grad.clone() for name, w in model.named_parameters()}


def relative(found, expected):
    """Largest difference over all weights, as a share of each weight's largest gradient."""
    return max(
        ((found[n] - g).abs().max() / g.abs().max().clamp(min=1e-12)).item()
        for n, g in expected.items()
        if g.abs().max() > 0
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
@pytest.mark.parametrize("coupling", ["affine", "additive"])
def test_gradients_are_those_of_stored_activations(dtype, tolerance, coupling):
    model, x = make(steps=16, dtype=dtype, coupling=coupling), batch(dtype)
    expected = grads(model, x)
    found = grads(model.use(memory="reversible"), x)
    assert relative(found, expected) < tolerance


def test_conditional_model_trains_with_its_classifier():
    model, x, labels = make(classes=3), batch(), torch.tensor([0, 1, 2, 0, 1, 2])
    both = []
    for memory in ("stored", "reversible"):
        model.use(memory=memory).zero_grad()
        log_prob, logits = model.log_prob_and_logits(x, labels)
        (log_prob.mean() + torch.nn.functional.cross_entropy(logits, labels)).backward()
        both.append({name: w.grad.clone() for name, w in model.named_parameters()})
    assert relative(both[1], both[0]) < 1e-3


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_gradients_are_those_of_compiled_couplings(backend, monkeypatch):
    """`inductor`, the default, writes C++ for half a minute from what `aot_eager` runs as it is."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model, x = make(levels=1, steps=1, hidden_channels=64), batch()
    expected = grads(model, x)
    compiled = model.use(compile=True)
    assert compiled.levels[0].steps[0].coupling._compiled_call_impl is not None
    assert relative(grads(compiled, x), expected) < 1e-3


def test_bf16_networks_recover_their_input():
    model, x = make(), batch()
    expected = grads(model.use(precision="bf16"), x)
    found = grads(model.use(memory="reversible"), x)
    assert relative(found, expected) < 0.1
    assert all(0 < s.guard.drift < 3e-2 for s in model.modules() if isinstance(s, Steps))


@pytest.fixture
def runs(monkeypatch):
    """What each run of a coupling network gives, and whether it records gradients."""
    recorded = []
    original = CouplingNetwork.forward

    def run(network, x):
        output = original(network, x)
        recorded.append((torch.is_grad_enabled(), output))
        return output

    monkeypatch.setattr(CouplingNetwork, "forward", run)
    return recorded


def test_a_network_runs_twice_a_step_and_no_more(runs):
    model, x = make(steps=3), batch()
    runs.clear()
    grads(model.use(memory="reversible"), x)
    assert [recording for recording, _ in runs] == [False] * 6 + [True] * 6


def kept_by_the_graph(model, x, labels=None):
    """Bytes of the tensors that a forward pass keeps for the backward pass."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.log_prob(x, labels).sum()
    for weight in (*model.parameters(), *model.buffers()):
        kept.pop(weight.untyped_storage().data_ptr(), None)
    del loss
    return sum(kept.values())


def test_what_is_kept_of_an_image_does_not_grow_with_depth():
    def an_image(steps, memory):
        model = make(steps=steps, hidden_channels=32).use(memory=memory)
        few, many = (kept_by_the_graph(model, batch(count=count)) for count in (8, 16))
        return (many - few) / 8

    assert an_image(16, "reversible") == an_image(2, "reversible")
    assert an_image(16, "stored") > 20 * an_image(16, "reversible")


def test_activations_are_freed_step_by_step(monkeypatch):
    model, x = make(steps=8).use(memory="reversible"), batch()
    alive, most = weakref.WeakSet(), []
    original = CouplingNetwork.forward

    def watch(network, x):
        output = original(network, x)
        if torch.is_grad_enabled():
            gc.collect()
            alive.add(output)
            most.append(len(alive))
        return output

    monkeypatch.setattr(CouplingNetwork, "forward", watch)
    gc.freeze()  # what is there already need not be looked through 16 times
    grads(model, x)
    gc.unfreeze()
    assert len(most) == 16
    assert max(most) <= 2


def test_hooks_on_weights_fire_once():
    model, x = make(steps=2).use(memory="reversible"), batch()
    fired = []
    for name, weight in model.named_parameters():
        weight.register_post_accumulate_grad_hook(lambda _, name=name: fired.append(name))
    grads(model, x)
    assert sorted(fired) == sorted(name for name, _ in model.named_parameters())


def test_frozen_weights_get_no_gradient():
    model, x = make(steps=2).use(memory="reversible"), batch()
    frozen = model.get_parameter("levels.0.steps.1.coupling.network.first.weight")
    frozen.requires_grad_(False)
    model.log_prob(x).sum().backward()
    assert frozen.grad is None
    assert model.get_parameter("levels.0.steps.0.coupling.network.first.weight").grad is not None


def test_guard_stops_when_the_input_cannot_be_recovered():
    model, x = make(steps=4, coupling_scale="exp"), batch()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("network.last.b"):
                weight[1::2] = -9.0  # each step shrinks half of the channels 8,000 times
    model.use(memory="reversible")
    with pytest.raises(TrainingError, match="memory stored"):
        model.log_prob(x).sum().backward()


def test_guard_reads_at_intervals():
    model, x = make(steps=2).use(memory="reversible"), batch()
    guard = next(m for m in model.modules() if isinstance(m, Steps)).guard
    guard.every = 3
    read = []
    for _ in range(6):
        guard.drift = -1.0
        grads(model, x)
        read.append(guard.drift >= 0)
    assert read == [True, False, False, True, False, False]


def test_unknown_choices():
    with pytest.raises(InputError, match="stored, reversible"):
        make().use(memory="none")
    with pytest.raises(InputError, match="float32, bf16"):
        make().use(precision="fp8")


DDP = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from glowflow import Glow
from glowflow.training.objective import Objective

folder, rank = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group(
    "gloo", store=dist.FileStore(folder + "/store", 2), rank=rank, world_size=2
)
model = Glow.from_pretrained(folder).train().use(memory="reversible")
x = torch.load(folder + "/x.pt", weights_only=True)
objective = DistributedDataParallel(Objective(model))
for _ in range(2):  # a second pass finds out whether the reducer is still in order
    model.zero_grad()
    objective(x[rank::2])[0].backward()
if rank == 0:
    torch.save({n: w.grad for n, w in model.named_parameters()}, folder + "/grads.pt")
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_average_the_gradients(tmp_path):
    model, x = make(), batch(count=8)
    model.save_pretrained(tmp_path)
    torch.save(x, tmp_path / "x.pt")
    children = [Child(["-c", DDP, tmp_path, rank]) for rank in range(2)]
    answers = [child.answer() for child in children]
    assert [code for code, *_ in answers] == [0, 0], answers
    Objective(model)(x)[0].backward()
    expected = {name: w.grad for name, w in model.named_parameters()}
    found = torch.load(tmp_path / "grads.pt", weights_only=True)
    assert relative(found, expected) < 1e-3


def test_training_reversibly_follows_the_stored_run(tmp_path):
    splits = Splits(part(64, 0), part(16, 1), part(16, 2), "blobs", "0")
    for memory in ("stored", "reversible"):
        run(replace(CONFIG, memory=memory), splits, tmp_path / memory)
    stored, reversible = (losses(tmp_path / memory) for memory in ("stored", "reversible"))
    assert stored == pytest.approx(reversible, abs=1e-3)
