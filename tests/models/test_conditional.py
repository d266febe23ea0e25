"""Glow of x given c: exact densities, exact inverses, one run of the conditioning network."""

import copy
import json
import math

import pytest
import torch
from torch.func import functional_call

from glowflow import (
    CheckpointError,
    Condition,
    ConditionalGlow,
    ConditionalGlowConfig,
    Glow,
    GlowConfig,
    InputError,
    distribution,
    load_model,
)
from glowflow.fused.steps import Steps
from glowflow.nn import ConditionalCouplingNetwork
from glowflow.training.objective import Objective
from tests.children import Child
from tests.conftest import perturb
from tests.test_reversible import kept_by_the_graph

CONDITIONS = (
    Condition(name="y", kind="field", shape=(2, 4, 2)),
    Condition(name="theta", kind="vector", shape=(3,)),
    Condition(name="kind", kind="class", shape=(3,)),
)
SHAPE = {"image_shape": (1, 8, 4), "levels": 2, "steps": 2, "hidden_channels": 6, "bits": None}


def given(count=5):
    torch.manual_seed(1)
    return {
        "y": 3 * torch.randn(count, 2, 4, 2) + 1,
        "theta": torch.randn(count, 3),
        "kind": torch.arange(count) % 3,
    }


def make(dtype=torch.float64, conditions=CONDITIONS, c=None, **changes):
    """A model with weights that are not those of the start."""
    torch.manual_seed(0)
    config = ConditionalGlowConfig(
        **{**SHAPE, "condition_channels": 4, "conditions": conditions, **changes}
    )
    model = ConditionalGlow(config)
    c = given() if c is None else c
    model.initialize(torch.randn(5, *config.image_shape), labels=c)
    return perturb(model, 0.05).to(dtype)


def batch(count=5, dtype=torch.float64):
    torch.manual_seed(2)
    return torch.randn(count, 1, 8, 4, dtype=dtype)


def one(c, index=0):
    return {name: value[index] for name, value in c.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"padding": "periodic", "coupling": "additive"},
        {"padding": "reflect", "levels": 1, "first_map": "standardize"},
    ],
    ids=lambda changes: changes.get("padding", "zero"),
)
def test_the_density_is_that_of_the_map(changes):
    model, x, c = make(**changes), batch(), given()
    latents = model.encode(x, c)
    assert (model.decode(latents, c) - x).abs().max() < 1e-10

    def flat(x):
        latents, _ = model(x[None], one(c))
        return torch.cat([eps.flatten() for eps in latents])

    jacobian = torch.autograd.functional.jacobian(flat, x[0]).reshape(32, 32)
    _, log_det = model(x[:1], one(c))
    assert torch.linalg.slogdet(jacobian).logabsdet.item() == pytest.approx(
        log_det.item(), abs=1e-8
    )
    assert model.log_prob_by_level(x, c).sum(1).tolist() == pytest.approx(
        model.log_prob(x, c).tolist()
    )


@pytest.mark.parametrize("padding", ["zero", "periodic"])
def test_a_coupling_network_and_its_gradients(padding):
    network = perturb(ConditionalCouplingNetwork(1, 2, 3, 2, padding).double())
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    context = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (x, context))
    assert torch.autograd.gradgradcheck(network, (x, context))
    fast, weights = network(x, context), dict(network.named_parameters())
    expected = torch.autograd.grad(fast.square().sum(), (x, context, *weights.values()))
    network.second.register_forward_hook(lambda *_: None)  # its layers are now called one by one
    assert not network.has_exact_layers()
    plain = network(x, context)
    torch.testing.assert_close(plain, fast)
    found = torch.autograd.grad(plain.square().sum(), (x, context, *weights.values()))
    torch.testing.assert_close(found, expected)


def test_every_condition_matters_and_every_weight_learns():
    model, x, c = make(), batch(), given()
    before = model.log_prob(x, c)
    for name, other in {**given(6), "kind": (c["kind"] + 1) % 3}.items():
        changed = {**c, name: other[-5:]}
        assert (model.log_prob(x, changed) - before).abs().min() > 1e-6, name
    before.sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in model.parameters())


