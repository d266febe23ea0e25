"""A model that has left: every program gives the model's numbers, wherever it runs."""

import copy
import json
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from glowflow import Glow, GlowConfig, RealNVP, RealNVPConfig
from glowflow.bijections import Invertible1x1Conv
from glowflow.errors import InputError
from glowflow.interop import comparison, onnx
from glowflow.interop.comparison import PYTORCH, compare
from glowflow.interop.export import export_model
from glowflow.interop.onnx import export_onnx
from glowflow.interop.portable import portable
from glowflow.interop.quantiles import normal_quantile
from glowflow.latents.directions import Directions
from tests.conftest import perturb

GLOWS = {
    "official": {},
    "additive, plain": {"coupling": "additive", "permutation": "plain"},
    "bounded, shuffle": {"coupling_scale": "bounded", "permutation": "shuffle"},
    "exp, reverse, no top": {
        "coupling_scale": "exp",
        "permutation": "reverse",
        "learn_top": False,
    },
    "inverse_sigmoid": {"coupling_scale": "inverse_sigmoid"},
    "marginals, 5 bits": {"first_map": "marginals", "bits": 5},
    "whitening": {"first_map": "whitening", "rank": 20, "dense_steps": 2, "dense_channels": 8},
    "variational": {"dequantization": "variational", "dequantization_channels": 8},
    "float data": {"bits": None},
    "classes": {"classes": 3},
}


def trained(model, images=None):
    """Weights as after training: none is where it started."""
    torch.manual_seed(1)
    shape = model.config.image_shape
    images = torch.randint(0, 256, (32, *shape), dtype=torch.uint8)
    if model.config.bits is None:
        images = torch.randn(32, *shape)
    model.initialize(images)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.03 * torch.randn_like(weight)
    return model.eval()


def glow(**settings):
    small = {"image_shape": (3, 8, 8), "levels": 2, "steps": 1, "hidden_channels": 8}
    return trained(Glow(GlowConfig(**{**small, **settings})))


