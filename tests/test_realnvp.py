"""RealNVP: its parts in closed form, its density, its files, its training."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from glowflow import (
    CheckpointError,
    Glow,
    GlowConfig,
    InputError,
    RealNVP,
    RealNVPArchitecture,
    RealNVPConfig,
    load_model,
)
from glowflow.bijections import BatchNorm, ChannelCoupling, CheckerboardCoupling, Logit
from glowflow.bijections.batchnorm import EPSILON
from glowflow.data.augmentation import flip_some
from glowflow.models.realnvp import diagonal_first
from glowflow.training.as_yaml import from_yaml, to_yaml
from glowflow.training.config import TrainConfig
from glowflow.training.diagnosis import describe, find_nonfinite
from glowflow.training.initialisation import model_config_for
from glowflow.training.loop import train
from glowflow.training.objective import Objective
from glowflow.training.optimisation import make_average
from glowflow.training.presets import FAMILIES
from tests.children import Child
from tests.conftest import perturb
from tests.training.runs import losses, splits, stop_in  # noqa: F401

TINY = RealNVPArchitecture(scales=2, residual_blocks=1, hidden_channels=3)
CONFIG = TrainConfig(
    model=TINY,
    images=160,
    batch_size=8,
    warmup_images=40,
    optimizer="adam",
    log_every=1,
    validation_images=16,
    flip=True,
)


def tiny(shape=(3, 8, 8), **changes):
    return RealNVP(RealNVPConfig.of(replace(TINY, **changes), shape))


def random_images(count=8, shape=(3, 8, 8), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def ready(shape=(3, 8, 8), **changes):
    """Away from its start, with running averages, in eval mode."""
    model = perturb(tiny(shape, **changes), 0.05)
    model.initialize(random_images(32, shape))
    return model.eval()


def test_logit_has_a_closed_form():
    logit = Logit(0.05)
    x = torch.tensor([[-0.5, 0.0, 0.5]], dtype=torch.float64)
    y, log_det = logit(x)
    end = math.log(0.95 / 0.05)
    assert y[0].tolist() == pytest.approx([-end, 0.0, end])
    slopes = [0.9 / (p * (1 - p)) for p in (0.05, 0.5, 0.95)]
    assert log_det.item() == pytest.approx(sum(math.log(slope) for slope in slopes))
    with pytest.raises(InputError, match="alpha is 0"):
        Logit(0.0)


class TestBatchNorm:
    def test_first_batch_sets_the_running_averages_and_later_ones_move_them(self):
        norm = BatchNorm(2)
        first, second = 3 * torch.randn(16, 2, 4, 4) + 7, torch.randn(16, 2, 4, 4)
        y, _ = norm(first)
        assert y.mean(dim=(0, 2, 3)).abs().max() < 1e-4
        assert (y.var(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-3
        assert torch.allclose(norm.mean, first.mean(dim=(0, 2, 3)))
        before = norm.mean.clone()
        norm(second)
        assert torch.allclose(norm.mean, 0.9 * before + 0.1 * second.mean(dim=(0, 2, 3)))
        norm.eval()(first)
        assert torch.allclose(norm.mean, 0.9 * before + 0.1 * second.mean(dim=(0, 2, 3)))

    def test_log_determinant_of_a_training_step_takes_the_statistics_as_constants(self):
        x = 3 * torch.randn(16, 2, 4, 4)
        _, log_det = BatchNorm(2)(x)
        var = x.var(dim=(0, 2, 3), correction=0)
        assert torch.allclose(log_det, (-0.5 * 16 * (var + EPSILON).log().sum()).expand(16))

    def test_lag_mixes_the_running_averages_in_and_sends_gradients_through_the_batch(self):
        norm = BatchNorm(1, lag=0.9)
        norm(torch.randn(16, 1, 4, 4) + 5)
        old = norm.mean.clone()
        x = torch.randn(16, 1, 4, 4, requires_grad=True)
        y, _ = norm(x)
        assert torch.allclose(norm.mean, 0.9 * old + 0.1 * x.mean())
        assert torch.allclose(y, (x - norm.mean) / (norm.var + EPSILON).sqrt(), atol=1e-5)
        y.sum().backward()  # a tenth of the mean follows x; what goes through σ has mean zero
        slope = 0.9 / (norm.var + EPSILON).sqrt().item()
        assert x.grad.mean().item() == pytest.approx(slope, rel=1e-3)


class TestMasks:
    def test_show_half_each_and_alternate(self):
        x = torch.zeros(1, 4, 4, 4)
        network = torch.nn.Identity()
        for kind in (CheckerboardCoupling, ChannelCoupling):
            one, other = (kind(network, 4, parity).mask(x).expand(4, 4, 4) for parity in (0, 1))
            assert one.sum() == 32
            assert torch.equal(one + other, torch.ones(4, 4, 4))
        board = CheckerboardCoupling(network, 4, 0).mask(x)[0]
        assert board[:2, :2].tolist() == [[0.0, 1.0], [1.0, 0.0]]
        assert ChannelCoupling(network, 4, 0).mask(x).flatten().tolist() == [1.0, 1.0, 0.0, 0.0]

    def test_of_a_scale_take_turns(self):
        first, last = tiny().scales
        parities = [[c.coupling.parity for c in part] for part in (
            first.checkerboard, first.channelwise, last.checkerboard
        )]  # fmt: skip
        assert parities == [[0, 1, 0], [0, 1, 0], [0, 1, 0, 1]]

    def test_what_is_shown_stays_and_decides(self):
        coupling = perturb(tiny().eval().scales[0].checkerboard[0].coupling)
        x = torch.randn(1, 3, 8, 8)
        shown = coupling.mask(x).bool().expand_as(x)
        y, _ = coupling(x)
        assert torch.equal(y[shown], x[shown])
        assert (y[~shown] - x[~shown]).abs().min() > 0
        other, _ = coupling(torch.where(shown, x, x + 1))
        slope = (other - y)[~shown]
        assert (slope > 0).all()  # exp(s): y depends on what is hidden as an affine map alone
        far, _ = coupling(torch.where(shown, x, x + 2))
        assert torch.allclose((far - y)[~shown], 2 * slope, atol=1e-4)


def test_half_of_the_variables_leaves_after_each_scale_but_the_last():
    model = ready((1, 8, 16), scales=4)
    assert model.latent_shapes == ((2, 4, 8), (4, 2, 4), (8, 1, 2), (8, 1, 2))
    z = model.encode(model.to_float(random_images(2, (1, 8, 16))))
    assert tuple(tuple(part.shape[1:]) for part in z) == model.latent_shapes


def test_the_diagonal_of_each_block_goes_on():
    image = torch.arange(2 * 4).reshape(1, 2, 2, 2).float()  # (0, 0), (0, 1), (1, 0), (1, 1)
    squeezed = torch.nn.functional.pixel_unshuffle(image, 2)[:, diagonal_first(2)].flatten()
    assert squeezed.tolist() == [0.0, 4.0, 3.0, 7.0, 1.0, 5.0, 2.0, 6.0]


def test_every_byte_comes_back():
    for bits, shape in ((8, (3, 8, 8)), (5, (1, 4, 12))):
        model = ready(shape, bits=bits)
        images = random_images(8, shape, seed=1)
        x = model.to_float(images, noise="center")
        expected = images // 2 ** (8 - bits) * 2 ** (8 - bits)
        assert torch.equal(model.to_images(model.decode(model.encode(x))), expected)


def test_codes_and_samples_are_exact_while_the_model_is_in_training_mode():
    model = ready()
    x = model.to_float(random_images())
    expected, drawn = model.encode(x), model.sample(2, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    assert all(torch.equal(a, b) for a, b in zip(model.encode(x), expected, strict=True))
    assert torch.allclose(model.decode(model.encode(x)), x, atol=1e-4)
    assert torch.equal(model.sample(2, seed=1), drawn)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training


def test_samples_repeat_and_differ():
    model = ready()
    a, b, c = (model.sample(3, temperature=0.7, seed=seed) for seed in (5, 5, 6))
    assert a.shape == (3, 3, 8, 8)
    assert a.dtype == torch.uint8
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_bits_per_dim_is_the_log_density_with_the_quantisation_term():
    model = ready(bits=5)
    images = random_images()
    figure = model.bits_per_dim(images, generator=torch.Generator().manual_seed(3))
    x = model.to_float(images, generator=torch.Generator().manual_seed(3))
    D = 3 * 8 * 8
    expected = -(model.log_prob(x) - D * math.log(32)) / (D * math.log(2))
    assert torch.allclose(figure, expected, atol=1e-4)


def test_density_integrates_to_one():
    """Two dimensions (1x1x2), on a grid over all of the logit's domain."""
    model = perturb(tiny((1, 1, 2), scales=1).double())
    model.initialize(random_images(32, (1, 1, 2)))
    model.eval()
    limit, cells = model.logit.limit, 300
    axis = limit * ((2 * torch.arange(cells, dtype=torch.float64) + 1) / cells - 1)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 1, 1, 2)
    with torch.no_grad():
        mass = model.log_prob(grid).exp().sum().item() * (2 * limit / cells) ** 2
    assert mass == pytest.approx(1.0, abs=0.01)


