"""Data on grids of one and three axes: the same model, by PyTorch's own convolutions."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from glowflow import (
    Condition,
    ConditionalGlow,
    ConditionalGlowConfig,
    Glow,
    GlowConfig,
    InputError,
    load_model,
)
from glowflow.fused.steps import Steps
from glowflow.models.config import picture_shape
from glowflow.nn.convolutions import GatherConv, ScatterConv
from tests.conftest import perturb
from tests.test_reversible import grads, kept_by_the_graph, relative

TINY = {
    "levels": 1, "steps": 2, "hidden_channels": 6, "bits": None, "coupling_scale": "bounded"
}  # fmt: skip
SHAPES = {"1d": (2, 8), "3d": (1, 4, 2, 6)}


def make(shape, dtype=torch.float64, count=64, **changes):
    torch.manual_seed(0)
    model = Glow(GlowConfig(image_shape=shape, **{**TINY, **changes}))
    model.initialize(torch.randn(count, *shape))
    return perturb(model, 0.05).to(dtype)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request):
    return request.param


def test_the_shapes_of_latents():
    shapes = {
        (1, 8): ((1, 4), (1, 2), (2, 1)),
        (1, 8, 8): ((2, 4, 4), (4, 2, 2), (16, 1, 1)),
        (1, 8, 8, 16): ((4, 4, 4, 8), (16, 2, 2, 4), (128, 1, 1, 2)),
    }
    for shape, expected in shapes.items():
        model = Glow(GlowConfig(image_shape=shape, levels=3, steps=1, hidden_channels=2, bits=None))
        assert model.latent_shapes == expected
        latents = model.encode(torch.randn(2, *shape))
        assert tuple(eps.shape[1:] for eps in latents) == expected


@pytest.mark.parametrize("kind", [GatherConv, ScatterConv])
def test_the_plain_convolution_is_that_of_rows(kind):
    """With zeros beyond the edge, and the channel that marks it."""
    conv = perturb(kind(3, 4).double())
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    assert conv.by_rows and (conv(x) - conv.convolved(x)).abs().max() < 1e-12


@pytest.mark.parametrize("axes", [1, 3])
def test_the_edge_is_a_channel_that_is_one_outside(axes):
    conv = perturb(GatherConv(2, 3, axes=axes).double())
    x = torch.randn(2, 2, *(3, 4, 2)[:axes], dtype=torch.float64)
    inside = torch.zeros_like(x[:, :1])
    sides = (1, 1) * axes
    padded = torch.cat((F.pad(x, sides), F.pad(inside, sides, value=1.0)), dim=1)
    weight = torch.cat((conv.weight, conv.edge[:, None]), dim=1)
    expected = (F.conv1d, F.conv2d, F.conv3d)[axes - 1](padded, weight, conv.b)
    expected = expected * conv.scale().view(-1, *(1,) * axes)
    assert (conv(x) - expected).abs().max() < 1e-12
    assert GatherConv(2, 3, axes=axes, padding="periodic").edge is None


def test_a_density_of_two_values_integrates_to_one():
    model = make((1, 2), levels=1)
    ends = torch.linspace(-60, 60, 601, dtype=torch.float64)
    x = torch.cartesian_prod(ends, ends)[:, None]
    with torch.no_grad():
        density = model.log_prob(x).exp()
    assert density.sum().item() * (120 / 600) ** 2 == pytest.approx(1, abs=1e-4)


def test_a_shift_along_a_periodic_grid_by_whole_blocks_changes_nothing(shape):
    model = make(shape, padding="periodic")
    x = torch.randn(3, *shape, dtype=torch.float64)
    for axis in range(2, x.dim()):
        moved = x.roll(2, dims=axis)
        assert (model.log_prob(moved) - model.log_prob(x)).abs().max() < 1e-10
    edged = make(shape)
    assert (edged.log_prob(x.roll(2, dims=-1)) - edged.log_prob(x)).abs().max() > 1e-3


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from([4, 8]), min_size=1, max_size=3),
    st.integers(1, 3),
    st.sampled_from(["zero", "periodic", "reflect"]),
    st.sampled_from(["none", "standardize", "standardize_positions", "whitening", "spectral"]),
    st.sampled_from(["affine", "additive"]),
    st.sampled_from(["lu", "plain", "shuffle"]),
)
def test_any_grid_comes_back(grid, channels, padding, first_map, coupling, permutation):
    shape = (channels, *grid)
    model = make(
        shape, steps=1, hidden_channels=3, count=8, padding=padding, first_map=first_map,
        coupling=coupling, permutation=permutation,
    )  # fmt: skip
    x = torch.randn(2, *shape, dtype=torch.float64)
    latents, log_det = model(x)
    back, log_det_back = model.inverse(latents)
    assert (back - x).abs().max() < 1e-8
    assert (log_det + log_det_back).abs().max() < 1e-8
    assert (model.decode(model.encode(x)) - x).abs().max() < 1e-8


def test_the_first_batch_is_normalised(shape):
    model = Glow(GlowConfig(image_shape=shape, **TINY))
    x = 5 + 3 * torch.randn(256, *shape)
    model.initialize(x)
    assert model.initialized
    actnorm = model.levels[0].steps[0].actnorm
    y = actnorm(model.levels[0].squeeze(x)[0])[0].transpose(0, 1).flatten(1)
    assert y.mean(1).abs().max() < 1e-4 and (y.std(1) - 1).abs().max() < 1e-2


def test_what_every_model_does(shape, tmp_path):
    model = make(shape, torch.float32, levels=1, first_map="standardize_positions")
    x = torch.randn(3, *shape)
    expected = model.log_prob(x)
    assert model.sample(3, seed=1).shape == (3, *shape)
    assert torch.equal(model.sample(3, seed=1), model.sample(3, seed=1))
    with model.frozen():
        assert torch.allclose(model.log_prob(x), expected, atol=1e-5)
    assert torch.allclose(copy.deepcopy(model).log_prob(x), expected)
    weights = dict(model.named_parameters())
    called = torch.func.functional_call(model, weights, (x,))[1]
    assert torch.allclose(called, model(x)[1])
    by_level = model.log_prob_by_level(x)
    assert torch.allclose(by_level.sum(1), expected, atol=1e-4)
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert loaded.config == model.config and torch.equal(loaded.log_prob(x), expected)
    with torch.no_grad():
        assert torch.allclose(model.use(precision="bf16").log_prob(x), expected, atol=1.0)
    sums = [p.grad is not None for p in model.parameters()]
    model.use(precision="float32").loss(x).backward()
    assert not any(sums) and all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("padding", ["zero", "periodic"])
def test_gradients_by_inversion_are_those_of_stored_activations(shape, padding):
    model, x = make(shape, padding=padding, steps=4), torch.randn(4, *shape, dtype=torch.float64)
    expected = grads(model, x)
    assert relative(grads(model.use(memory="reversible"), x), expected) < 1e-9
    assert all(steps.guard.passes == 1 for steps in model.modules() if isinstance(steps, Steps))


def test_what_is_kept_of_a_sample_does_not_grow_with_depth(shape):
    def a_sample(steps, memory):
        model = make(shape, torch.float32, steps=steps, hidden_channels=32).use(memory=memory)
        few, many = (kept_by_the_graph(model, torch.randn(count, *shape)) for count in (8, 16))
        return (many - few) / 8

    assert a_sample(12, "reversible") == a_sample(2, "reversible")
    assert a_sample(12, "stored") > 10 * a_sample(12, "reversible")


def test_classes():
    model = make((2, 8), torch.float32, classes=3)
    x, y = torch.randn(4, 2, 8), torch.tensor([0, 1, 2, 0])
    scores = model.class_scores(x)
    assert torch.allclose(scores.log_prob.gather(1, y[:, None])[:, 0], model.log_prob(x, y))
    assert model.sample(4, labels=y).shape == (4, 2, 8)


CONDITIONS = {
    "1d": [
        Condition(name="y", kind="field", shape=(1, 2)),
        Condition(name="fine", kind="field", shape=(2, 8)),
    ],
    "3d": [Condition(name="y", kind="field", shape=(2, 2, 1, 6))],
}
EVERY = (
    Condition(name="theta", kind="vector", shape=(3,)),
    Condition(name="kind", kind="class", shape=(4,)),
)


@pytest.mark.parametrize("padding", ["zero", "periodic", "reflect"])
@pytest.mark.parametrize("name", SHAPES)
def test_given_conditions(name, padding):
    shape = SHAPES[name]
    if padding == "reflect" and min(shape[1:]) < 4:
        shape = (1, 4, 4, 4)
    fields = [
        Condition(name=c.name, kind="field", shape=(*c.shape[:1], *shape[1:]))
        if padding == "reflect"
        else c
        for c in CONDITIONS[name]
    ]
    torch.manual_seed(0)
    config = ConditionalGlowConfig(
        image_shape=shape, **TINY, padding=padding, condition_channels=4, missing="mask",
        conditions=(*fields, *EVERY),
    )  # fmt: skip
    model = ConditionalGlow(config)
    c = {f.name: torch.randn(5, *f.shape) for f in fields}
    c |= {"theta": torch.randn(5, 3), "kind": torch.arange(5) % 4}
    c["y"][0] = math.nan
    x = torch.randn(5, *shape)
    model.initialize(x, labels=c)
    model = perturb(model, 0.05).double()
    x = x.double()
    log_prob = model.log_prob(x, c)
    assert (model.decode(model.encode(x, c), c) - x).abs().max() < 1e-8
    changed = {**c, "y": c["y"].flip(0)}
    assert (model.log_prob(x, changed) - log_prob).abs().max() > 1e-6
    first = {each: value[1] for each, value in c.items()}
    posterior = model.given(first)
    assert posterior.sample((3,)).shape == (3, *shape)
    assert posterior.log_prob(x[1]).item() == pytest.approx(log_prob[1].item())
    expected = grads(model, x, c)
    assert relative(grads(model.use(memory="reversible"), x, c), expected) < 1e-8
    features = model.features(c)
    assert features[0].shape == (5, 4, *(side // 2 for side in shape[1:]))

    def latents(sample):
        return torch.cat([eps.flatten() for eps in model(sample[None], model.pack(first))[0]])

    model.use(memory="stored")
    jacobian = torch.func.jacrev(latents)(x[1]).reshape(math.prod(shape), -1)
    log_det = model(x[1:2], model.pack(first))[1]
    assert log_det.item() == pytest.approx(jacobian.slogdet().logabsdet.item(), abs=1e-8)


def test_what_is_refused():
    for changes, said in (
        ({"image_shape": (1, 10)}, "Data on a grid of 10 cannot be halved 2 times: each side"),
        ({"image_shape": (1, 8, 6, 8)}, "a grid of 8x6x8 cannot be halved"),
        ({"image_shape": (1,)}, "or channels and a grid of one or three axes"),
        ({"image_shape": (1, 8, 8, 8, 8)}, "or channels and a grid of one or three axes"),
        ({"image_shape": (1, 8), "bits": 8}, "images of bytes have channels, height and width"),
        ({"image_shape": (1, 4), "padding": "reflect"}, "one pixel wide"),
    ):
        with pytest.raises(InputError, match=said):
            GlowConfig(**{**TINY, "levels": 2, **changes})
    with pytest.raises(InputError, match="on a grid of 4x4 and the data on one of 8"):
        field = Condition(name="y", kind="field", shape=(1, 4, 4))
        ConditionalGlowConfig(image_shape=(1, 8), **TINY, conditions=(field,))
    model = make((2, 8), torch.float32)
    with pytest.raises(InputError, match=r"this model takes \(batch, 2, 8\)"):
        model.log_prob(torch.randn(1, 2, 8, 8))
    with pytest.raises(InputError, match="for images, and not for data on a grid of 8"):
        picture_shape(model.config.image_shape)
    with pytest.raises(InputError, match="for images, and not for data on a grid of 8"):
        model.prepare(torch.randn(1, 2, 8).numpy())