def realnvp():
    settings = {"image_shape": (3, 4, 4), "residual_blocks": 1, "hidden_channels": 4}
    return trained(RealNVP(RealNVPConfig(**settings)))


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Speed is no test."""
    monkeypatch.setattr(comparison, "SECONDS", 0.0)


def held(model, precision="float32"):
    own = portable(model, precision)
    programs = {name: partial(run, own) for name, run in PYTORCH.items()}
    return compare(model, programs, precision)


def test_the_normal_quantile_is_pytorch_s():
    p = torch.linspace(1e-4, 1 - 1e-4, 100_001, dtype=torch.float64)
    assert (normal_quantile(p) - torch.special.ndtri(p)).abs().max() < 4e-7


@pytest.mark.parametrize("name", GLOWS)
def test_constants_give_the_numbers_of_every_glow(name):
    found = held(glow(**GLOWS[name]))
    assert found.is_close, found
    assert found.bytes_compared == (0 if name == "float data" else 64 * 192)
    assert {error.batch for error in found.errors} == {1, 3, 64}


def test_constants_give_the_numbers_of_realnvp():
    assert held(realnvp()).is_close


def test_an_error_is_seen():
    model = glow()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.levels[0].steps[0].actnorm.b[0] += 1e-3
    programs = {name: partial(run, other) for name, run in PYTORCH.items()}
    assert not compare(model, programs, "float32").is_close


def test_float16_rounds_the_weights_and_nothing_else():
    found = held(glow(), "float16")
    assert found.is_close
    assert found.bytes_that_differ == 0
    assert 0 < found.rounded.bits_per_dim < 0.01
    assert 0 < found.rounded.latents < 0.1


def test_nothing_is_solved_or_inverted_and_the_model_stays_as_it_is(tmp_path):
    model = glow(levels=1, image_shape=(1, 4, 4)).double().train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    exported = export_model(model, tmp_path / "out", format="torch")
    assert exported.comparison.is_close
    assert model.training and model.dtype == torch.float64
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    loaded = torch.export.load(tmp_path / "out" / "decode.pt2")
    used = {str(node.target) for node in loaded.graph.nodes}
    assert not any("solve" in name or "linalg" in name or "inv" in name for name in used)
    text = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert b"portable.py" not in text


def test_torch_programs_are_loaded_without_the_model(tmp_path):
    model = glow(classes=3, levels=1, image_shape=(1, 4, 4))
    export_model(model, tmp_path, format="torch", precision="float16")
    load = {n: torch.export.load(tmp_path / f"{n}.pt2").module() for n in PYTORCH}
    for batch in (0, 1, 3):
        x = torch.rand(batch, 1, 4, 4) - 0.5
        labels = torch.arange(batch) % 3
        latents = load["encode"](x, labels)
        assert load["log_prob"](x, labels).shape == (batch,)
        assert torch.allclose(load["decode"](latents, labels), x, atol=1e-5)


def sessions(written):
    import onnxruntime

    return {name: onnxruntime.InferenceSession(path) for name, path in written.items()}


def test_a_model_that_interlaces_is_refused(tmp_path):
    model = glow(first_map="interlaced", interlaced_channels=4)
    with pytest.raises(InputError, match="`interlaced` cannot be exported"):
        export_model(model, tmp_path / "out", format="onnx")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"classes": 3}, id="classes"),
        pytest.param(
            {"classes": 3, "first_map": "marginals", "dequantization": "variational"},
            id="everything",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_onnx_graphs_of_a_glow(settings, tmp_path):
    model = glow(**settings)
    directions = Directions(
        latents={"Smiling": tuple(torch.randn(shape) for shape in model.latent_shapes)},
        estimator="mean",
        model="",
        counts={"Smiling": (5, 5)},
    )
    exported = export_model(model, tmp_path, format="onnx", directions=directions)
    assert exported.comparison.is_close, exported.comparison
    names = {"encode.onnx", "decode.onnx", "log_prob.onnx", "weights.bin", "directions.bin"}
    assert set(exported.sizes) == names

    import onnx as library

    meta = json.loads((tmp_path / "meta.json").read_text())
    for name, program in meta["programs"].items():
        graph = library.load(tmp_path / program["file"], load_external_data=False)
        assert [(one.domain, one.version) for one in graph.opset_import] == [("", 18)]
        assert not {node.domain for node in graph.graph.node} - {""}
        assert [one.name for one in graph.graph.input] == [one["name"] for one in program["inputs"]]
        assert b".py" not in graph.SerializeToString(), name
    kernels = 4 * sum(w.numel() for w in model.state_dict().values())
    assert exported.sizes["weights.bin"] < 2 * kernels  # W and its inverse, and each kernel once

    run = sessions({name: tmp_path / f"{name}.onnx" for name in PYTORCH})
    for batch in (0, 1, 3):
        images = torch.randint(0, 256, (batch, 3, 8, 8), dtype=torch.uint8)
        x, labels = model.to_float(images, noise="center"), torch.arange(batch) % 3
        given = {"x": x.numpy(), "labels": labels.numpy()}
        latents = run["encode"].run(None, given)
        inputs = {f"latent{level}": eps for level, eps in enumerate(latents, start=1)}
        (back,) = run["decode"].run(None, {**inputs, "labels": labels.numpy()})
        assert torch.equal(model.to_images(torch.from_numpy(back)), images)
        (log_prob,) = run["log_prob"].run(None, given)
        with torch.no_grad():
            assert np.allclose(log_prob, model.log_prob(x, labels), rtol=1e-4, atol=1e-3)
    moved = np.frombuffer((tmp_path / "directions.bin").read_bytes(), "<f4")
    first = directions.latents["Smiling"][0]
    assert np.array_equal(moved[: first.numel()], first.flatten().numpy())


@pytest.mark.slow
def test_onnx_graphs_of_a_realnvp_in_float16(tmp_path):
    exported = export_model(realnvp(), tmp_path, format="onnx", precision="float16")
    assert exported.comparison.is_close, exported.comparison
    assert exported.comparison.rounded.bits_per_dim > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", GLOWS)
def test_onnx_graphs_of_every_glow(name, tmp_path):
    exported = export_model(glow(**GLOWS[name]), tmp_path, format="onnx")
    assert exported.comparison.is_close, exported.comparison


class Own(nn.Module):
    def __init__(self, channels_in, channels_out, hidden):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)

    def forward(self, x, context=None):
        scale = 1.0 if context is None else 1.0 + 0.1 * context[:, None, None, None]
        return torch.tanh(self.conv(x)) * scale


def test_a_network_of_one_s_own_goes_along_and_is_given_the_labels():
    config = GlowConfig(image_shape=(3, 8, 8), levels=2, steps=1, hidden_channels=8, classes=3)
    assert held(trained(Glow(config, network=Own))).is_close


def test_a_subclass_is_followed():
    class Doubled(Invertible1x1Conv):
        @classmethod
        def log_abs_dets(cls, mixings):
            return 2 * super().log_abs_dets(mixings)

    model = glow()
    mixing = model.levels[0].steps[0].permutation
    mixing.__class__ = Doubled
    assert held(model).is_close


@pytest.mark.parametrize("part", ["", "levels.0.steps.0.coupling.network.second"])
def test_hooks_are_refused_by_name(part):
    model = glow()
    model.get_submodule(part).register_forward_hook(lambda module, given, made: made)
    with pytest.raises(InputError, match=f"{part or 'The model'} has hooks"):
        portable(model)


def test_a_model_that_has_seen_no_images_is_refused(tmp_path):
    config = GlowConfig(image_shape=(3, 8, 8), levels=1, steps=1, hidden_channels=4)
    with pytest.raises(InputError, match="has seen no images"):
        export_onnx(Glow(config), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_depends_on_values_is_refused(tmp_path):
    class Branching(Own):
        def forward(self, x, context=None):
            return super().forward(x) if x.sum() > 0 else -super().forward(x)

    config = GlowConfig(image_shape=(3, 8, 8), levels=1, steps=1, hidden_channels=4)
    model = trained(Glow(config, network=Branching))
    with pytest.raises(InputError, match="cannot record this model"):
        export_model(model, tmp_path / "out", format="torch")


def test_what_onnx_has_not_is_refused(tmp_path, monkeypatch):
    class Bessel(Own):
        def forward(self, x, context=None):
            return torch.special.bessel_j0(super().forward(x))

    config = GlowConfig(image_shape=(1, 4, 4), levels=1, steps=1, hidden_channels=4)
    with pytest.raises(InputError, match="cannot be expressed in ONNX"):
        export_onnx(trained(Glow(config, network=Bessel)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        export_model(glow(), tmp_path, format="torch")


def test_without_onnx_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"pip install 'glowflow\[export\]'"):
        onnx.export_onnx(glow(), tmp_path)


@pytest.mark.parametrize(
    ("padding", "first_map"), [("periodic", "spectral"), ("reflect", "standardize")]
)
def test_fields_without_zeros_beyond_their_edge_are_exported(padding, first_map, tmp_path):
    torch.manual_seed(0)
    config = GlowConfig(
        image_shape=(1, 8, 8), levels=2 if padding == "periodic" else 1, steps=1,
        hidden_channels=4, bits=None, padding=padding, first_map=first_map,
    )  # fmt: skip
    model = Glow(config)
    model.initialize(torch.randn(32, 1, 8, 8))
    perturb(model)
    assert export_model(model, tmp_path / "out", format="torch").comparison.is_close