def test_float_data_has_no_logit():
    model = tiny((1, 4, 4), bits=None)
    x = 40 * torch.randn(64, 1, 4, 4) + 300
    model.initialize(x)
    assert torch.allclose(model.decode(model.encode(x)), x, rtol=1e-4)
    assert model.sample(2).dtype == torch.float32


def test_initialize_happens_once():
    model = tiny()
    assert not model.initialized
    model.initialize(random_images(32))
    assert model.initialized
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.initialize(random_images(32, seed=1))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_what_it_cannot_do_is_refused():
    model = tiny()
    with pytest.raises(InputError, match="memory stored"):
        model.use(memory="reversible")
    with pytest.raises(InputError, match="between -1/2 and 1/2"):
        model.log_prob(torch.ones(1, 3, 8, 8))
    with pytest.raises(InputError, match="memory stored"):
        replace(CONFIG, memory="reversible")
    with pytest.raises(InputError, match="class-conditional"):
        replace(CONFIG, conditional=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": 0}, "scales is 0"),
        ({"scales": 5}, "divisible by 2"),
        ({"residual_blocks": 0}, "residual_blocks is 0"),
        ({"hidden_channels": 0}, "hidden_channels is 0"),
        ({"bits": 9}, "bits is 9"),
        ({"alpha": 0.5}, "alpha is 0.5"),
        ({"batch_norm_lag": 1.0}, "batch_norm_lag is 1.0"),
        ({"l2": -1.0}, "l2 is -1.0"),
        ({"image_shape": (3, 8)}, "channels, height and width"),
    ],
)
def test_config_that_cannot_work_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        RealNVPConfig(**{"image_shape": (3, 8, 8), **changes})


