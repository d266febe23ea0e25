"""The whole model: parameters, closed forms, densities, files."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glowflow import CheckpointError, Glow, GlowConfig, InputError
from glowflow.bijections import ActNorm, AffineCoupling, Chain, Invertible1x1Conv
from glowflow.models.config import Architecture
from glowflow.nn.coupling_network import CouplingNetwork
from glowflow.training.presets import PRESETS
from tests.children import Child
from tests.conftest import perturb

TINY = {"levels": 2, "steps": 2, "hidden_channels": 6}


def tiny(shape=(3, 8, 8), **changes):
    return Glow(GlowConfig(image_shape=shape, **{**TINY, **changes}))


def random_images(count=4, shape=(3, 8, 8), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def test_cifar10_preset_has_the_official_number_of_parameters():
    preset = PRESETS["cifar10"]
    config = GlowConfig.of(replace(preset.model, permutation="plain"), (3, *preset.size))
    model = Glow(config)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 44_603_604


def test_presets_are_the_published_runs():
    assert {name: p.size[0] for name, p in PRESETS.items()} == {
        "cifar10": 32,
        "imagenet32": 32,
        "imagenet64": 64,
        "lsun64": 64,
        "celebahq256": 256,
        "lsun96": 96,
        "lsun128": 128,
        "cifar10-conditional": 32,
        "imagenet32-conditional": 32,
    }
    for preset in PRESETS.values():
        GlowConfig.of(preset.model, (3, *preset.size))


@pytest.mark.parametrize("coupling", ["affine", "additive"])
def test_log_density_at_initialisation_has_a_closed_form(coupling):
    """Zero networks, identity 1x1s: a coupling multiplies its half by sigmoid(2)."""
    levels, steps = 2, 3
    shape = (3, 8, 8)
    model = tiny(shape, levels=levels, steps=steps, coupling=coupling, permutation="plain").double()
    for module in model.modules():
        if hasattr(module, "set_matrix"):
            module.set_matrix(torch.eye(module.weight.shape[0]))
    x = torch.randn(5, *shape, dtype=torch.float64)
    gate = 1.0 if coupling == "additive" else 1 / (1 + math.exp(-2.0))

    # by hand: squeeze, scale the second half of the channels K times, leave with it
    log_det, parts, h = 0.0, [], x
    for level in range(levels):
        h = torch.nn.functional.pixel_unshuffle(h, 2)
        kept, changed = h.chunk(2, dim=1)
        changed = changed * gate**steps
        log_det += steps * math.log(gate) * changed[0].numel()
        parts.append(changed)
        h = torch.cat((kept, changed), dim=1) if level == levels - 1 else kept
    parts[-1] = h
    z = torch.cat([part.flatten(1) for part in parts], dim=1)
    expected = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1) + log_det
    assert torch.allclose(model.log_prob(x), expected, atol=1e-9)


def test_density_of_a_toy_integrates_to_one():
    """Two dimensions as two channels of one pixel, on a grid."""
    torch.manual_seed(3)
    steps = [
        bijection
        for _ in range(3)
        for bijection in (
            ActNorm(2),
            Invertible1x1Conv(2),
            AffineCoupling(CouplingNetwork(1, 2, 8)),
        )
    ]
    flow = perturb(Chain(steps).double(), 0.3)
    axis = torch.linspace(-25, 25, 1501, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2, 1, 1)
    with torch.no_grad():
        mass = 0.0
        for some in grid.split(200_000):
            z, log_det = flow(some)
            log_p = -0.5 * z.square().flatten(1).sum(1) - math.log(2 * math.pi) + log_det
            mass += log_p.exp().sum().item()
    cell = (axis[1] - axis[0]).item() ** 2
    assert mass * cell == pytest.approx(1.0, abs=0.01)


def test_density_of_a_whole_glow_integrates_to_one():
    """Four dimensions (1x2x2), by importance sampling from a wide Gaussian."""
    model = perturb(Glow(GlowConfig(image_shape=(1, 2, 2), levels=1, steps=2, hidden_channels=4)))
    model = model.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        drawn = model.decode((3 * torch.randn(200, 4, 1, 1, generator=generator).double(),))
        centre, spread = drawn.mean(0), 1.2 * drawn.std(0)
        x = centre + spread * torch.randn(400_000, 1, 2, 2, generator=generator).double()
        log_q = torch.distributions.Normal(centre, spread).log_prob(x).flatten(1).sum(1)
        weight = (model.log_prob(x) - log_q).exp()
    error = weight.std() / len(weight) ** 0.5
    assert error < 0.02
    assert abs(weight.mean() - 1.0) < 4 * error


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12), (4, 16, 4), (7, 4, 4)], ids=str)
@pytest.mark.parametrize("bits", [1, 3, 5, 8])
def test_any_shape_and_bits_reconstruct_every_byte(shape, bits):
    model = tiny(shape, bits=bits)
    images = random_images(8, shape)
    model.initialize(images)
    perturb(model, 0.02).eval()
    x = model.to_float(images, noise="center")
    expected = images // 2 ** (8 - bits) * 2 ** (8 - bits)
    assert torch.equal(model.to_images(model.decode(model.encode(x))), expected)
    assert [tuple(eps.shape[1:]) for eps in model.encode(x)] == list(model.latent_shapes)


@given(st.integers(1, 8), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_bits_per_dim_is_the_log_density_with_the_quantisation_term(bits, seed):
    model = tiny(bits=bits)
    images = random_images(2, seed=seed)
    figure = model.bits_per_dim(images, generator=torch.Generator().manual_seed(seed))
    x = model.to_float(images, generator=torch.Generator().manual_seed(seed))
    D = 3 * 8 * 8
    expected = -(model.log_prob(x) - D * math.log(2**bits)) / (D * math.log(2))
    assert torch.allclose(figure, expected, atol=1e-4)


def test_initialize_normalises_every_actnorm_once():
    model = tiny(levels=1, steps=1)
    assert not model.initialized
    images = random_images(64)
    model.initialize(images, torch.Generator().manual_seed(0))
    assert model.initialized
    x = model.to_float(images, generator=torch.Generator().manual_seed(0))
    level = model.levels[0]
    step = level.steps[0]
    h, _ = step.actnorm(level.squeeze(x)[0])
    assert h.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (h.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-2
    network = step.coupling.network
    first = network.first(step.permutation(h)[0][:, :6])
    assert first.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.initialize(random_images(64, seed=1))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_samples_repeat_and_differ():
    model = tiny()
    model.initialize(random_images(32))
    a, b, c = (model.sample(3, temperature=0.7, seed=s) for s in (5, 5, 6))
    assert a.dtype == torch.uint8
    assert a.shape == (3, 3, 8, 8)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert model.sample(0).shape == (0, 3, 8, 8)
    zero = model.sample(2, temperature=0.0)
    assert torch.equal(zero[0], zero[1])
    with pytest.raises(InputError, match="temperature"):
        model.sample(1, temperature=-1.0)


def test_temperature_scales_the_latents_of_every_level():
    model = tiny().eval()
    hot = [model.encode(_decode_noise(model, t)) for t in (1.0, 0.5)]
    for one, half in zip(*hot, strict=True):
        assert torch.allclose(0.5 * one, half, atol=1e-4)


def _decode_noise(model, temperature):
    generator = torch.Generator().manual_seed(0)
    shapes = model.latent_shapes
    return model.decode(
        tuple(temperature * torch.randn(2, *shape, generator=generator) for shape in shapes)
    )


class TestClasses:
    def test_labels_change_the_density_and_the_samples(self):
        model = perturb(tiny(classes=3))
        x = torch.randn(2, 3, 8, 8) * 0.1
        a, b = (model.log_prob(x, torch.tensor([c, c])) for c in (0, 2))
        assert (a - b).abs().min() > 1e-3
        same = [model.sample(2, seed=1, labels=torch.tensor([c, c])) for c in (0, 2)]
        assert not torch.equal(*same)
        assert model.sample(2).shape == (2, 3, 8, 8)

    def test_classifier_and_density_in_one_pass(self):
        model = perturb(tiny(classes=3))
        x, labels = torch.randn(2, 3, 8, 8) * 0.1, torch.tensor([0, 2])
        log_prob, logits = model.log_prob_and_logits(x, labels)
        assert torch.allclose(log_prob, model.log_prob(x, labels))
        assert logits.shape == (2, 3)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (None, "give labels"),
            (torch.tensor([0]), "give 2 integers"),
            (torch.tensor([0.0, 1.0]), "give 2 integers"),
            (torch.tensor([0, 3]), "between 0 and 2"),
            (torch.tensor([-1, 0]), "between 0 and 2"),
        ],
    )
    def test_bad_labels(self, labels, message):
        with pytest.raises(InputError, match=message):
            tiny(classes=3).log_prob(torch.zeros(2, 3, 8, 8), labels)

    def test_model_without_classes_has_no_classifier(self):
        with pytest.raises(InputError, match="no classes"):
            tiny().log_prob_and_logits(torch.zeros(1, 3, 8, 8), torch.tensor([0]))


class TestFloatData:
    def test_is_not_dequantised_and_comes_back(self):
        model = tiny((1, 8, 8), bits=None)
        x = torch.randn(16, 1, 8, 8) * 40 + 300
        model.initialize(x)
        model.eval()
        assert torch.allclose(model.decode(model.encode(x)), x, rtol=1e-5, atol=1e-3)
        assert torch.allclose(model.bits_per_dim(x), -model.log_prob(x) / (64 * math.log(2)))
        assert model.sample(2).dtype == torch.float32
        with pytest.raises(InputError, match="float data"):
            model.bits_per_dim(random_images(1, (1, 8, 8)))


class TestFiles:
    def test_same_log_prob_to_the_bit_in_a_new_process(self, tmp_path):
        model = tiny(classes=2)
        model.initialize(random_images(32))
        perturb(model, 0.05).eval()
        model.save_pretrained(tmp_path / "model")
        x = torch.randn(4, 3, 8, 8) * 0.2
        labels = torch.tensor([0, 1, 1, 0])
        torch.save((x, labels), tmp_path / "x.pt")
        program = (
            "import sys, torch\n"
            "from glowflow import Glow\n"
            "folder = sys.argv[1]\n"
            "model = Glow.from_pretrained(folder + '/model')\n"
            "x, labels = torch.load(folder + '/x.pt', weights_only=True)\n"
            "assert model.initialized\n"
            "model.initialize(torch.zeros(8, 3, 8, 8, dtype=torch.uint8))\n"
            "torch.save(model.log_prob(x, labels).detach(), folder + '/out.pt')\n"
        )
        assert Child(["-c", program, tmp_path]).answer()[0] == 0
        there = torch.load(tmp_path / "out.pt", weights_only=True)
        assert torch.equal(there, model.log_prob(x, labels).detach())

    def test_config_is_readable(self, tmp_path):
        tiny().save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        assert config["model_type"] == "glow"
        assert config["image_shape"] == [3, 8, 8]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]

    def test_saving_over_an_older_model_replaces_it(self, tmp_path):
        tiny().save_pretrained(tmp_path)
        model = perturb(tiny())
        model.save_pretrained(tmp_path)
        x = torch.zeros(1, 3, 8, 8)
        expected = model.eval().log_prob(x)
        assert torch.equal(Glow.from_pretrained(tmp_path).log_prob(x), expected)

    def test_missing(self, tmp_path):
        with pytest.raises(CheckpointError, match="There is no model at"):
            Glow.from_pretrained(tmp_path / "nowhere")
        with pytest.raises(CheckpointError, match=r"no config\.json"):
            Glow.from_pretrained(tmp_path)

    def test_truncated(self, tmp_path):
        tiny().save_pretrained(tmp_path)
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(CheckpointError, match="truncated"):
            Glow.from_pretrained(tmp_path)

    def test_another_architecture(self, tmp_path):
        tiny().save_pretrained(tmp_path)
        tiny(hidden_channels=7).save_pretrained(tmp_path / "other")
        weights = (tmp_path / "other" / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(weights)
        with pytest.raises(CheckpointError, match="another architecture"):
            Glow.from_pretrained(tmp_path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "not JSON"),
            ("[]", "model of type None"),
            ('{"model_type": "realnvp"}', "not 'glow'"),
            ('{"model_type": "glow", "format": 99}', "update glowflow"),
            ('{"model_type": "glow", "format": 1, "colour": 3}', "does not describe"),
            ('{"model_type": "glow", "format": 1, "image_shape": [3, 9, 8]}', "divisible"),
        ],
    )
    def test_bad_config(self, tmp_path, text, message):
        tiny().save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            Glow.from_pretrained(tmp_path)

    def test_unwritable(self, tmp_path):
        blocker = tmp_path / "file"
        blocker.write_text("")
        with pytest.raises(InputError, match=r"output folder|another one"):
            tiny().save_pretrained(blocker / "model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_shape": (3, 9, 8)}, "divisible by 2"),
        ({"image_shape": (3, 8)}, "channels, height and width"),
        ({"image_shape": (0, 8, 8)}, "channels, height and width"),
        ({"bits": 0}, "bits is 0"),
        ({"bits": 9}, "bits is 9"),
        ({"levels": 0}, "levels is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"hidden_channels": 0}, "hidden_channels is 0"),
        ({"coupling": "volume"}, "affine, additive"),
        ({"coupling_scale": "tanh"}, "sigmoid, bounded, exp"),
        ({"permutation": "qr"}, "lu, plain, shuffle, reverse"),
        ({"classes": -1}, "classes is -1"),
    ],
)
def test_config_that_cannot_work_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        GlowConfig(**{"image_shape": (3, 8, 8), "levels": 2, **changes})


def test_input_of_another_shape_or_type_is_refused():
    model = tiny()
    with pytest.raises(InputError, match=r"takes \(batch, 3, 8, 8\)"):
        model.log_prob(torch.zeros(1, 3, 8, 4))
    with pytest.raises(InputError, match="give floats"):
        model.log_prob(torch.zeros(1, 3, 8, 8, dtype=torch.long))
    with pytest.raises(InputError, match="uint8"):
        model.bits_per_dim(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="Latents"):
        model.decode((torch.zeros(1, 3, 8, 8),))


def test_architecture_for_images():
    config = GlowConfig.of(Architecture(levels=2, steps=5), (1, 4, 8), classes=3)
    assert (config.steps, config.image_shape, config.classes) == (5, (1, 4, 8), 3)


def test_large_batches_are_taken_in_chunks(monkeypatch):
    model = perturb(tiny(classes=3), 0.02).eval()
    x = 0.1 * torch.randn(7, 3, 8, 8)
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 1])
    whole = model.encode(x, labels)
    monkeypatch.setattr("glowflow.models.flow.IMAGES_AT_ONCE", 3)
    chunked = model.encode(x, labels)
    for a, b in zip(chunked, whole, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert torch.allclose(model.decode(chunked, labels), x, atol=1e-5)
    for wrong in (None, labels[:3]):
        with pytest.raises(InputError, match=r"[lL]abels"):
            model.encode(x, wrong)
    assert tiny().eval().encode(x[:0])[0].shape == (0, 6, 4, 4)