def test_a_new_model_does_not_look():
    model = ConditionalGlow(ConditionalGlowConfig(**SHAPE, conditions=CONDITIONS))
    model.initialize(batch(dtype=torch.float32), labels=given())
    x, c = batch(dtype=torch.float32), given()
    others = {name: value.flip(0) for name, value in c.items()}
    assert torch.equal(model.log_prob(x, c), model.log_prob(x, others))


def test_gradients_of_reversible_memory_are_those_of_stored():
    model, x, c = make(steps=4), batch().requires_grad_(), given()
    rows = model.pack(c).requires_grad_()
    found = []
    for memory in ("stored", "reversible"):
        model.use(memory=memory).zero_grad()
        x.grad = rows.grad = None
        model.log_prob(x, rows).sum().backward()
        every = {n: w.grad.clone() for n, w in model.named_parameters()}
        found.append({**every, "x": x.grad.clone(), "c": rows.grad.clone()})
    stored, reversible = found
    for name, gradient in stored.items():
        largest = gradient.abs().max()
        assert largest > 0 or name == "c", name
        assert (reversible[name] - gradient).abs().max() < 1e-9 * largest, name
    assert all(0 < s.guard.drift < 1e-9 for s in model.modules() if isinstance(s, Steps))


def test_what_is_kept_of_an_image_does_not_grow_with_depth():
    def an_image(steps):
        model = make(steps=steps).use(memory="reversible")
        rows = model.pack(given(16))
        kept = [kept_by_the_graph(model, batch(n), rows[:n]) for n in (8, 16)]
        return (kept[1] - kept[0]) / 8

    assert an_image(12) == an_image(2)


def test_the_conditioning_network_runs_once():
    model, x, c = make(), batch(), given()
    runs = []
    model.conditioning.register_forward_hook(lambda *_: runs.append(1))
    posterior = model.given(one(c))
    assert posterior.batch_shape == () and posterior.event_shape == (1, 8, 4)
    expected = model.log_prob(
        x, {name: value[:1].expand(5, *value.shape[1:]) for name, value in c.items()}
    )
    runs.clear()
    posterior = model.given(one(c))
    torch.testing.assert_close(posterior.log_prob(x), expected)
    assert posterior.sample(130).shape == (130, 1, 8, 4)
    assert posterior.rsample((2, 3)).requires_grad
    assert len(runs) == 1
    assert model.sample(130, labels=one(c)).shape == (130, 1, 8, 4)
    model.decode(model.encode(x.repeat(20, 1, 1, 1), one(c)), one(c))
    assert len(runs) == 4


def test_several_given_are_a_batch():
    model, x, c = make(), batch(), given()
    several = distribution(model, c)
    assert several.batch_shape == (5,)
    torch.testing.assert_close(several.log_prob(x), model.log_prob(x, c))
    drawn = several.sample((7,))
    assert drawn.shape == (7, 5, 1, 8, 4) and several.log_prob(drawn).shape == (7, 5)
    torch.testing.assert_close(several.log_prob(drawn)[3], model.log_prob(drawn[3], c))
    model.given(c).log_prob(x).sum().backward()
    assert model.conditioning.first.weight.grad.abs().max() > 0


def test_a_posterior_is_differentiated_by_x_as_often_as_one_likes():
    model, x, c = make(), batch().requires_grad_(), given()
    with torch.no_grad():
        posterior = model.given(c)
    first, again = (torch.autograd.grad(posterior.log_prob(x).sum(), x) for _ in range(2))
    assert torch.equal(*first, *again)