class TestFiles:
    def test_same_log_prob_to_the_bit_in_a_new_process(self, tmp_path):
        model = ready()
        model.save_pretrained(tmp_path / "model")
        x = 0.2 * torch.randn(4, 3, 8, 8).tanh()
        torch.save(x, tmp_path / "x.pt")
        program = (
            "import sys, torch\n"
            "from glowflow import load_model\n"
            "folder = sys.argv[1]\n"
            "model = load_model(folder + '/model')\n"
            "assert type(model).__name__ == 'RealNVP' and model.initialized\n"
            "x = torch.load(folder + '/x.pt', weights_only=True)\n"
            "torch.save(model.log_prob(x).detach(), folder + '/out.pt')\n"
        )
        assert Child(["-c", program, tmp_path]).answer()[0] == 0
        there = torch.load(tmp_path / "out.pt", weights_only=True)
        assert torch.equal(there, model.log_prob(x).detach())

    def test_the_kind_of_model_is_read_from_the_folder(self, tmp_path):
        glow = Glow(GlowConfig(image_shape=(1, 4, 4), levels=1, steps=1, hidden_channels=2))
        glow.save_pretrained(tmp_path / "glow")
        ready((1, 4, 4)).save_pretrained(tmp_path / "realnvp")
        assert isinstance(load_model(tmp_path / "glow"), Glow)
        assert isinstance(load_model(tmp_path / "realnvp"), RealNVP)
        with pytest.raises(CheckpointError, match="type 'realnvp', not 'glow'"):
            Glow.from_pretrained(tmp_path / "realnvp")
        with pytest.raises(CheckpointError, match="type 'glow', not 'realnvp'"):
            RealNVP.from_pretrained(tmp_path / "glow")
        (tmp_path / "glow" / "config.json").write_text(json.dumps({"model_type": "nice"}))
        with pytest.raises(CheckpointError, match="'nice'"):
            load_model(tmp_path / "glow")


