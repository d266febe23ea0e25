"""Models of PyTorch ports have the numbers of the originals here, and go on from there."""

import math
from functools import partial

import pytest
import torch

from glowflow import Glow
from glowflow.interop import chaiyujin, normflows, rosinality, y0ast
from glowflow.interop.foreign import Given
from tests.interop import originals

NATS = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Allowed difference of log p(x), for each dimension."""
LATENTS = {torch.float32: 1e-5, torch.float64: 1e-9}

ROSINALITY = {
    "rosinality": {},
    "rosinality-plain": {"lu": False, "blocks": 3},
    "rosinality-additive-grey": {"affine": False, "channels": 1, "flows": 1},
    "rosinality-one-block-plain": {"lu": False, "blocks": 1, "flows": 3},
}
FLOWNET = {
    "": {},
    "-plain-additive": {"lu": False, "affine": False, "levels": 3, "steps": 1},
    "-fixed-top": {"learn_top": False, "steps": 3},
    "-classes": {"classes": 5, "learn_top": False},
    "-classes-learned-top-grey": {"classes": 3, "channels": 1, "levels": 1, "size": (8, 6)},
}
NORMFLOWS = {
    "normflows": ({}, "sigmoid"),
    "normflows-classes": ({"classes": 4, "steps": 1, "levels": 3}, "sigmoid"),
    "normflows-plain-normed-exp": ({"lu": False, "normed": True, "channels": 1}, "exp"),
    "normflows-by-channel": ({"base": "channel", "size": (8, 6), "levels": 1}, "inverse_sigmoid"),
    "normflows-by-channel-2": ({"base": "channel"}, "sigmoid"),
    "normflows-by-channel-classes": ({"base": "channel", "classes": 3}, "sigmoid"),
    "normflows-additive": ({"affine": False, "size": (12, 8)}, None),
}


def cases():
    """Module, what makes weights, what the original gives for them and x, and black."""
    for name, how in ROSINALITY.items():
        make = partial(originals.rosinality_state, **how)
        yield name, (rosinality, make, lambda s, x, _: originals.rosinality_forward(s, x), -0.5)
    for port, module, black in (("y0ast", y0ast, -0.5), ("chaiyujin", chaiyujin, 0.0)):
        for name, how in FLOWNET.items():
            make = partial(originals.flownet_state, port, **how)
            yield port + name, (module, make, partial(originals.flownet_forward, port), black)
    for name, (how, scale) in NORMFLOWS.items():
        make = partial(originals.normflows_state, **how)
        yield name, (normflows, make, partial(originals.normflows_forward, scale=scale), 0.0)


CASES = dict(cases())


def converted(name, dtype=torch.float64, prefix=""):
    """The model here, and what the original gives."""
    module, make, forward, black = CASES[name]
    state = make(dtype=dtype)
    size = make.keywords.get("size", (8, 8))
    asked = {"image_size": None if "prior_h" in state else size, "bits": 5}
    if module is normflows:
        asked |= {"black": black, "coupling_scale": NORMFLOWS[name][1]}
    given = Given(**asked)
    tensors = {prefix + name: weight for name, weight in state.items()}
    assert module.recognises(tensors)
    foreign = module.read(tensors, given, "the file")
    model = Glow(foreign.config).to(dtype)
    model.load_weights(foreign.state, "the file")
    x = torch.rand(3, *foreign.config.image_shape, generator=torch.Generator().manual_seed(7)).to(
        dtype
    )
    labels = torch.tensor([0, 2, 1]) if foreign.config.classes else None
    with torch.no_grad():
        expected = forward(state, x + black, labels)
    return model.eval(), x - 0.5, labels, expected, foreign


@pytest.mark.parametrize("dtype", NATS, ids=str)
@pytest.mark.parametrize("name", CASES)
class TestNumbers:
    def test_are_the_originals(self, name, dtype):
        model, x, labels, (log_p, latents, logits), foreign = converted(name, dtype)
        assert {w.dtype for w in foreign.state.values() if w.is_floating_point()} == {dtype}
        with torch.no_grad():
            difference = (model.log_prob(x, labels) - log_p).abs().max() / x[0].numel()
        assert difference < NATS[dtype]
        for ours, theirs in zip(model.encode(x, labels), latents, strict=True):
            assert (ours - theirs).abs().max() < LATENTS[dtype] * (1 + theirs.abs().max())
        assert (model.decode(tuple(latents), labels) - x).abs().max() < 3 * LATENTS[dtype]
        if logits is not None:
            assert torch.allclose(model.class_scores(x).logits, logits, atol=LATENTS[dtype])


def test_the_earliest_files_have_no_flags():
    state = originals.rosinality_state(dtype=torch.float64)
    bare = {name: w for name, w in state.items() if not name.endswith("initialized")}
    given = Given(image_size=(8, 8), bits=5)
    with_flags, without = (rosinality.read(s, given, "the file").state for s in (state, bare))
    assert all(torch.equal(weight, without[name]) for name, weight in with_flags.items())


@pytest.mark.parametrize(
    "name",
    [
        "rosinality-plain",
        "y0ast-classes",
        "chaiyujin",
        "normflows-classes",
        "normflows-by-channel-2",
        "normflows-additive",
    ],
)
def test_what_follows_from_the_model(name, tmp_path):
    model, x, labels, (log_p, _, _), _ = converted(name, torch.float32)
    images = model.to_images(x)
    bits = model.bits_per_dim(images, labels)
    assert torch.isfinite(bits).all()
    assert model.sample(2, temperature=0.1, labels=None if labels is None else labels[:2]).any()
    assert model.initialized
    model.save_pretrained(tmp_path / "model")
    again = Glow.from_pretrained(tmp_path / "model")
    assert (again.log_prob(x, labels) - log_p).abs().max() / x[0].numel() < 1e-4
    optimizer = torch.optim.Adam(again.train().parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(again.loss(x, labels))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_bytes_have_the_density_of_the_original_that_saw_them_from_0_to_1():
    model, _, _, _, _ = converted("chaiyujin")
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    x = model.to_float(images, noise="center")
    _, make, forward, _ = CASES["chaiyujin"]
    whole = (images // 8).double()  # 5 bits
    log_p, _, _ = forward(make(), (whole + 0.5) / 32, None)
    bits = -(log_p - 192 * math.log(32)) / (192 * math.log(2))
    assert torch.allclose(-model.log_prob(x) / (192 * math.log(2)) + 5, bits, atol=1e-6)
