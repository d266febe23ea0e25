"""A model in other people's code: whatever is true of an `nn.Module` is true of a flow.

Each fact is held against a twin, a new model with the same weights, or against the stored mode.
"""

import copy
import importlib
import math
import threading
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.nn.utils.parametrize as parametrize
from safetensors.torch import save_file
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, jvp, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parameters_to_vector, prune
from torch.nn.utils.parametrizations import orthogonal, spectral_norm
from torch.utils.checkpoint import checkpoint

from glowflow import Glow, GlowConfig, InputError, RealNVP, RealNVPConfig
from glowflow.bijections import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Chain,
    FlowStep,
    Invertible1x1Conv,
    PlainInvertible1x1Conv,
)
from glowflow.bijections.base import per_sample, pixels
from glowflow.bijections.linear import mix
from glowflow.fused.steps import Steps
from glowflow.nn import CouplingNetwork, PointConv
from glowflow.nn.convolutions import GatherConv, ScatterConv
from tests.conftest import perturb

SHAPE = (3, 8, 8)
MEMORY = ["stored", "reversible"]


def make(memory="stored", dtype=torch.float64, **changes):
    torch.manual_seed(0)
    fields = {"levels": 2, "steps": 2, "hidden_channels": 8, "coupling_scale": "bounded"}
    model = Glow(GlowConfig(image_shape=SHAPE, **{**fields, **changes}))
    model.initialize(torch.randint(0, 256, (32, *SHAPE), dtype=torch.uint8))
    return perturb(model, 0.03).to(dtype).use(memory=memory)


def batch(dtype=torch.float64, count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *SHAPE, generator=generator).to(dtype) - 0.5


def twin(model, **parts):
    """A new model with these weights, in which nothing can be left over."""
    other = Glow(model.config, **parts).to(model.dtype)
    other.load_state_dict(model.state_dict())
    return other.train(model.training)


def gradients(model):
    return {name: w.grad for name, w in model.named_parameters()}


def stored_gradients(model, x, labels=None):
    other = twin(model)
    other.log_prob(x, labels).sum().backward()
    return gradients(other)


def assert_same_gradients(given, expected, tolerance=1e-9):
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        assert (given[name] is None) == (value is None), name
        if value is not None:
            scale = value.abs().max().clamp(min=1e-9)
            assert (given[name] - value).abs().max() / scale < tolerance, name


def changed(memory, change):
    """log p under no_grad after a change of the weights that followed a call, and the twin's."""
    model, x = make(memory).eval(), batch()
    with torch.no_grad():
        before = model.log_prob(x)
        model.sample(2)
        change(model)
        after = model.log_prob(x)
        latents = model.encode(x)
        assert (model.decode(latents) - x).abs().max() < 1e-8
    return before, after, twin(model).log_prob(x).detach()


# Weights that change


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("kind", ["Adam", "AdamW", "SGD", "Adagrad"])
def test_fused_optimisers_are_followed(kind, memory):
    model, x = make(memory, torch.float32).eval(), batch(torch.float32)
    images = model.to_images(x)
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=3e-3, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        loss = -model.log_prob(x).mean()
        other = twin(model)
        expected = -other.log_prob(x).mean()
        expected.backward()
        loss.backward()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-3)
        assert_same_gradients(gradients(model), gradients(other), 1e-3)
        optimizer.step()
        noise = [torch.Generator().manual_seed(0) for _ in range(2)]
        own = model.bits_per_dim(images, generator=noise[0])
        assert torch.equal(own, twin(model).bits_per_dim(images, generator=noise[1]))
        assert torch.equal(model.sample(2, seed=3), twin(model).sample(2, seed=3))


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize(
    "change",
    [
        lambda model: [w.data.mul_(1.1) for w in model.parameters()],
        lambda model: [w.mul_(1.1) for w in model.parameters()],
        lambda model: [setattr(w, "data", w.data * 1.1) for w in model.parameters()],
        lambda model: [w.numpy().__imul__(1.1) for w in model.share_memory().parameters()],
        lambda model: model.bfloat16().double(),
        lambda model: model.load_state_dict(
            {
                name: w * 1.1 if w.is_floating_point() and "sign" not in name else w
                for name, w in model.state_dict().items()
            }
        ),
    ],
    ids=["data", "in place", "set data", "shared memory", "rounded", "loaded"],
)
def test_changed_weights_are_seen(change, memory):
    before, after, expected = changed(memory, change)
    assert torch.allclose(after, expected, rtol=1e-12)
    assert not torch.allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize("memory", MEMORY)
def test_a_broadcast_is_seen(memory, one_process):
    def change(model):
        for weight in model.parameters():
            weight.data.add_(0.01)
            dist.broadcast(weight.data, 0)

    before, after, expected = changed(memory, change)
    assert torch.allclose(after, expected, rtol=1e-12)
    assert not torch.allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize("memory", MEMORY)
def test_functional_call_takes_the_weights_given(memory):
    model, x = make(memory).eval(), batch()
    for name, weight in model.named_parameters():
        if not name.startswith("levels.0.steps.1."):
            continue
        for step in range(3):
            value = weight.detach() * (1 + 0.1 * step) + 0.05 * step
            with torch.no_grad():
                _, log_det = functional_call(model, {name: value}, (x,))
                other = twin(model)
                other.get_parameter(name).copy_(value)
                assert torch.equal(log_det, other(x)[1]), name


@pytest.mark.parametrize("memory", MEMORY)
def test_functional_call_differentiates_the_weights_given(memory):
    model, x = make(memory), batch()
    weights = {n: (w.detach() * 1.1).requires_grad_() for n, w in model.named_parameters()}
    latents, log_det = functional_call(model, weights, (x,))
    (log_det.sum() - 0.5 * sum(eps.square().sum() for eps in latents)).backward()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(weights[name])
    assert_same_gradients({n: w.grad for n, w in weights.items()}, stored_gradients(model, x))
    assert all(w.grad is None for w in model.parameters())


def test_a_matrix_handed_out_is_the_callers():
    for conv in (Invertible1x1Conv(4).eval(), PlainInvertible1x1Conv(4).eval()):
        x = torch.randn(1, 4, 2, 2)
        with torch.no_grad(), conv.frozen():
            before = conv(x)[0], conv.inverse(x)[0]
            conv.matrix().zero_()
            conv.inverse_matrix().zero_()
            assert torch.equal(conv(x)[0], before[0])
            assert torch.equal(conv.inverse(x)[0], before[1])


# Parametrised weights and other modules


class LowRank(nn.Module):
    def __init__(self, weight):
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.a = nn.Parameter(torch.zeros(rows, 2, dtype=weight.dtype))
        self.b = nn.Parameter(torch.randn(2, columns, dtype=weight.dtype))

    def forward(self, weight):
        return weight + (self.a @ self.b).view(weight.shape)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("layer", ["first", "second", "last"])