def test_a_density_integrates_to_one():
    shape = {"image_shape": (1, 2, 2), "levels": 1, "steps": 2, "hidden_channels": 4}
    theta = Condition(name="theta", kind="vector", shape=(1,))
    model = make(conditions=(theta,), c=torch.randn(5, 1), coupling_scale="bounded", **shape)
    posterior = model.given(torch.tensor([0.7]))
    with torch.no_grad():
        drawn = posterior.sample(4000)
        mean, spread = drawn.mean(0), 2 * drawn.std(0)
        proposed = torch.distributions.Normal(mean, spread)
        x = proposed.sample((60_000,))
        weights = (posterior.log_prob(x) - proposed.log_prob(x).sum((1, 2, 3))).exp()
    error = float(weights.std() / math.sqrt(len(weights)))
    assert error < 0.03 and float(weights.mean()) == pytest.approx(1.0, abs=4 * error)


def test_saved_and_loaded(tmp_path):
    model, x, c = make(torch.float32).eval(), batch(dtype=torch.float32), given()
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert isinstance(loaded, ConditionalGlow) and loaded.config == model.config
    assert torch.equal(loaded.log_prob(x, c), model.log_prob(x, c))
    torch.save(model, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(again.log_prob(x, c), model.log_prob(x, c))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conditions": [{"name": "y"}]}, "does not describe a model"),
        ({"conditions": "y"}, "does not describe a model"),
        ({"conditions": [{"name": "y", "kind": "field", "shape": [1, 4, 4]}]}, "no weight|weight"),
        ({"conditions": [{"name": "k", "kind": "class", "shape": [2**30]}]}, "weight"),
        ({"missing": "mask"}, "another architecture"),
    ],
)
def test_a_damaged_configuration(tmp_path, changes, said):
    make(torch.float32).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=said):
        load_model(tmp_path)


def test_networks_in_bf16():
    model, x, c = make(torch.float32, levels=1, steps=1), batch(dtype=torch.float32), given()
    expected = model.log_prob(x, c)
    low = model.use(precision="bf16").log_prob(x, c)
    assert low.dtype == torch.float32 and (low - expected).abs().max() < 0.5


def test_a_module_like_any_other():
    model, x, c = make(torch.float32), batch(dtype=torch.float32), given()
    expected = model.log_prob(x, c)
    assert torch.equal(copy.deepcopy(model).log_prob(x, c), expected)
    rows = model.pack(c)
    weights = dict(model.state_dict())
    _, log_det = functional_call(model, weights, (x, rows))
    assert torch.equal(log_det, model(x, rows)[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.log_prob(x, c), expected)
        assert torch.equal(model.given(c).log_prob(x), expected)
    one_by_one = torch.func.vmap(lambda x, row: model(x[None], row[None])[1][0])(x, rows)
    torch.testing.assert_close(one_by_one, model(x, rows)[1])
    parallel = torch.nn.DataParallel(Objective(model))
    assert parallel(x, rows)[1].item() == pytest.approx(model.loss(x, rows).item())


def test_missing_values_are_the_mean_and_marked():
    model, x, c = make(missing="mask"), batch(), given()
    before = model.log_prob(x, c)
    c["y"][1, 0, 2], c["theta"][3, 1] = math.nan, math.nan
    after = model.given(c).log_prob(x)
    assert [int(i) for i in torch.nonzero(before != after).flatten()] == [1, 3]
    mean = {name: value.clone() for name, value in c.items()}
    mean["y"][1, 0, 2] = model.conditioning.mean[0]
    mean["theta"][3, 1] = model.conditioning.mean[3]
    assert (model.log_prob(x, mean) - after)[[1, 3]].abs().min() > 1e-6  # the mask is seen
    after.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
    c["y"][0] = math.inf
    with pytest.raises(InputError, match="y is NaN or infinite in sample 0"):
        model.given(c)


DDP = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from glowflow import load_model
from glowflow.training.objective import Objective

folder, rank = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group(
    "gloo", store=dist.FileStore(folder + "/store", 2), rank=rank, world_size=2
)
model = load_model(folder).train().use(memory="reversible")
x, rows = torch.load(folder + "/x.pt", weights_only=True)
objective = DistributedDataParallel(Objective(model))
for _ in range(2):
    model.zero_grad()
    objective(x[rank::2], rows[rank::2])[0].backward()
if rank == 0:
    torch.save({n: w.grad for n, w in model.named_parameters()}, folder + "/grads.pt")
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_average_the_gradients(tmp_path):
    model, x = make(), batch(6)
    rows = model.pack(given(6))
    model.save_pretrained(tmp_path)
    torch.save([x, rows], tmp_path / "x.pt")
    children = [Child(["-c", DDP, tmp_path, rank]) for rank in range(2)]
    answers = [child.answer() for child in children]
    assert [code for code, *_ in answers] == [0, 0], answers
    Objective(model)(x, rows)[0].backward()
    found = torch.load(tmp_path / "grads.pt", weights_only=True)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-6, atol=1e-9)


