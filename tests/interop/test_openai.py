"""The official TensorFlow files: the numbers of the original, from every form of them."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

from glowflow import CheckpointError, Glow, GlowflowError, InputError
from glowflow.interop.convert import convert

from .official import Official, variables

FORMS = {
    "folder": "",
    "checkpoint": "checkpoint",
    "prefix": "model_best_loss.ckpt",
    "index": "model_best_loss.ckpt.index",
    "data": "model_best_loss.ckpt.data-00000-of-00001",
    "plain graph": "frozen.pb",
    "folded graph": "frozen_folded.pb",
    "dump": "golden.npz",
}
SAID = {"image_size": (16, 16), "bits": 8}


def converted(official, form, **options):
    return Glow.from_foreign(official / FORMS[form], **SAID, **options)


def images(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def rows(tensor):
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


@pytest.fixture(scope="module")
def plain(golden_variables):
    return Official(golden_variables)


def test_the_plain_model_is_the_official_one(plain, golden):
    """What conversions are held to, held to what the official code computed."""
    x = golden["x"].astype(np.float64)
    assert np.abs(plain.log_prob(x) - golden["log_prob"]).max() < 1e-3
    decoded = plain.decode([golden[f"eps_in{i}"].astype(np.float64) for i in range(3)])
    assert (np.abs(decoded - golden["decoded"]) / np.maximum(np.abs(decoded), 1)).max() < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_float64_is_the_plain_model_to_1e_9(official, plain, golden, form):
    model = converted(official, form, dtype=torch.float64)
    x = golden["x"].astype(np.float64)
    per_dim = np.abs(model.log_prob(images(x)).detach().numpy() - plain.log_prob(x)) / x[0].size
    # A folded graph has exp(3·logs) in float32, from which logs come back to 1e-7.
    assert per_dim.max() < (1e-6 if form == "folded graph" else 1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_float32_is_the_official_code(official, golden, form):
    model = converted(official, form)
    x = images(golden["x"])
    assert model.dtype == torch.float32
    per_dim = (model.log_prob(x) - torch.from_numpy(golden["log_prob"])).abs() / x[0].numel()
    assert per_dim.max() < 1e-4
    for level, eps in enumerate(model.encode(x)):
        assert (eps - images(golden[f"eps{level}"])).abs().max() < 1e-5
    decoded = model.decode(tuple(images(golden[f"eps_in{level}"]) for level in range(3)))
    expected = images(golden["decoded"])
    error = (decoded - expected).abs() / expected.abs().clamp(min=1.0)
    assert error.max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "architecture",
    [
        {"permutation": "lu"},
        {"permutation": "shuffle", "coupling": "additive"},
        {"permutation": "reverse"},
        {"coupling": "additive", "classes": 5},
        {"learn_top": False, "levels": 1, "steps": 3},
        {"learn_top": False, "classes": 2, "levels": 3, "channels": 1},
    ],
    ids=lambda a: "-".join(map(str, a.values())),
)
def test_every_architecture(tmp_path, architecture, dtype):
    """Deduced from names and shapes, and exact."""
    made = variables(3, **architecture)
    np.savez(tmp_path / "dump.npz", **made)
    model = Glow.from_foreign(tmp_path / "dump.npz", image_size=(16, 8), bits=5, dtype=dtype)
    config = model.config
    for name, value in architecture.items():
        if name == "channels":
            assert config.image_shape[0] == value
        else:
            assert getattr(config, name) == value
    assert (config.hidden_channels, config.bits, config.image_shape[1:]) == (8, 5, (16, 8))
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.5, 0.5, (4, 16, 8, config.image_shape[0])).astype(np.float32)
    y = np.array([0, 1, 1, 0]) if config.classes else None
    labels = None if y is None else torch.from_numpy(y)
    plain = Official(made)
    x64 = x.astype(np.float64)
    log_prob = model.log_prob(images(x).to(dtype), labels).detach().numpy()
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    assert np.abs(log_prob - plain.log_prob(x64, y)).max() / x[0].size < tolerance
    close = 1e-5 if dtype == torch.float32 else 1e-9
    latents = plain.encode(x64, y)[0]
    for ours, theirs in zip(model.encode(images(x).to(dtype), labels), latents, strict=True):
        assert np.abs(rows(ours) - theirs).max() < close
    decoded = model.decode(tuple(images(eps).to(dtype) for eps in latents), labels)
    assert np.abs(rows(decoded) - plain.decode(latents, y)).max() < close
    if y is not None:
        logits = model.class_scores(images(x).to(dtype)).logits.detach().numpy()
        assert np.abs(logits - plain.logits(x64, y)).max() < close


def test_slots_averages_and_the_counter_are_said_and_left(official):
    read = convert(official / "model_best_loss.ckpt", **SAID)
    assert read.left_out == (
        "1 step counter (Variable = 48829)",
        "162 optimiser slots",
        "81 averages of weights",
    )
    assert (read.format, read.title) == ("openai", "openai/glow")


def test_what_else_is_in_a_graph_is_said(official):
    left_out = convert(official / "frozen_folded.pb").left_out
    assert left_out == (
        "33 constants of the decoder, which follow from the weights",
        "12 log-determinants, which follow from the weights",
        "4 numbers, shapes, zeros and masks (distractor/shape, distractor/scalar, "
        "distractor/zeros, model/random_uniform/sub)",
    )


def test_a_folded_graph_says_size_and_bits(official):
    config = Glow.from_foreign(official / "frozen_folded.pb").config
    assert (config.image_shape, config.bits) == ((3, 16, 16), 8)
    with pytest.raises(InputError, match="have 8 bits and --bits is 5"):
        Glow.from_foreign(official / "frozen_folded.pb", bits=5)
    with pytest.raises(InputError, match=r"16x16.*32x32"):
        Glow.from_foreign(official / "frozen_folded.pb", image_size=(32, 32))


@pytest.mark.parametrize("form", ["folder", "plain graph", "dump"])
def test_size_and_bits_are_asked_for(official, form):
    with pytest.raises(InputError, match="--image-size HEIGHT WIDTH"):
        Glow.from_foreign(official / FORMS[form], bits=8)
    with pytest.raises(InputError, match=r"how many bits.*--bits"):
        Glow.from_foreign(official / FORMS[form], image_size=(16, 16))


LOG = {
    "n_levels": 3,
    "depth": 2,
    "width": 16,
    "flow_permutation": 2,
    "flow_coupling": 1,
    "learntop": True,
    "ycond": False,
    "n_bits_x": 5,
    "image_size": 16,
    "beta3": 0.1,
    "problem": "celeba",
}


@pytest.fixture
def with_log(official, tmp_path):
    def write(**changes):
        folder = tmp_path / "logs"
        shutil.copytree(official, folder, dirs_exist_ok=True)
        (folder / "train.txt").write_text(json.dumps(LOG | changes) + '\n{"epoch": 1}\n')
        return folder

    return write


def test_the_log_of_the_run_says_size_and_bits(with_log):
    model = Glow.from_foreign(with_log())
    assert (model.config.bits, model.config.image_shape) == (5, (3, 16, 16))
    assert model.trained_on.bits == 5 and model.trained_on.size == (16, 16)
    with pytest.raises(InputError, match="5 bits and --bits is 8"):
        Glow.from_foreign(with_log(), bits=8)


@pytest.mark.parametrize("changes", [{"depth": 3}, {"flow_coupling": 0}, {"width": "wide"}])
def test_the_log_of_another_run_is_refused(with_log, changes):
    with pytest.raises(InputError, match=f"{next(iter(changes))} is .* another run"):
        Glow.from_foreign(with_log(**changes))


def test_missing_and_extra_variables_are_named(tmp_path):
    made = variables()
    del made["model/0/1/invconv/W"]
    made["model/0/1/f1/l_3/W"] = np.ones((1, 1, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "dump.npz", **made)
    with pytest.raises(
        CheckpointError, match=r"lacks model/0/1/invconv/W and has model/0/1/f1/l_3/W"
    ):
        Glow.from_foreign(tmp_path / "dump.npz", **SAID)


@pytest.mark.parametrize("permutation", ["plain", "lu", "shuffle"])
def test_whatever_is_missing_is_named(tmp_path, permutation):
    """Also what says, where it is there, of what kind the model is."""
    made = variables(permutation=permutation, classes=3, steps=2, levels=1)
    for name in made:
        np.savez(tmp_path / "dump.npz", **{n: v for n, v in made.items() if n != name})
        with pytest.raises(CheckpointError, match=rf"(lacks|has no) {re.escape(name)}[.:]"):
            Glow.from_foreign(tmp_path / "dump.npz", **SAID)


def test_many_names_stand_together_and_none_is_left_out(tmp_path):
    made = {n: v for n, v in variables(levels=3, steps=4).items() if "/f1/l_2/" not in n}
    np.savez(tmp_path / "dump.npz", **made)
    with pytest.raises(CheckpointError) as refused:
        Glow.from_foreign(tmp_path / "dump.npz", **SAID)
    assert "model/{0-2}/{0-3}/f1/l_2/W (12 of them)" in str(refused.value)
    assert "model/{0-2}/{0-3}/f1/l_2/actnorm_scale/logs (12 of them)" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["model/0/0/f1/l_1/W"].fill(np.nan), "not finite"),
        (lambda v: v["model/1/1/invconv/W"].fill(1.0), "model/1/1/invconv has a matrix without"),
        (
            lambda v: v.update({"model/0/0/f1/l_2/W": np.full((1, 1, 8, 8), 1e300)}),
            r"network\.second\.weight would be infinite in torch\.float32",
        ),
        (lambda v: v.update({"model/prior/p/b": np.ones((1, 1, 1, 7), np.float32)}), r"\(48,\)"),
        (lambda v: v.update({"Variable_7/ExponentialMovingAverage": np.ones(3)}), "averages of"),
        (lambda v: v.update({"model/9/0/f1/l_1/W": np.ones(3)}), "cannot be halved 10 times"),
    ],
)
def test_variables_that_do_not_fit(tmp_path, change, message):
    made = variables()
    change(made)
    np.savez(tmp_path / "dump.npz", **made)
    with pytest.raises(GlowflowError, match=message):
        Glow.from_foreign(tmp_path / "dump.npz", **SAID)


@pytest.mark.parametrize(("part", "said"), [("P", "no permutation"), ("sign_S", "1 and -1")])
def test_fixed_factors_are_what_they_were_made_as(tmp_path, part, said):
    made = variables(permutation="lu")
    made[f"model/0/1/invconv/{part}"].flat[0] = 7.0
    np.savez(tmp_path / "dump.npz", **made)
    with pytest.raises(CheckpointError, match=f"model/0/1/invconv has a {part} .*{said}"):
        Glow.from_foreign(tmp_path / "dump.npz", **SAID)


def test_a_graph_without_classifier_gives_a_model_without_opinion(tmp_path):
    made = {n: v for n, v in variables(classes=3).items() if "classifier" not in n}
    np.savez(tmp_path / "dump.npz", **made)
    read = convert(tmp_path / "dump.npz", **SAID)
    assert read.notes == ("It has no classifier, as graphs have none: its logits are 0 here.",)
    x = read.model.to_float(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    assert not read.model.class_scores(x).logits.any()


def test_the_optimised_graph_is_told(tmp_path):
    made = variables()
    for name in ("model/0/0/f1/l_1/W", "model/0/0/f1/l_last/W"):
        made[name] = made[name][:, :, :-1]
    np.savez(tmp_path / "dump.npz", **made)
    with pytest.raises(CheckpointError, match=r"convert graph_unoptimized\.pb"):
        Glow.from_foreign(tmp_path / "dump.npz", **SAID)


def test_formats_by_name(official, tmp_path):
    path = official / "frozen_folded.pb"
    assert convert(path, format="openai").format == "openai"
    with pytest.raises(InputError, match="no format 'tensorflow': choose one of openai"):
        convert(path, format="tensorflow")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(CheckpointError, match="1 tensors, a"):
        convert(tmp_path / "other.npz")


@pytest.mark.parametrize("given", [{"black": 0.0}, {"coupling_scale": "exp"}])
def test_what_the_format_settles_is_not_given(official, given):
    with pytest.raises(InputError, match="leave --black and --coupling-scale out"):
        Glow.from_foreign(official / "frozen_folded.pb", **given)


def test_the_dtype_of_the_model(official):
    model = converted(official, "dump", dtype=torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    with pytest.raises(InputError, match=r"dtype is torch\.int32: give one of floats"):
        converted(official, "dump", dtype=torch.int32)


def test_a_converted_model_is_one_like_any_other(official, tmp_path):
    """It is whole, saved and loaded to the bit, and its weights learn."""
    model = converted(official, "plain graph")
    assert model.initialized and not model.training
    assert all(p.requires_grad and p.is_contiguous() for p in model.parameters())
    model.save_pretrained(tmp_path / "model")
    again = Glow.from_pretrained(tmp_path / "model")
    x = model.to_float(torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8))
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    model.train().loss(x).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