def test_low_rank_adapters_are_followed(layer, memory):
    model, x = make(memory, torch.float64).requires_grad_(False), batch()
    for module in model.modules():
        if isinstance(module, CouplingNetwork):
            conv = getattr(module, layer)
            parametrize.register_parametrization(conv, "weight", LowRank(conv.weight))
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=1e-2, foreach=True)
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            optimizer.zero_grad()
            loss = -model.log_prob(x).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            with torch.no_grad():
                kept = model.eval().log_prob(x)
            assert torch.allclose(kept, model.log_prob(x), rtol=1e-12)
        expected = model.log_prob(x)
    assert losses[-1] < losses[0]
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    assert torch.allclose(twin(plain).log_prob(x), expected, rtol=1e-10)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("kind", [orthogonal, spectral_norm])
def test_parametrised_mixings_are_followed(kind, memory):
    model, x = make(memory, permutation="plain"), batch()
    for module in model.modules():
        if isinstance(module, PlainInvertible1x1Conv):
            kind(module, "weight")
    assert kept_follows_training(model, x)


def kept_follows_training(model, x):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            optimizer.zero_grad()
            (-model.train().log_prob(x).mean()).backward()
            optimizer.step()
            with torch.no_grad():
                kept = model.eval().log_prob(x)
            true = model.log_prob(x).detach()
    assert all(w.grad is not None for w in model.parameters() if w.requires_grad)
    return torch.allclose(kept, true, rtol=1e-12)


class Nested(nn.Module):
    """A network with its weights in a child, beside a parameter of its own."""

    compute_dtype = None

    def __init__(self, channels_in, channels_out, hidden_channels):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels_in, hidden_channels, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(hidden_channels, channels_out, 1),
        )
        self.gain = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return self.gain * self.inner(x)


@pytest.mark.parametrize("memory", MEMORY)
def test_a_network_of_ones_own_is_followed(memory):
    model, x = make(memory), batch()
    for module in model.modules():
        if isinstance(module, AffineCoupling):
            first = module.network.first.weight.shape[1]
            last = module.network.last.weight.shape[0]
            module.network = Nested(first, last, 6).double()
    assert kept_follows_training(model, x)
    with torch.no_grad():
        assert (model.decode(model.encode(x)) - x).abs().max() < 1e-8


class Doubled(ActNorm):
    """y = 2·actnorm(x): another log-determinant."""

    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return 2 * y, log_det + x[0].numel() * torch.log(torch.tensor(2.0, dtype=x.dtype))

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y / 2, context)
        return x, log_det - y[0].numel() * torch.log(torch.tensor(2.0, dtype=y.dtype))


class Negated(Invertible1x1Conv):
    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return -3 * y, log_det + per_sample(x[0].numel() * math.log(3.0), x)

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y / -3, context)
        return x, log_det - per_sample(y[0].numel() * math.log(3.0), y)


@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("kind", ["actnorm", "permutation", "step"])
def test_subclasses_in_a_step_are_what_they_say(kind, reversible):
    class Twice(FlowStep):
        def forward(self, x, context=None):
            y, log_det = super().forward(x, context)
            return 2 * y, log_det + per_sample(x[0].numel() * math.log(2.0), x)

        def inverse(self, y, context=None):
            x, log_det = super().inverse(y / 2, context)
            return x, log_det - per_sample(y[0].numel() * math.log(2.0), y)

    def step():
        actnorm = Doubled(4) if kind == "actnorm" else ActNorm(4)
        mixing = Negated(4) if kind == "permutation" else Invertible1x1Conv(4)
        coupling = AffineCoupling(CouplingNetwork(2, 4, 5), "bounded")
        return (Twice if kind == "step" else FlowStep)(actnorm, mixing, coupling)

    steps = perturb(Steps([step() for _ in range(2)]).double())
    steps.reversible = reversible
    x = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y, log_det = steps(x)
    jacobian = torch.autograd.functional.jacobian(lambda v: Chain.forward(steps, v[None])[0], x[0])
    expected = jacobian.reshape(16, 16).slogdet().logabsdet
    assert log_det[0].item() == pytest.approx(expected.item(), abs=1e-8)
    back, log_det_back = steps.inverse(y)
    assert (back - x).abs().max() < 1e-10
    assert (log_det + log_det_back).abs().max() < 1e-10


def test_reversible_says_what_it_does_not_reach():
    model, x = make("reversible"), batch()
    model.levels[0].steps[1].coupling.network = Nested(6, 12, 4).double()
    with pytest.warns(UserWarning, match="12 channels.*network of class Nested.*are stored"):
        model.log_prob(x).sum().backward()


# Graphs


@pytest.mark.parametrize("memory", MEMORY)
def test_weights_that_move_before_the_backward_pass_are_refused(memory):
    model, x = make(memory), batch()
    loss = model.log_prob(x).sum()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "network" in name:
                weight.mul_(1.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("memory", MEMORY)
def test_two_losses_with_a_step_between_are_refused(memory):
    model, x = make(memory), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    first, second = model.log_prob(x[:1]).sum(), model.log_prob(x[1:]).sum()
    first.backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        second.backward()


@pytest.mark.parametrize("memory", MEMORY)
def test_partial_gradients_of_one_graph_in_any_order(memory):
    model, x = make(memory, steps=4), batch()
    expected = stored_gradients(model, x)
    loss = model.log_prob(x).sum()
    names = [n for n, _ in model.named_parameters() if n.endswith("second.weight")]
    for name in (names[-1], names[0], names[-1], names[2], names[1]):
        (value,) = torch.autograd.grad(loss, model.get_parameter(name), retain_graph=True)
        assert_same_gradients({name: value}, {name: expected[name]})
    loss.backward()
    assert_same_gradients(gradients(model), expected)


@pytest.mark.parametrize("memory", MEMORY)
def test_a_graph_may_be_gone_back_through_twice(memory):
    model, x = make(memory), batch()
    expected = stored_gradients(model, x)
    loss = model.log_prob(x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert_same_gradients(gradients(model), {n: 2 * g for n, g in expected.items()})


@pytest.mark.parametrize("memory", MEMORY)
def test_hooks_on_weights_run_once(memory):
    model, x = make(memory), batch()
    expected = stored_gradients(model, x)
    calls = []
    for name, weight in model.named_parameters():
        weight.register_hook(lambda g, name=name: calls.append(name) or 2 * g)
    model.log_prob(x).sum().backward()
    assert sorted(calls) == sorted(name for name, _ in model.named_parameters())
    assert_same_gradients(gradients(model), {n: 2 * g for n, g in expected.items()})


@pytest.mark.parametrize("memory", MEMORY)
def test_data_parallel_replicas_send_gradients(memory, monkeypatch):
    replicate = importlib.import_module("torch.nn.parallel.replicate")

    def broadcast(tensors, devices, detach=False):
        return [[t.view_as(t) if d == 0 else t.clone() for t in tensors] for d in devices]

    monkeypatch.setattr(replicate, "_broadcast_coalesced_reshape", broadcast)
    monkeypatch.setattr(replicate, "_get_device_index", lambda device, *_, **__: device)
    model, x = make(memory), batch()
    expected = stored_gradients(model, x)
    with warnings.catch_warnings(), model.frozen():
        warnings.simplefilter("ignore")
        replicas = replicate.replicate(model, [0, 1])
        (sum(replica.log_prob(x).sum() for replica in replicas) / 2).backward()
    assert_same_gradients(gradients(model), expected)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("whole", [True, False], ids=["model", "level"])
def test_checkpoints_go_round_a_model(whole, reentrant, memory):
    model, x = make(memory), batch().requires_grad_()
    expected = twin(model)

    def part(of):
        return of.log_prob if whole else lambda v: of.levels[0](v)[1]

    part(expected)(x).sum().backward()
    by_x, x.grad = x.grad, None
    for _ in range(2):
        model.zero_grad()
        x.grad = None
        checkpoint(part(model), x, use_reentrant=reentrant).sum().backward()
        assert torch.allclose(x.grad, by_x, rtol=1e-8)
        assert_same_gradients(gradients(model), gradients(expected))


def test_checkpoints_go_round_a_network():
    network, x = perturb(CouplingNetwork(3, 6, 8).double()), batch().requires_grad_()
    network(x).sum().backward()
    expected, x.grad = x.grad, None
    checkpoint(network, x, use_reentrant=False).sum().backward()
    assert torch.allclose(x.grad, expected)


@pytest.mark.parametrize("memory", MEMORY)
def test_saved_tensors_may_go_elsewhere(memory):
    model, x = make(memory), batch()
    expected = stored_gradients(model, x)
    unpacked = []

    def unpack(tensor):
        unpacked.append(id(tensor))
        return tensor.clone()

    packed = []  # alive, so that no two share an id
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.clone()) or packed[-1],
                                                  unpack):  # fmt: skip
        model.log_prob(x).sum().backward()
    assert_same_gradients(gradients(model), expected)
    assert len(unpacked) == len(set(unpacked))
    model.zero_grad()
    with torch.autograd.graph.save_on_cpu():
        model.log_prob(x).sum().backward()
    assert_same_gradients(gradients(model), expected)