def test_what_cannot_be_given():
    model, x, c = make(), batch(), given()
    for wrong, said in (
        ({**c, "z": c["y"]}, "no condition 'z': this model is given y, theta, kind"),
        ({"y": c["y"], "kind": c["kind"]}, "theta is missing"),
        ({**c, "theta": torch.randn(5, 2)}, r"theta is \(5, 2\): this model takes \(batch, 3\)"),
        ({**c, "kind": torch.tensor([0, 1, 2, 3, 0])}, "between 0 and 2"),
        ({**c, "theta": torch.randn(4, 3)}, "4 values of theta and 5 of others"),
        (c["y"], "is given y, theta, kind"),
        (None, "is given y, theta, kind"),
    ):
        with pytest.raises(InputError, match=said):
            model.log_prob(x, wrong)
    with pytest.raises(InputError, match="5 conditions for 3 images"):
        model.log_prob(x[:3], c)
    c["y"][2, 1, 3, 0] = math.nan
    with pytest.raises(InputError, match=r"y is NaN or infinite in sample 2 at \(1, 3, 0\)"):
        model.given(c)


def test_what_cannot_be_made():
    for changes, said in (
        ({"conditions": ()}, "at least one condition"),
        ({"conditions": (CONDITIONS[1], CONDITIONS[1])}, "a name of its own"),
        ({"prior": "diagonal"}, "leave prior convolutional"),
        ({"padding": "reflect", "levels": 2}, "one pixel wide"),
    ):
        with pytest.raises(InputError, match=said):
            ConditionalGlowConfig(**{**SHAPE, "conditions": CONDITIONS, **changes})
    with pytest.raises(InputError, match="a grid of 5x2 and the data on one of 8x4"):
        coarse = Condition(name="y", kind="field", shape=(1, 5, 2))
        ConditionalGlowConfig(**SHAPE, conditions=(coarse,))
    with pytest.raises(InputError, match="give 2, 3 or 4 whole numbers"):
        Condition(name="y", kind="field", shape=(4,))


def circulant():
    """What makes noise with correlated neighbours of white noise of 8x8."""
    white = torch.eye(64).reshape(64, 8, 8)
    return 0.5 * (white + 0.6 * white.roll(1, 2)).reshape(64, 64).T