class TestTraining:
    def test_lowers_the_loss_and_saves_averages_that_fit_the_weights(self, splits, tmp_path):  # noqa: F811
        config = replace(CONFIG, images=400, lr=2e-2, ema=0.9)
        trained = train(config, splits, tmp_path / "run", device="cpu", progress=False)
        figures = losses(tmp_path / "run")
        assert np.mean(figures[-10:]) < np.mean(figures[:10]) - 0.5
        saved = RealNVP.from_pretrained(tmp_path / "run")
        test = torch.from_numpy(splits.test.images)
        assert saved.bits_per_dim(test).mean() < np.mean(figures[:10]) - 0.5
        x = saved.to_float(test, noise="center")
        assert torch.equal(saved.log_prob(x), trained.model.log_prob(x))

    def test_resumed_run_repeats_the_uninterrupted_one_to_the_bit(self, splits, tmp_path):  # noqa: F811
        whole = train(CONFIG, splits, tmp_path / "whole", device="cpu", progress=False)
        stop_in(9, tmp_path / "half", splits, CONFIG)
        half = tmp_path / "half"
        resumed = train(CONFIG, splits, half, device="cpu", resume=True, progress=False)
        assert losses(half) == losses(tmp_path / "whole")
        expected = whole.model.state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in resumed.model.state_dict().items())

    def test_averaged_weights_have_averaged_statistics(self):
        model = ready((1, 4, 4))
        average = make_average(model, 0.5)
        norm, averaged = (m.scales[0].checkerboard[0].norm for m in (model, average.module))
        average.update_parameters(model)  # the first update copies
        old = norm.mean.clone()
        norm.mean += 1.0
        average.update_parameters(model)
        assert torch.allclose(averaged.mean, old + 1.0 - 2 / 11)
        assert averaged.initialized

    def test_penalty_is_in_the_loss_alone(self, splits):  # noqa: F811
        model = RealNVP(model_config_for(CONFIG, splits))
        loss, bits = Objective(model)(torch.zeros(2, 1, 8, 8))
        squares = sum(
            module.parametrizations.weight.original0.detach().square().sum()
            for module in model.modules()
            if hasattr(module, "parametrizations")
        )
        assert squares > 0
        assert (loss - bits).detach().item() == pytest.approx(5e-5 * float(squares), rel=1e-2)

    def test_bf16_is_close_and_only_inside_the_networks(self):
        model = ready()
        x = model.to_float(random_images(), noise="center")
        expected = model.log_prob(x)
        found = model.use(precision="bf16").log_prob(x)
        assert found.dtype == torch.float32
        assert not torch.equal(found, expected)
        assert (found - expected).abs().max() / x[0].numel() < 0.05

    def test_yaml_names_the_family(self):
        assert from_yaml(TrainConfig, to_yaml(CONFIG), "x") == CONFIG
        assert from_yaml(TrainConfig, "model: {family: realnvp, scales: 4}", "x").model.scales == 4
        assert from_yaml(TrainConfig, "model: {levels: 2}", "x").model.family == "glow"
        with pytest.raises(InputError, match="choose one of glow, realnvp"):
            from_yaml(TrainConfig, "model: {family: nice}", "x")
        assert {name: config.model.family for name, config in FAMILIES.items()} == {
            "glow": "glow",
            "realnvp": "realnvp",
        }


def test_flip_mirrors_some_images_the_same_at_each_call():
    x = torch.randn(32, 1, 2, 4)
    one, two = (flip_some(x, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, two)
    mirrored = (one == x.flip(-1)).flatten(1).all(1)
    kept = (one == x).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 0 < mirrored.sum() < 32


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("scales.1.checkerboard.2.norm", "scale 2, checkerboard coupling 3, norm"),
        (
            "scales.0.channelwise.0.coupling.network.blocks.1.first",
            "scale 1, channel coupling 1, coupling, network.blocks.1.first",
        ),
        ("scales.0.squeeze", "scale 1, squeeze"),
    ],
)
def test_places_in_words(name, words):
    assert describe(name) == words


def test_nan_is_named():
    model = ready()
    weight = model.scales[0].channelwise[1].coupling.scale
    with torch.no_grad():
        weight[0] = math.nan
    x = model.to_float(random_images())
    found = find_nonfinite(model, lambda: model(x))
    assert found == "the weight scale 1, channel coupling 2, coupling, scale"