def test_second_derivatives():
    model, x = make("stored", steps=1, hidden_channels=3), batch(count=1).requires_grad_()
    (slope,) = torch.autograd.grad(model.log_prob(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert x.grad.abs().max() > 0
    (slope,) = torch.autograd.grad(
        make("stored", steps=1, hidden_channels=3).log_prob(x).sum(), x, create_graph=True
    )
    with pytest.raises(InputError, match=r"no second derivatives: call model.use\(memory='stored"):
        torch.autograd.grad(make("reversible").log_prob(x).sum(), x, create_graph=True)


# Transforms, fake tensors, devices


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_ensemble_by_vmap(mode, memory):
    models = [perturb(make(memory, steps=1)) for _ in range(3)]
    models = [getattr(m, mode)() for m in models]
    x = batch()
    weights, buffers = stack_module_state(models)

    def log_det(weights, buffers):
        return functional_call(models[0], (weights, buffers), (x,))[1]

    with torch.no_grad():
        together = vmap(log_det)(weights, buffers)
        with models[0].frozen():
            models[0](x)
            frozen = vmap(log_det)(weights, buffers)
        alone = torch.stack([model(x)[1] for model in models])
    assert torch.allclose(together, alone, atol=1e-9)
    assert torch.allclose(frozen, alone, atol=1e-9)


@pytest.mark.parametrize("memory", MEMORY)
def test_transforms_of_functions(memory):
    model, x = make(memory, classes=3).eval(), batch()
    labels = torch.tensor([0, 1, 2])
    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad(twin(model).log_prob(leaf, labels).sum(), leaf)[0]
    assert torch.allclose(grad(lambda v: model.log_prob(v, labels).sum())(x), expected)
    each = vmap(grad(lambda v, y: model.log_prob(v[None], y[None])[0]))(x, labels)
    assert torch.allclose(each, expected)
    direction = torch.randn_like(x)
    weights = {name: w.detach() for name, w in model.named_parameters()}
    _, slope = jvp(
        lambda v: functional_call(model, weights, (v, labels))[1].sum(), (x,), (direction,)
    )
    leaf = x.clone().requires_grad_()
    by_x = torch.autograd.grad(twin(model)(leaf, labels)[1].sum(), leaf)[0]
    assert slope.item() == pytest.approx((by_x * direction).sum().item(), rel=1e-8)
    import torch.autograd.forward_ad as forward_ad

    with forward_ad.dual_level():
        dual = model(forward_ad.make_dual(x, direction), labels)[1].sum()
        assert forward_ad.unpack_dual(dual).tangent.item() == pytest.approx(slope.item(), rel=1e-9)


def test_a_vectorised_jacobian():
    model, x = make(steps=1), batch(count=2)
    jacobian = torch.autograd.functional.jacobian
    fast = jacobian(model.log_prob, x, vectorize=True)
    assert torch.allclose(fast, jacobian(model.log_prob, x), atol=1e-10)
    with pytest.raises(InputError, match=r"one gradient at a time: call model.use\(memory='stored"):
        jacobian(make("reversible").log_prob, x, vectorize=True)


@pytest.mark.parametrize("memory", MEMORY)
def test_fake_tensors_leave_nothing_behind(memory):
    model, x = make(memory).eval(), batch()
    expected = twin(model).log_prob(x).detach()
    with model.frozen():
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            model.log_prob(torch.zeros_like(x))
        with torch.no_grad():
            assert torch.equal(model.log_prob(x), expected)
    assert torch.allclose(model.log_prob(x), expected)
    with FakeTensorMode():
        fake = Glow(model.config).use(memory=memory)
        fake.log_prob(torch.rand(2, *SHAPE) - 0.5).sum().backward()
        assert all(w.grad is not None for w in fake.parameters())
    assert torch.allclose(twin(model).log_prob(x), expected)


@pytest.mark.parametrize(
    "changes",
    [{}, {"permutation": "plain"}, {"permutation": "shuffle"}, {"first_map": "interlaced"}],
)
def test_a_model_on_the_meta_device_becomes_one(changes):
    model, x = make(dtype=torch.float32, **changes).eval(), batch(torch.float32)
    with torch.device("meta"):
        empty = Glow(model.config)
    assert all(w.is_meta for w in empty.state_dict().values())
    loaded = empty.to_empty(device="cpu")
    loaded.load_state_dict(model.state_dict())
    assert torch.equal(loaded.eval().log_prob(x), model.log_prob(x))
    with torch.device("meta"):
        assigned = Glow(model.config)
    assigned.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(assigned.eval().sample(2), model.sample(2))


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_runs(dtype, memory):
    model, x = make(memory, dtype), batch(dtype)
    model.log_prob(x).sum().backward()
    assert all(torch.isfinite(w.grad).all() for w in model.parameters())
    with torch.no_grad():
        difference = model.log_prob(x) - make().log_prob(x.double())
    assert difference.abs().max() < 10  # of some 100 nats


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("part", ["levels.0", "levels.1.steps.0.actnorm", "levels.0.split"])
def test_levels_are_scored_with_a_hook_anywhere(part, classes):
    model, x = make(classes=classes).eval(), batch()
    expected = model.log_prob_by_level(x)
    model.get_submodule(part).register_forward_hook(lambda *_: None)
    assert torch.allclose(model.log_prob_by_level(x), expected)


# Autocast


@pytest.mark.parametrize("memory", MEMORY)
def test_autocast_stays_outside_of_the_flow(memory):
    model, x = make(memory, torch.float32).eval(), batch(torch.float32)
    expected = twin(model).log_prob(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            assert torch.equal(model.log_prob(x), expected)
            latents = model.encode(x)
            assert all(eps.dtype == torch.float32 for eps in latents)
            assert (model.decode(latents) - x).abs().max() < 1e-4
            drawn = model.sample(2)
        loss = model.log_prob(x).sum()
        assert torch.equal(model.levels[0](x)[0][0], twin(model).levels[0](x)[0][0])
    loss.backward()
    assert_same_gradients(gradients(model), stored_gradients(model, x), 1e-3)
    assert torch.equal(drawn, model.sample(2))
    with torch.no_grad():
        assert torch.equal(model.log_prob(x), expected)


@pytest.mark.parametrize("memory", MEMORY)
def test_a_backward_pass_within_autocast(memory):
    model, x = make(memory, torch.float32), batch(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.log_prob(x).sum().backward()  # PyTorch's own backward passes are in bfloat16 there
    assert_same_gradients(gradients(model), stored_gradients(model, x), 2e-2)


def test_autocast_stays_outside_of_each_part():
    parts = [
        Invertible1x1Conv(4),
        PlainInvertible1x1Conv(4),
        perturb(AffineCoupling(CouplingNetwork(2, 4, 8))),
        FlowStep(ActNorm(4), Invertible1x1Conv(4), AffineCoupling(CouplingNetwork(2, 4, 8))),
    ]
    x = torch.randn(2, 4, 4, 4)
    for part in parts:
        for call in (part, part.inverse):
            y, log_det = call(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                cast, cast_log_det = call(x)
            assert torch.equal(cast, y)
            assert torch.equal(cast_log_det, log_det)


def test_precisions_of_the_input():
    model = make(dtype=torch.float32)
    x = batch(torch.bfloat16)
    assert torch.equal(model.log_prob(x), model.log_prob(x.float()))
    with pytest.raises(
        InputError, match=r"x is torch.float64 and the model is torch.float32: give"
    ):
        model.log_prob(batch())


# What wants contiguous weights


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/init", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def models():
    return [
        make(dtype=torch.float32, classes=3),
        make(dtype=torch.float32, permutation="plain", coupling="additive"),
        RealNVP(RealNVPConfig(image_shape=SHAPE, residual_blocks=1, hidden_channels=4)),
    ]


def test_weights_are_contiguous(tmp_path):
    for model in models():
        assert all(w.is_contiguous() for w in model.state_dict().values())
        assert all(w.is_contiguous() for w in model.double().state_dict().values())
        vector = parameters_to_vector(model.parameters())
        assert len(vector) == sum(w.numel() for w in model.parameters())
        save_file(model.state_dict(), tmp_path / "weights.safetensors")


@pytest.mark.parametrize("memory", MEMORY)
def test_lbfgs(memory):
    model, x = make(memory), batch()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1e-3, max_iter=3)

    def closure():
        optimizer.zero_grad()
        loss = -model.log_prob(x).mean()
        loss.backward()
        return loss

    first = closure().item()
    optimizer.step(closure)
    assert closure().item() < first


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("inner", [False, True], ids=["model", "levels"])
def test_fully_sharded(inner, memory, one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, x = make(memory, torch.float32), batch(torch.float32)
    expected, loss = stored_gradients(model, x), twin(model).log_prob(x).detach()
    mesh = init_device_mesh("cpu", (1,))
    for level in model.levels if inner else ():
        fully_shard(level, mesh=mesh)
    fully_shard(model, mesh=mesh)
    log_prob = model.log_prob(x)
    assert torch.allclose(log_prob, loss, atol=1e-3)
    log_prob.sum().backward()
    given = {n: w.grad.full_tensor() for n, w in model.named_parameters()}
    assert_same_gradients(given, expected, 1e-3)


# Files


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_saved_model_keeps_its_dtype(dtype, tmp_path):
    model = make(dtype=dtype).eval()
    model.save_pretrained(tmp_path)
    loaded = Glow.from_pretrained(tmp_path)
    assert {w.dtype for w in loaded.parameters()} == {dtype}
    assert torch.equal(loaded.log_prob(batch(dtype)), model.log_prob(batch(dtype)))
    realnvp = models()[2].to(dtype)
    realnvp.save_pretrained(tmp_path / "realnvp")
    assert RealNVP.from_pretrained(tmp_path / "realnvp").dtype == dtype


def test_weights_by_the_names_of_the_first_version():
    model = make(classes=3)
    old = {}
    for name, weight in model.state_dict().items():
        name = name.replace("levels.0.split.", "splits.0.").replace(
            "levels.1.split.classifier", "classifier"
        )
        old[name.replace("levels.1.split.prior", "top")] = weight
    assert {"splits.0.prior.conv.weight", "top.conv.weight", "classifier.weight"} <= old.keys()
    other = Glow(model.config).double()
    other.load_state_dict(old)
    x, labels = batch(), torch.tensor([0, 1, 2])
    assert torch.equal(other.log_prob(x, labels), model.log_prob(x, labels))
    other = Glow(model.config).double()
    other.load_weights(old, "an old file")
    assert torch.equal(other.log_prob(x, labels), model.log_prob(x, labels))


# Hooks, pruning, printing


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize(
    "name",
    [
        "levels.0",
        "levels.0.squeeze",
        "levels.0.steps",
        "levels.0.steps.1",
        "levels.0.steps.1.actnorm",
        "levels.0.steps.1.permutation",
        "levels.0.steps.1.coupling",
        "levels.0.steps.1.coupling.network",
        "levels.0.steps.1.coupling.network.first",
        "levels.0.steps.1.coupling.network.second",
        "levels.0.steps.1.coupling.network.last",
        "levels.0.split",
        "levels.0.split.prior",
        "levels.0.split.prior.conv",
        "levels.1.split.prior",
    ],
)
def test_hooks_on_every_part_fire_and_change_nothing(name, memory):
    model, x = make(memory), batch()
    expected, loss = stored_gradients(model, x), twin(model).log_prob(x).detach()
    seen = []
    module = model.get_submodule(name)
    module.register_forward_pre_hook(lambda *_: seen.append("before"))
    module.register_forward_hook(lambda *_: seen.append("after"))
    module.register_full_backward_hook(lambda *_: seen.append("back"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log_prob = model.log_prob(x)
        log_prob.sum().backward()
    assert torch.allclose(log_prob, loss, rtol=1e-12)
    assert_same_gradients(gradients(model), expected)
    assert seen[:2] == ["before", "after"]
    # What has no gradient of its input has none to show: the image's, and that of unused values.
    assert "back" in seen or name in ("levels.0.squeeze", "levels.1.split.prior")
    before = len(seen)
    with torch.no_grad(), model.frozen():
        model.log_prob(x)
    assert len(seen) == before + 2


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("layer", ["first", "second", "last"])
def test_pruned_weights_stay_pruned(layer, memory):
    model, x = make(memory), batch()
    for module in model.modules():
        if isinstance(module, CouplingNetwork):
            prune.random_unstructured(getattr(module, layer), "weight", amount=0.5)
    assert kept_follows_training(model, x)
    for module in model.modules():
        if isinstance(module, CouplingNetwork):
            pruned = getattr(module, layer)
            assert (pruned.weight[pruned.weight_mask == 0] == 0).all()
            prune.remove(pruned, "weight")
    plain = twin(model)
    assert torch.allclose(plain.log_prob(x), model.log_prob(x), rtol=1e-12)


def test_printing_shows_sizes():
    shown = repr(make(classes=3)) + repr(models()[2])
    for text in (
        "(actnorm): ActNorm(12)",
        "(permutation): Invertible1x1Conv(12)",
        "scale='bounded'",
        "(first): GatherConv(6, 8, kernel_size=3)",
        "(second): PointConv(8, 8, kernel_size=1)",
        "(last): ScatterConv(8, 12, kernel_size=3)",
        "24, classes=3",
        "Permutation(12)",
        "3, parity=0",
        "Logit(alpha=0.05)",
    ):
        assert text in shown, text


# Labels and context


@pytest.mark.parametrize("of", [0, 2], ids=["glow", "realnvp"])
def test_labels_of_a_model_without_classes_are_refused(of):
    model = [make(dtype=torch.float32), None, models()[2]][of]
    images = torch.randint(0, 256, (2, *SHAPE), dtype=torch.uint8)
    model.initialize(images)
    labels, x = torch.tensor([0, 1]), batch(torch.float32, 2)
    latents = model.encode(x)
    for call in (
        lambda: model.log_prob(x, labels),
        lambda: model.loss(x, labels),
        lambda: model.encode(x, labels),
        lambda: model.decode(latents, labels),
        lambda: model.sample(2, labels=labels),
        lambda: model.bits_per_dim(images, labels),
        lambda: model.class_scores(x),
    ):
        with pytest.raises(InputError, match="no classes"):
            call()


class Conditioned(nn.Module):
    """A network that is told the context."""

    def __init__(self, channels_in, channels_out, hidden_channels):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.embed = nn.Embedding(3, channels_out)

    def forward(self, x, context=None):
        return self.conv(x) + self.embed(context)[:, :, None, None]


@pytest.mark.parametrize("reversible", [False, True])
def test_context_reaches_the_parts_of_a_chain_of_steps(reversible):
    class Shift(Bijection):
        def forward(self, x, context=None):
            return x + context[:, None, None, None], per_sample(0.0, x)

        def inverse(self, y, context=None):
            return y - context[:, None, None, None], per_sample(0.0, y)

    x, context = torch.randn(3, 4, 2, 2).double(), torch.tensor([0, 2, 1])

    def step(shifted):
        first = Shift() if shifted else ActNorm(4)
        return FlowStep(
            first, Invertible1x1Conv(4), AffineCoupling(Conditioned(2, 4, 8), "bounded")
        )

    for shifted in (False, True):
        steps = perturb(Steps([step(shifted), step(shifted)]).double())
        steps.reversible = reversible
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y, log_det = steps(x, context)
        expected, expected_log_det = Chain.forward(steps, x, context)
        assert torch.allclose(y, expected)
        assert torch.allclose(log_det, expected_log_det)
        assert not torch.allclose(Chain.forward(steps, x, (context + 1) % 3)[0], expected)
        assert (steps.inverse(y, context)[0] - x).abs().max() < 1e-10
        log_det.sum().backward()
        embed = steps[0].coupling.network.embed.weight
        assert embed.grad.abs().max() > 0


@pytest.mark.parametrize("memory", MEMORY)
def test_a_class_may_reach_the_couplings(memory):
    model = make(dtype=torch.float32, classes=3)
    model = perturb(Glow(model.config, network=Conditioned)).double().use(memory=memory)
    x, labels = batch(), torch.tensor([2, 0, 1])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        by_class = torch.stack([model.log_prob(x, torch.full((3,), y)) for y in range(3)], dim=1)
        scores = model.class_scores(x)
        assert torch.allclose(scores.log_prob, by_class)
        mixture = torch.logsumexp(by_class, dim=1) - torch.log(torch.tensor(3.0).double())
        assert torch.allclose(model.log_prob_by_level(x).sum(1), mixture)
        assert (model.decode(model.encode(x, labels), labels) - x).abs().max() < 1e-8


# Choices of how to compute


def test_a_swapped_network_is_not_passed_over_in_silence():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(6, 12, 3, padding=1)

        def forward(self, x):
            return self.conv(x)

    model = make(dtype=torch.float32)
    model.levels[0].steps[1].coupling.network = Own()
    with pytest.raises(InputError, match=r"levels.0.steps.1.coupling has a network of class Own"):
        model.use(precision="bf16")
    model.use(precision="float32")
    model.use(compile=True)
    assert model.levels[0].steps[1].coupling.network._compiled_call_impl is not None
    assert model.levels[0].steps[1].coupling._compiled_call_impl is not None
    model.use(compile=False)
    assert model.levels[0].steps[1].coupling.network._compiled_call_impl is None


# Frozen


def test_frozen_computes_once_and_forgets(monkeypatch):
    model, x = make().eval(), batch()
    calls = []
    original = Invertible1x1Conv.matrices.__func__

    def count(cls, mixings):
        calls.append(len(mixings))
        return original(cls, mixings)

    monkeypatch.setattr(Invertible1x1Conv, "matrices", classmethod(count))
    expected = model.log_prob(x).detach()
    for gradients_on, times in ((False, 1), (True, 3)):
        calls.clear()
        with model.frozen(), torch.set_grad_enabled(gradients_on):
            for _ in range(3):
                assert torch.equal(model.log_prob(x).detach(), expected)
        assert len(calls) == times * len(model.levels)
    calls.clear()
    model.requires_grad_(False)
    leaf = x.clone().requires_grad_()
    with model.frozen():  # gradients of the input alone: the matrices are constants
        for _ in range(3):
            model.log_prob(leaf).sum().backward()
    assert len(calls) == len(model.levels)
    assert leaf.grad is not None
    assert all(getattr(module, "_values", None) is None for module in model.modules())


def test_changes_that_count_are_followed_while_frozen():
    model, x = make().eval(), batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, foreach=True)
    with model.frozen():
        for _ in range(2):
            optimizer.zero_grad()
            (-model.log_prob(x).mean()).backward()
            optimizer.step()
            with torch.no_grad():
                assert torch.equal(model.log_prob(x), twin(model).log_prob(x))


@pytest.mark.parametrize("memory", MEMORY)
def test_training_while_frozen_takes_no_kept_value(memory):
    model, x = make(memory), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, fused=True)
    with model.frozen():
        with torch.no_grad():
            model.log_prob(x)
        for _ in range(2):
            optimizer.zero_grad()
            model.log_prob(x).sum().backward()
            assert_same_gradients(gradients(model), stored_gradients(model, x))
            optimizer.step()


def test_frozen_in_inference_mode_and_out_of_it():
    model, x = make().eval().requires_grad_(False), batch()
    leaf = x.clone().requires_grad_()
    with model.frozen():
        with torch.inference_mode():
            expected = model.log_prob(x).clone()
        log_prob = model.log_prob(leaf)
        log_prob.sum().backward()
    assert torch.equal(log_prob.detach(), expected)
    assert leaf.grad.abs().max() > 0


def test_frozen_nests_and_survives_errors():
    model, x = make().eval(), batch()
    with torch.no_grad(), pytest.raises(InputError), model.frozen():
        with model.frozen():
            model.sample(2)
        assert model.levels[0].steps._values
        model.log_prob(x[:, :1])
    assert model.levels[0].steps._values is None
    copied = copy.deepcopy(model)
    assert torch.equal(copied.log_prob(x), model.log_prob(x))


def test_functional_call_inside_frozen_takes_the_weights_given():
    model, x = make().eval(), batch()
    name = "levels.0.steps.0.coupling.network.second.weight"
    with model.frozen(), torch.no_grad():
        before = model(x)[1]
        other = functional_call(model, {name: 2 * model.get_parameter(name)}, (x,))[1]
        assert not torch.allclose(other, before)
        assert torch.equal(model(x)[1], before)


def test_mixing_alone_is_a_product_of_matrices():
    conv, x = Invertible1x1Conv(5).double(), torch.randn(2, 5, 3, 3).double()
    y, log_det = conv(x)
    assert torch.allclose(y, mix(x, conv.matrix()))
    assert log_det[0].item() == pytest.approx(pixels(x) * conv.log_abs_det().item())


# What others' code does to parts


def test_an_average_over_buffers_is_refused():
    model, x = make(), batch()
    ema = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    averages = [
        torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=ema, use_buffers=use_buffers)
        for use_buffers in (True, False)
    ]
    for average in (*averages, *averages):
        average.update_parameters(model)
    with pytest.raises(InputError, match=r"not a permutation.*average the parameters alone"):
        averages[0].module.log_prob(x)
    assert torch.allclose(averages[1].module.log_prob(x), model.log_prob(x))


def test_compiling_follows_changed_layers():
    class Halved(PointConv):
        def forward(self, x):
            return super().forward(x) / 2

    model, x = make(levels=1, steps=1), batch()
    network = model.levels[0].steps[0].coupling.network
    network.second.__class__ = Halved
    network.first.register_forward_hook(lambda module, given, output: output + 0.1)
    expected = model.log_prob(x)
    assert torch.allclose(torch.compile(model.log_prob, backend="eager")(x), expected)


class ByClass(Bijection):
    """y = x + class."""

    def forward(self, x, context=None):
        return x + context[:, None, None, None], per_sample(0.0, x)

    def inverse(self, y, context=None):
        return y - context[:, None, None, None], per_sample(0.0, y)


@pytest.mark.parametrize("slot", ["actnorm", "permutation", "coupling", "hook"])
def test_class_scores_see_whatever_knows_the_class(slot):
    model, x = make(classes=3).eval(), batch()
    if slot == "hook":
        model.levels[-1].register_forward_pre_hook(lambda module, given: (2 * given[0], given[1]))
    else:
        level = 1 if slot == "permutation" else 0
        setattr(model.levels[level].steps[1], slot, ByClass())
    with torch.no_grad():
        by_class = torch.stack([model.log_prob(x, torch.full((3,), y)) for y in range(3)], dim=1)
        assert torch.allclose(model.class_scores(x).log_prob, by_class)
        mixture = torch.logsumexp(by_class, dim=1) - math.log(3.0)
        assert torch.allclose(model.log_prob_by_level(x).sum(1), mixture)


def test_linearize():
    model, x = make().requires_grad_(False), batch()
    direction = torch.randn_like(x)
    value, slope = torch.func.linearize(model.log_prob, x)
    _, expected = jvp(model.log_prob, (x,), (direction,))
    assert torch.allclose(value, model.log_prob(x))
    assert torch.allclose(slope(direction), expected)


@pytest.mark.parametrize("memory", MEMORY)
def test_a_recorded_graph_gives_values_and_derivatives_of_other_images(memory):
    model, x, other = make(memory), batch(), batch().flip(0)
    graph = make_fx(lambda images: model.log_prob(images))(x)
    other.requires_grad_()
    (found,) = torch.autograd.grad(graph(other).sum(), other)
    (expected,) = torch.autograd.grad(model.log_prob(other).sum(), other)
    assert torch.allclose(graph(other), model.log_prob(other))
    assert torch.allclose(found, expected)


class LogProb(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.log_prob(x)


class Inverse(LogProb):
    def forward(self, latents):
        return self.model.inverse(latents)[0]


@pytest.mark.parametrize("program", [LogProb, Inverse])
def test_an_exported_program_takes_any_number_of_images(program):
    model = make(dtype=torch.float32).eval()
    few, more = (batch(torch.float32, count) for count in (3, 7))
    if program is Inverse:
        few, more = model.encode(few), model.encode(more)
    dim = {0: torch.export.Dim("batch", max=64)}
    shapes = (dim if program is LogProb else (dim, dim),)
    exported = torch.export.export(program(model), (few,), dynamic_shapes=shapes).module()
    assert torch.allclose(exported(more), program(model)(more), rtol=1e-4, atol=1e-5)


def test_an_array_is_no_tensor():
    with pytest.raises(InputError, match=r"Images are a ndarray: give a torch.Tensor"):
        make().log_prob(batch().numpy())


@pytest.mark.parametrize("memory", MEMORY)
def test_no_images_have_no_gradient(memory):
    model = make(memory)
    model.log_prob(batch()[:0]).sum().backward()
    assert all(torch.equal(w.grad, torch.zeros_like(w)) for w in model.parameters())


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("of", ["actnorm", "coupling.network.second"])
def test_weights_made_by_another_network(of, memory):
    model, x = make(memory), batch()
    h = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    module = model.get_submodule(f"levels.0.steps.1.{of}")
    name = "b" if of == "actnorm" else "weight"
    weight = getattr(module, name).detach()
    delattr(module, name)
    setattr(module, name, weight * (1 + h))
    values, step = [], 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.log_prob(x).sum().backward()
        for sign in (1, -1):
            setattr(module, name, weight * (1 + h.detach() + sign * step))
            values.append(model.log_prob(x).sum().item())
    assert h.grad.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("memory", MEMORY)
def test_a_penalty_through_a_hook_on_a_network(memory):
    model, x = make(memory), batch()
    both = model, twin(model)
    for one in both:
        outputs = []
        network = one.levels[0].steps[1].coupling.network
        network.register_forward_hook(lambda module, given, h, outputs=outputs: outputs.append(h))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (one.log_prob(x).sum() + outputs[0].square().sum()).backward()
        assert len(outputs) == 1
    assert_same_gradients(gradients(both[0]), gradients(both[1]))


@pytest.mark.parametrize("kind", ["prune", "weight_norm"])
def test_computed_weights_are_new_in_the_inverse_too(kind):
    model, x = make(permutation="plain"), batch()
    for module in model.modules():
        if isinstance(module, ActNorm) and kind == "prune":
            prune.random_unstructured(module, "b", amount=0.5)
        if isinstance(module, PlainInvertible1x1Conv) and kind == "weight_norm":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                nn.utils.weight_norm(module, "weight")
    model.log_prob(x)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
        latents = tuple(torch.randn(2, *s, dtype=x.dtype) for s in model.latent_shapes)
        decoded = model.decode(latents)  # before any forward pass
        for eps, again in zip(latents, model.encode(decoded), strict=True):
            assert (eps - again).abs().max() < 1e-8


def test_computed_weights_are_not_set():
    actnorm = ActNorm(4)
    prune.random_unstructured(actnorm, "b", amount=0.5)
    with pytest.raises(InputError, match=r"ActNorm.b is computed from other weights"):
        actnorm.initialize(torch.randn(8, 4, 2, 2))
    assert not actnorm.initialized
    conv = orthogonal(PlainInvertible1x1Conv(4), "weight")
    with pytest.raises(InputError, match=r"PlainInvertible1x1Conv.weight is computed"):
        conv.set_matrix(torch.eye(4))


def test_labels_and_latents_of_another_count():
    model = make(classes=3, dtype=torch.float32)
    x, zeros = batch(torch.float32, 128), torch.zeros(128, dtype=torch.long)
    latents = model.encode(x, zeros.int())
    for labels in (zeros[:64], zeros.float(), [0] * 128):
        for call in (lambda y: model.encode(x, y), lambda y: model.decode(latents, y)):
            with pytest.raises(InputError, match=r"Labels are .*: give"):
                call(labels)
    with pytest.raises(InputError, match=r"Latents are of \[1, 128\] images"):
        model.decode((latents[0][:1], latents[1]), zeros[:1])
    with pytest.raises(InputError, match=r"Latents are torch.float64 and the model"):
        model.decode(tuple(eps.double() for eps in latents), zeros)
    assert torch.equal(model.loss(x, zeros.int()), model.loss(x, zeros))


def test_samples_depend_on_the_seed_alone():
    model = make().eval()
    expected = model.sample(3, seed=1)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(model.sample(3, seed=1), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_parts_of_a_realnvp_keep_their_modes():
    model = models()[2].train()
    model.initialize(torch.randint(0, 256, (8, *SHAPE), dtype=torch.uint8))
    model.scales[0].eval()
    model.sample(1)
    assert [model.training, *(s.training for s in model.scales)] == [True, False, True]
    with pytest.raises(InputError, match="no images to initialise from"):
        make().initialize(torch.zeros(0, *SHAPE, dtype=torch.uint8))


def test_names_of_a_subclass_are_its_own():
    class Own(Glow):
        def __init__(self, config):
            super().__init__(config)
            self.classifier = nn.Linear(2, 2)
            self.top = nn.Linear(2, 2)

    one, other = Own(make().config), Own(make().config)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.top.weight, one.top.weight)


class Wrapper(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *given, **named):
        return self.inner(*given, **named)


@pytest.mark.parametrize("network", [None, Conditioned])
def test_a_wrapped_network_is_asked_for_its_context(network):
    x, labels = batch(), torch.tensor([0, 1, 2])
    model = perturb(Glow(make(classes=3).config, network=network)).double()
    expected = model.log_prob(x, labels)
    for step in model.levels[0].steps:
        step.coupling.network = Wrapper(step.coupling.network)
    assert torch.allclose(model.log_prob(x, labels), expected)


def test_tied_networks_are_saved(tmp_path):
    model, x = make().eval(), batch()
    steps = model.levels[0].steps
    steps[1].coupling.network = steps[0].coupling.network
    model.save_pretrained(tmp_path)
    assert torch.allclose(Glow.from_pretrained(tmp_path).log_prob(x), model.log_prob(x))


# Threads, weights that are no parameters, and odd inputs


def test_threads_go_back_through_graphs_of_their_own():
    model, x = make("reversible", torch.float32), batch(torch.float32)
    model.loss(x).backward()
    expected = {name: grad.clone() for name, grad in gradients(model).items()}
    done = threading.Event()

    def other():
        while not done.is_set():
            torch.autograd.grad(model.loss(x), list(model.parameters()), allow_unused=True)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        for _ in range(20):
            model.zero_grad()
            model.loss(x).backward()
            assert_same_gradients(gradients(model), expected, 1e-5)
    finally:
        done.set()
        thread.join()


def test_sampling_in_threads_leaves_the_mode_alone():
    model = RealNVP(RealNVPConfig(image_shape=SHAPE, residual_blocks=1, hidden_channels=4))
    model.initialize(torch.randint(0, 256, (16, *SHAPE), dtype=torch.uint8))
    model.train()
    x = batch(torch.float32)
    expected = model.log_prob(x)
    threads = [threading.Thread(target=lambda: [model.sample(1) for _ in range(5)]) for _ in "ab"]
    for thread in threads:
        thread.start()
    assert all(torch.allclose(model.log_prob(x), expected) for _ in range(10))
    for thread in threads:
        thread.join()
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("change", ["precision", "hook"])
def test_reversible_goes_back_by_the_network_of_the_forward_pass(change):
    model, x = make("reversible", torch.float32), batch(torch.float32)
    model.use(precision="bf16")
    model.loss(x).backward()
    expected = {name: grad.clone() for name, grad in gradients(model).items()}
    model.zero_grad()
    loss = model.loss(x)
    if change == "precision":
        model.use(precision="float32")
    else:
        network = model.levels[0].steps[0].coupling.network
        network.second.register_forward_hook(lambda _module, _inputs, h: 2 * h)
    loss.backward()
    assert_same_gradients(gradients(model), expected, 1e-6)


@pytest.mark.parametrize("value", [0.0, 1e-6])
def test_reversible_takes_constant_images(value):
    model = make("reversible", torch.float32)
    x = torch.full((2, *SHAPE), value)
    model.log_prob(x).sum().backward()
    assert_same_gradients(gradients(model), stored_gradients(model, x), 1e-3)


def test_images_that_are_no_numbers_spoil_no_others():
    for first_map in ("none", "marginals", "interlaced", "whitening"):
        model, x = make(dtype=torch.float32, first_map=first_map, rank=16), batch(torch.float32)
        expected = model.log_prob(x)
        broken = x.clone()
        broken[0, 0, 0, 0] = math.nan
        found = model.log_prob(broken)
        assert bool(found[0].isnan())
        assert torch.allclose(found[1:], expected[1:])
    reversible = make("reversible", torch.float32)
    reversible.log_prob(broken)[1:].sum().backward()  # as without `reversible`: no refusal


@pytest.mark.parametrize(
    "how",
    [{"first_map": "marginals"}, {"first_map": "interlaced"}, {"dequantization": "variational"}],
)
def test_probabilities_want_single_precision(how):
    model = make(**how).bfloat16()
    with pytest.raises(InputError, match="use float32"):
        model.log_prob(batch().bfloat16())


def test_no_images_through_the_recorded_network():
    model, x = make(), batch()[:0].requires_grad_()
    assert torch.func.grad(lambda e: model.log_prob(e).sum())(x).shape == x.shape
    (found,) = torch.autograd.grad(model.log_prob(x).sum(), x, create_graph=True)
    assert found.shape == x.shape


def test_weights_that_are_plain_attributes_are_followed_when_frozen():
    model, x = make().eval(), batch()
    layer = model.levels[0].steps[0].coupling.network.last
    weight = layer.weight.detach() + 0.1
    del layer.weight
    layer.weight = weight
    with torch.no_grad(), model.frozen():
        model.log_prob(x)
        layer.weight = weight * 2
        found = model.log_prob(x)
    assert torch.equal(found, model.log_prob(x))


def test_vmap_over_gradients_of_reversible_is_refused_in_a_sentence():
    model, x = make("reversible"), batch().requires_grad_()
    y = model.log_prob(x)
    each = torch.eye(len(x), dtype=x.dtype)
    with pytest.raises(InputError, match="one gradient at a time"):
        torch.vmap(lambda v: torch.autograd.grad(y, x, v, retain_graph=True)[0])(each)


class Adapted(nn.Module):
    """A linear layer with another beside it, as LoRA makes it."""

    def __init__(self, base):
        super().__init__()
        self.base, self.beside = base, nn.Linear(base.in_features, base.out_features)

    def forward(self, x):
        return self.base(x) + self.beside(x)


def test_layers_of_dense_networks_can_be_replaced():
    model = make(dtype=torch.float32, first_map="whitening", rank=16, dense_steps=1).eval()
    x = batch(torch.float32)
    before = model.log_prob(x)
    network = model.first_map.components[0].coupling.network
    network.second = Adapted(network.second)
    with torch.no_grad():
        network.second.beside.weight.zero_()
        network.second.beside.bias.zero_()
    assert torch.allclose(model.log_prob(x), before)
    model.log_prob(x).sum().backward()
    assert network.second.beside.weight.grad is not None


class WithContext(nn.Module):
    def __init__(self, channels_in, channels_out, _hidden):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.embedding = nn.Embedding(3, channels_in)

    def forward(self, x, context=None):
        return 0.1 * self.conv(
            x if context is None else x + self.embedding(context)[:, :, None, None]
        )


class Wrapped(nn.Module):
    def __init__(self, channels_in, channels_out, hidden):
        super().__init__()
        self.inner = WithContext(channels_in, channels_out, hidden)
        self.adapter = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x, **given):
        return self.inner(x, **given) + 0.01 * self.adapter(x)


def test_context_reaches_a_network_among_others_in_a_wrapper():
    config = GlowConfig(image_shape=SHAPE, levels=2, steps=1, hidden_channels=4, classes=3)
    model = Glow(config, network=Wrapped)
    model.loss(batch(torch.float32), torch.tensor([0, 1, 2])).backward()
    inner = model.levels[0].steps[0].coupling.network.inner
    assert inner.embedding.weight.grad.abs().sum() > 0


def test_a_compiled_network_is_one_without_context():
    def network(channels_in, channels_out, _hidden):
        layer = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        return torch.jit.trace(layer, torch.zeros(1, channels_in, 4, 4))

    config = GlowConfig(image_shape=SHAPE, levels=2, steps=1, hidden_channels=4, classes=3)
    model = Glow(config, network=network)
    assert model.log_prob(batch(torch.float32), torch.tensor([0, 1, 2])).shape == (3,)


class Aliased(Glow):
    def __init__(self, config):
        super().__init__(config)
        self.top = self.levels[-1]


def test_a_subclass_may_call_its_parts_as_former_versions_did():
    config = GlowConfig(image_shape=SHAPE, levels=2, steps=1, hidden_channels=4)
    model = Aliased(config)
    state = {name: weight + 1 for name, weight in model.state_dict().items()}
    model.load_state_dict(state)
    assert torch.equal(model.top.split.prior.conv.b, state["top.split.prior.conv.b"])


def test_the_penalty_of_realnvp_follows_pruned_scales():
    torch.manual_seed(0)
    config = RealNVPConfig(image_shape=SHAPE, residual_blocks=1, hidden_channels=4, l2=1.0)
    model, x = RealNVP(config).eval(), batch(torch.float32)

    def penalty():
        return float(model.loss(x) - model.loss_terms(x).bits_per_dim)

    scaled = [module for module in model.modules() if "scale" in module._parameters]
    with torch.no_grad():
        for module in scaled:
            module.scale.fill_(3.0)
    before = penalty()
    for module in scaled:
        prune.identity(module, "scale")
    assert penalty() == pytest.approx(before, rel=1e-5)


def test_what_is_computed_from_weights_is_computed_once_when_frozen(monkeypatch):
    model, x = make(dtype=torch.float32, coupling="affine").eval(), batch(torch.float32)
    calls = []
    for kind in (PointConv, GatherConv, ScatterConv):
        folded = kind.folded
        monkeypatch.setattr(
            kind, "folded", lambda self, dtype, f=folded: calls.append(1) or f(self, dtype)
        )
    with torch.no_grad(), model.frozen():
        model.log_prob(x)
        first = len(calls)
        model.log_prob(x)
    assert first == 3 * 4 + 2  # three layers a network, two levels of two steps; two priors
    assert len(calls) == first + 2


def checkpointed(lag):
    """RealNVP's gradients and averages with a checkpoint round it, and without."""
    torch.manual_seed(0)
    config = RealNVPConfig(
        image_shape=SHAPE, residual_blocks=1, hidden_channels=4, batch_norm_lag=lag
    )
    model = perturb(RealNVP(config).double(), 0.05)
    model.initialize(torch.randint(0, 256, (16, *SHAPE), dtype=torch.uint8))
    plain, x = copy.deepcopy(model.train()), 0.9 * batch()
    checkpoint(
        lambda x: model.log_prob(x).sum(), x.requires_grad_(), use_reentrant=False
    ).backward()
    plain.log_prob(x).sum().backward()
    return model, plain


def test_a_checkpoint_round_realnvp_moves_its_averages_once():
    model, plain = checkpointed(0.0)
    assert_same_gradients(gradients(model), gradients(plain))
    for name, value in plain.named_buffers():
        assert torch.equal(dict(model.named_buffers())[name], value), name


def test_a_checkpoint_round_a_lag_is_refused():
    with pytest.raises(InputError, match="set batch_norm_lag to 0"):
        checkpointed(0.9)