def test_a_gaussian_whose_posterior_is_known():
    torch.manual_seed(0)
    mixing = circulant()
    y = Condition(name="y", kind="field", shape=(1, 4, 4))
    config = ConditionalGlowConfig(
        image_shape=(1, 8, 8), levels=1, steps=4, hidden_channels=16, bits=None, conditions=(y,),
        condition_channels=8, padding="periodic", coupling_scale="bounded",
    )  # fmt: skip
    model = ConditionalGlow(config)

    def simulate(count):
        c = torch.randn(count, 1, 4, 4)
        mean = c.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return mean + (torch.randn(count, 64) @ mixing.T).view(-1, 1, 8, 8), c

    x, c = simulate(256)
    model.initialize(x, labels=c)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / STEPS)
        optimizer.zero_grad()
        x, c = simulate(64)
        model.loss(x, model.pack(c)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    x, c = simulate(500)
    log_det = torch.linalg.slogdet(mixing).logabsdet
    entropy = 0.5 * math.log(2 * math.pi * math.e) + log_det.item() / 64
    with torch.no_grad():
        nats = -model.log_prob(x, c).mean().item() / 64
        drawn = model.given(c[0]).sample(500)
    assert entropy - 0.02 < nats < entropy + 0.1
    mean = c[0].repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert (drawn.mean(0) - mean).abs().mean() < 0.08
    assert drawn.var(0).mean().item() == pytest.approx(0.25 * 1.36, rel=0.15)


STEPS = 100


def test_a_periodic_model_has_no_edge():
    config = GlowConfig(**{**SHAPE, "image_shape": (1, 8, 8)}, padding="periodic")
    model, x = perturb(Glow(config), 0.05).double(), torch.randn(3, 1, 8, 8).double()
    assert not [name for name, _ in model.named_parameters() if name.endswith("edge")]
    torch.testing.assert_close(model.log_prob(x.roll((4, 4), (2, 3))), model.log_prob(x))
    assert (
        model.log_prob(x.roll(1, 2)) - model.log_prob(x)
    ).abs().min() > 1e-6  # a squeeze sees it


@pytest.mark.parametrize("first_map", ["standardize", "standardize_positions", "whitening"])
def test_the_density_is_in_the_units_of_the_data(first_map):
    x = torch.randn(40, 2, 4, 4) * torch.linspace(1, 3, 4) + 5
    config = GlowConfig(
        image_shape=(2, 4, 4), levels=1, steps=1, hidden_channels=4, bits=None, first_map=first_map
    )
    figures = []
    for scale in (1.0, 1000.0):
        torch.manual_seed(0)
        model = Glow(config)
        model.initialize(scale * x)
        figures.append(model.log_prob(scale * x))
        assert (model.decode(model.encode(scale * x)) / scale - x).abs().max() < 1e-4
    expected = figures[0] - 32 * math.log(1000.0)
    torch.testing.assert_close(figures[1], expected, rtol=1e-4, atol=1e-2)


@pytest.fixture
def given_a_class():
    torch.manual_seed(0)
    conditions = (
        Condition(name="t", kind="vector", shape=(2,)),
        Condition(name="k", kind="class", shape=(3,)),
    )
    settings = {"levels": 1, "steps": 1, "hidden_channels": 4, "bits": None}
    model = ConditionalGlow(
        ConditionalGlowConfig(image_shape=(1, 4, 4), conditions=conditions, **settings)
    )
    c = {"t": torch.randn(3, 2), "k": torch.arange(3)}
    x = torch.randn(3, 1, 4, 4)
    model.initialize(x, labels=c)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    return model.eval(), x, c


def test_an_empty_batch_has_no_densities(given_a_class):
    model, x, c = given_a_class
    assert model.log_prob(x[:0], {name: value[:0] for name, value in c.items()}).shape == (0,)


def test_a_distribution_given_c_expands(given_a_class):
    model, x, c = given_a_class
    three, one = model.given(c), model.given({name: value[1] for name, value in c.items()})
    wide = three.expand((2, 3))
    assert wide.batch_shape == (2, 3) and wide.sample((4,)).shape == (4, 2, 3, 1, 4, 4)
    assert torch.allclose(wide.log_prob(x), three.log_prob(x).expand(2, 3))
    assert torch.allclose(one.expand((3,)).log_prob(x), one.log_prob(x))
    with pytest.raises(InputError, match="3 conditions cannot be expanded"):
        three.expand((3, 2))


def test_densities_under_vmap_given_a_class(given_a_class):
    model, x, c = given_a_class

    def one(x, t, k):
        return model.log_prob(x[None], {"t": t[None], "k": k[None]})[0]

    with torch.no_grad():
        assert torch.allclose(torch.vmap(one)(x, c["t"], c["k"]), model.log_prob(x, c), atol=1e-4)
