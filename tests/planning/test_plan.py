"""What `glow plan` counts against real models: weights, products, and bytes that are allocated."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from benchmarks.contenders import Setting
from benchmarks.plan import Comparison, peak_allocated, table, to_dict
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from glowflow import Glow, GlowConfig, InputError, RealNVP, RealNVPConfig
from glowflow.bijections import AdditiveCoupling
from glowflow.data.config import DataConfig
from glowflow.models.config import Architecture
from glowflow.models.parts import NETWORKS
from glowflow.nn import rows
from glowflow.planning.cost import (
    count_parameters,
    forward_flops,
    level_flops,
    memory_modes,
    passes,
    weights_of,
)
from glowflow.planning.devices import ACCELERATORS, UTILISATION
from glowflow.planning.fake_model import FakeModel
from glowflow.planning.memory import (
    forward_memory,
    initialization_memory,
    run_memory,
    step_memory,
)
from glowflow.planning.plan import Target, largest_batch, make_plan, planned_config
from glowflow.planning.speed import Speed, measured_speed, published_speed, step_seconds
from glowflow.training.config import TrainConfig
from glowflow.training.initialisation import initial_batch_size
from glowflow.training.optimisation import make_optimizer
from glowflow.training.presets import PRESETS

SMALL = {"image_shape": (3, 16, 16), "levels": 2, "steps": 3, "hidden_channels": 64}
CONFIGS = {
    "affine-lu": {},
    "plain-exp": {"permutation": "plain", "coupling_scale": "exp"},
    "shuffle-bounded": {"permutation": "shuffle", "coupling_scale": "bounded"},
    "reverse": {"permutation": "reverse"},
    "additive": {"coupling": "additive"},
    "classes": {"classes": 5},
    "fixed-top": {"learn_top": False},
    "grey": {"image_shape": (1, 16, 16)},
    "one-level": {"levels": 1, "steps": 2},
}
PRODUCTS = {"aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm"}
SLOW = Target("cpu", 10**9, "float32", Speed((1e9, 1e9), 1e6))


def make(name):
    torch.manual_seed(0)
    config = GlowConfig(**{**SMALL, **CONFIGS[name]})
    model = Glow(config)
    labels = torch.arange(32) % config.classes if config.classes else None
    return config, model, torch.rand(32, *config.image_shape) - 0.5, labels


class Products(TorchDispatchMode):
    """Two FLOPs for each multiplication and addition of the float32 products of matrices."""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket._qualified_op_name
        if name in PRODUCTS and args[0].dtype == torch.float32:
            self.flops += 2 * args[-2].numel() * args[-1].shape[-1]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_and_buffers_are_those_of_the_model(name):
    config, model, _, _ = make(name)
    assert count_parameters(config) == sum(p.numel() for p in model.parameters())
    assert weights_of(config).buffer_bytes == sum(b.nbytes for b in model.buffers())


def test_cifar10_has_the_official_graphs_parameters():
    shape = {"image_shape": (3, 32, 32), "steps": 32}
    assert count_parameters(GlowConfig(**shape, permutation="plain")) == 44_603_604
    assert count_parameters(GlowConfig(**shape, permutation="lu")) == 44_603_604


@pytest.mark.parametrize("name", ["affine-lu", "additive", "one-level"])
def test_flops_are_those_of_the_products_that_run(name):
    config, model, x, _ = make(name)

    def flops(images, backward):
        with Products() as counted:
            loss = model.log_prob(x[:images]).mean()
            if backward:
                torch.autograd.backward(loss)
        return counted.flops

    def by_image(backward):  # what is done once a batch falls out
        return flops(3, backward) - flops(2, backward)

    assert by_image(False) == forward_flops(config)
    for memory in ("stored", "reversible"):
        model.use(memory=memory)
        expected = passes(memory) * forward_flops(config)
        assert by_image(True) == pytest.approx(expected, rel=0.05)


def quick_or_slow(names, quick):
    """All of the names, those that are not quick with the mark slow."""
    slow = pytest.mark.slow
    return [name if name in quick else pytest.param(name, marks=slow) for name in names]


IN_BOTH = ["affine-lu", "additive", "classes", "one-level"]
MODES = [
    *(pytest.param(name, "stored", id=f"{name}-stored") for name in CONFIGS),
    *(
        pytest.param(
            name,
            "reversible",
            id=f"{name}-reversible",
            marks=() if name in IN_BOTH else pytest.mark.slow,
        )
        for name in CONFIGS
    ),
]


@pytest.mark.parametrize(("name", "memory"), MODES)
def test_memory_of_a_step_is_what_is_allocated(name, memory):
    config, model, x, labels = make(name)
    model.use(memory=memory)

    def train():
        torch.autograd.backward(-model.log_prob(x, labels).mean())

    for precision in ("float32", "bf16"):
        model.use(precision=precision)
        train()  # the gradients and the kept ends of rows are there before
        estimate = step_memory(config, len(x), memory, precision=precision, processor=True)
        # Where a processor has bf16 instructions, their products take up to 400 kB a thread.
        scratch = 500_000 * (1 + torch.get_num_threads()) if precision == "bf16" else 0
        assert 0.88 * estimate.peak <= peak_allocated(train) <= 1.12 * estimate.peak + scratch


class Residual(nn.Module):
    """A coupling network of one's own: convolutions of PyTorch."""

    def __init__(self, channels_in, channels_out, hidden):
        super().__init__()
        self.first = nn.Conv2d(channels_in, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.last = nn.Conv2d(hidden, channels_out, 1)

    def forward(self, x):
        h = F.relu(self.first(x))
        return self.last(h + F.relu(self.second(h)))


class Squared(AdditiveCoupling):
    """A coupling of one's own."""

    def change(self, x2, h):
        return super().change(x2, h.square())

    def restore(self, y2, h):
        return super().restore(y2, h.square())


def with_another_coupling(config):
    model = Glow(config)
    for level in model.levels:
        for step in level.steps:
            step.coupling = Squared(step.coupling.network)
    return model


REALNVP = RealNVPConfig(image_shape=(3, 16, 16), scales=2, residual_blocks=1, hidden_channels=16)
OTHERS = {
    "realnvp": (RealNVP, REALNVP),
    "network": (partial(Glow, network=Residual), GlowConfig(**{**SMALL, "steps": 5})),
    "coupling": (with_another_coupling, GlowConfig(**SMALL, coupling="additive")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_is_made_of_a_configuration_is_planned(name):
    make, config = OTHERS[name]
    model, x = make(config), torch.rand(8, *config.image_shape) - 0.5
    assert count_parameters(config, make=make) == sum(p.numel() for p in model.parameters())
    assert weights_of(config, make=make).buffer_bytes == sum(b.nbytes for b in model.buffers())

    def train():
        torch.autograd.backward(model.loss(x))

    train()
    estimate = step_memory(config, len(x), "stored", processor=True, make=make)
    assert peak_allocated(train) == pytest.approx(estimate.peak, rel=0.12)
    assert forward_flops(config, make=make) == by_counter(model, x[:3]) - by_counter(model, x[:2])
    train_config = TrainConfig(batch_size=16, model=Architecture(), memory="stored")
    speed = published_speed(config, ACCELERATORS["l4"], "float32", make=make)
    plan = make_plan(train_config, config, Target("l4", 10**10, "float32", speed), make=make)
    assert plan.modes[0].memory == "stored"
    assert all(mode.fits and 0 < mode.seconds < 10 for mode in plan.modes)
    measured = measured_speed(config, train_config, 2, "cpu", "float32", make=make)
    assert len(measured.levels) == len(speed.levels) == 2
    assert all(1e5 < rate < math.inf for rate in measured.levels)


def by_counter(model, x):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.log_prob(x)
    return counter.get_total_flops()


def test_realnvp_is_planned_in_bf16_and_has_one_memory_mode():
    config = replace(REALNVP, scales=1)
    low = step_memory(config, 8, "stored", precision="bf16")
    assert low.peak != step_memory(config, 8, "stored").peak
    assert level_flops(config, "bf16") == ({torch.bfloat16: forward_flops(config)},)
    assert memory_modes(config) == ("stored",)
    assert memory_modes(GlowConfig(**SMALL)) == ("stored", "reversible")


@pytest.mark.parametrize("first_map", ["marginals", "interlaced", "whitening"])
def test_every_first_map_is_planned(first_map):
    small = {"rank": 16, "interlaced_channels": 8, "palette_channels": 4}
    config = GlowConfig(**SMALL, first_map=first_map, **small)
    assert initialization_memory(config) > 4 * 32 * math.prod(config.image_shape)
    assert step_memory(config, 16, "stored").peak > 4 * 16 * math.prod(config.image_shape)


def test_squares_of_photographs_are_planned_as_training_makes_them():
    assert planned_config(TrainConfig(data=DataConfig(patches=32))).first_map == "interlaced"
    assert planned_config(TrainConfig(data=DataConfig(size=(32, 32)))).first_map == "whitening"


def test_a_model_that_looks_at_values_is_refused():
    class Looks(Residual):
        def forward(self, x):
            return super().forward(x) if float(x.sum()) > 0 else super().forward(-x)

    make = partial(Glow, network=Looks)
    with pytest.raises(InputError, match="must not look at values") as refused:
        run_memory(GlowConfig(**SMALL), 4, "stored", make=make)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="compute_dtype"):
        step_memory(
            GlowConfig(**SMALL), 4, "stored", precision="bf16", make=partial(Glow, network=Residual)
        )


def test_a_part_without_a_plan_of_its_own_does_not_pass_for_another(monkeypatch):
    monkeypatch.setitem(NETWORKS, "wide", f"{__name__}:Residual")
    config = GlowConfig(**SMALL)
    object.__setattr__(config, "network", "wide")
    assert count_parameters(config) == sum(p.numel() for p in Glow(config).parameters())
    object.__setattr__(config, "network", "wider")
    with pytest.raises(InputError, match="wider"):
        count_parameters(config)


def test_planning_leaves_the_random_numbers_and_the_model_alone():
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    run_memory(GlowConfig(**{**SMALL, "hidden_channels": 24}), 4, "stored", processor=True)
    assert torch.rand(()) == expected
    assert list(rows.CHUNKED) == ["cpu"]


def test_steps_are_extended_exactly():
    for memory in ("stored", "reversible"):
        for batch in (1, 40):
            config = GlowConfig(**{**SMALL, "steps": 9, "hidden_channels": 32})
            (trace,) = [FakeModel(config, Glow, True).step(batch, memory, "float32", False)]
            whole = max(line.at(batch) for line in trace.highest.values())
            assert step_memory(config, batch, memory).peak == pytest.approx(whole, rel=1e-4)


def test_memory_of_hidden_layers_in_chunks_is_what_is_allocated():
    config = GlowConfig(image_shape=(3, 16, 16), levels=2, steps=1, hidden_channels=512)
    model, x = Glow(config), torch.rand(32, 3, 16, 16) - 0.5
    for memory in ("stored", "reversible"):
        model.use(memory=memory)

        def train():
            torch.autograd.backward(-model.log_prob(x).mean())

        train()
        estimate = step_memory(config, len(x), memory, processor=True)
        whole = step_memory(config, len(x), memory)
        assert peak_allocated(train) == pytest.approx(estimate.peak, rel=0.08)
        assert whole.peak >= estimate.peak or memory == "stored"


def test_what_the_forward_pass_keeps_is_what_autograd_saves():
    config, model, x, _ = make("affine-lu")
    own = {w.untyped_storage().data_ptr() for w in (*model.parameters(), *model.buffers())}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.log_prob(x).mean()
    estimate = step_memory(config, len(x), "stored", processor=True)
    assert sum(saved.values()) == pytest.approx(estimate.activations, rel=0.01)
    torch.autograd.backward(loss)


def test_depth_costs_memory_only_where_activations_are_stored():
    shallow, deep = (GlowConfig(**{**SMALL, "steps": steps}) for steps in (4, 64))
    stored = [step_memory(config, 16, "stored").peak for config in (shallow, deep)]
    reversible = [step_memory(config, 16, "reversible").peak for config in (shallow, deep)]
    assert stored[1] > 12 * stored[0]
    assert reversible[1] < 1.2 * reversible[0]


@torch.no_grad()
def test_memory_without_gradients_is_what_is_allocated():
    config, model, x, _ = make("affine-lu")
    model.eval()

    def score():
        with model.frozen():
            for _ in range(2):
                model.log_prob(x)

    estimate = forward_memory(config, len(x), processor=True)
    assert peak_allocated(score) == pytest.approx(estimate.peak, rel=0.2)


def test_memory_of_the_initialisation_is_what_is_allocated():
    config = GlowConfig(image_shape=(3, 16, 16), levels=2, steps=1, hidden_channels=64)
    images = torch.randint(0, 256, (initial_batch_size(config), 3, 16, 16), dtype=torch.uint8)
    model = Glow(config)
    estimate = initialization_memory(config, processor=True)
    assert peak_allocated(lambda: model.initialize(images)) == pytest.approx(estimate, rel=0.1)


@pytest.mark.parametrize("optimizer", ["adamax", "adam", "adamw"])
def test_an_optimiser_has_two_values_a_parameter_and_adamax_a_third_while_it_steps(optimizer):
    config, model, _, _ = make("affine-lu")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    needs = run_memory(config, 16, "stored", optimizer=optimizer)
    chosen = make_optimizer(model, optimizer, TrainConfig().lr)
    chosen.step()
    state = sum(t.nbytes for values in chosen.state.values() for t in values.values() if t.dim())
    assert state == needs.optimizer
    one = max(p.nbytes for p in model.parameters())  # of which a fused step makes a copy
    assert peak_allocated(chosen.step) == pytest.approx(needs.update, rel=0.05, abs=one)


def test_muon_takes_no_more_than_is_planned():
    config, model, _, _ = make("affine-lu")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    needs = run_memory(config, 16, "stored", optimizer="muon")
    chosen = make_optimizer(model, "muon", TrainConfig().lr)
    chosen.step()
    state = sum(t.nbytes for values in chosen.state.values() for t in values.values() if t.dim())
    assert needs.gradients < state < needs.optimizer
    assert peak_allocated(chosen.step) < needs.update


def test_the_peak_is_the_state_and_the_highest_of_what_comes_and_goes():
    config = GlowConfig(**SMALL)
    large = run_memory(config, 4096, "stored")
    assert large.peak == large.state + large.activations + large.temporary
    small = run_memory(config, 1, "reversible")
    assert small.peak == small.weights + small.average + small.initialization
    assert run_memory(config, 1, "stored", average=False).average == 0


def test_the_largest_batch_is_the_last_that_fits():
    for limit in (0, 1, 2, 37, 1000):
        assert largest_batch(lambda batch, limit=limit: batch <= limit) == limit


def test_accumulation_makes_up_for_what_does_not_fit():
    train = TrainConfig(
        data=DataConfig(size=(16, 16)),
        model=Architecture(levels=2, steps=16, hidden_channels=64),
        batch_size=500,
    )
    config = planned_config(train)
    limit = run_memory(config, 60, "stored", processor=True).peak
    target = Target("cpu", limit, "float32", SLOW.speed)
    stored, reversible = make_plan(train, config, target, 4).modes
    assert (stored.largest_batch, stored.accumulation, stored.at_once) == (60, 5, 25)
    assert (reversible.accumulation, reversible.at_once) == (1, 125)
    assert stored.needs.peak <= limit
    assert stored.images_per_second == pytest.approx(500 / stored.seconds)
    assert stored.days == pytest.approx(train.images / stored.images_per_second / 86_400)

    (without, _) = make_plan(train, config, Target("cpu", 10**6, "float32", SLOW.speed)).modes
    assert not without.fits
    assert without.at_once == 1
    for devices in (0, 501):
        with pytest.raises(InputError, match="1 to 500"):
            make_plan(train, config, target, devices)
    with pytest.raises(InputError, match="does not divide into 3"):
        make_plan(train, config, target, 3)


def test_the_parts_that_a_run_asks_for_are_planned():
    train = TrainConfig(
        data=DataConfig(size=(16, 16)), model=Architecture(levels=2, steps=2), batch_size=32
    )
    config = planned_config(train)
    whole, parts = (
        make_plan(replace(train, accumulate=n), config, SLOW, 2).modes[0] for n in (1, 4)
    )
    assert (whole.accumulation, whole.at_once, parts.accumulation, parts.at_once) == (1, 16, 4, 4)
    assert parts.needs.activations < whole.needs.activations
    assert parts.seconds == whole.seconds
    with pytest.raises(InputError, match="does not divide into 6"):
        make_plan(replace(train, accumulate=3), config, SLOW, 2)


def test_seconds_are_flops_over_speed_and_the_update():
    config = GlowConfig(**SMALL)
    speed = Speed((2e9, 2e9), 1e6)
    update = count_parameters(config) / 1e6
    expected = 10 * 3 * forward_flops(config) / 2e9
    assert step_seconds(config, 10, "stored", speed) == pytest.approx(expected + update)
    assert step_seconds(config, 10, "reversible", speed) == pytest.approx(4 / 3 * expected + update)


def test_a_published_speed_is_a_share_of_the_peak():
    config = GlowConfig(**{**SMALL, "hidden_channels": 512})
    for accelerator in ACCELERATORS.values():
        in_float32 = published_speed(config, accelerator, "float32")
        in_bf16 = published_speed(config, accelerator, "bf16")
        peaks = (accelerator.float32, accelerator.bf16)
        low, high = (UTILISATION * peak * 1e12 for peak in peaks)
        assert all(speed == pytest.approx(low) for speed in in_float32.levels)
        assert all(low < speed < high for speed in in_bf16.levels)  # 1x1s stay in float32


def test_a_device_that_is_here_is_timed():
    config = GlowConfig(**{**SMALL, "hidden_channels": 16})
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    speed = measured_speed(config, TrainConfig(), 4, "cpu", "float32")
    assert torch.rand(()) == expected
    assert len(speed.levels) == config.levels
    assert all(1e5 < rate < math.inf for rate in (*speed.levels, speed.update))


@pytest.mark.parametrize(
    "name",
    quick_or_slow(PRESETS, ["cifar10", "imagenet32", "celebahq256", "cifar10-conditional"]),
)
def test_every_preset_of_the_paper_can_be_planned(name):
    preset = PRESETS[name]
    train = TrainConfig(
        data=DataConfig(size=preset.size),
        model=preset.model,
        batch_size=preset.batch_size,
        conditional=name.endswith("conditional"),
    )
    config = planned_config(train, name)
    speed = published_speed(config, ACCELERATORS["h100"], "float32")
    plan = make_plan(train, config, Target("h100", 72 * 2**30, "float32", speed))
    assert all(mode.fits and mode.days > 0 for mode in plan.modes)


def test_what_cannot_be_planned_is_said():
    sized = DataConfig(size=(16, 16))
    for train, classes, message in (
        (TrainConfig(), 0, "--size"),
        (TrainConfig(data=sized, conditional=True), 0, "--classes"),
        (TrainConfig(data=sized), 3, "--conditional"),
    ):
        with pytest.raises(InputError, match=message):
            planned_config(train, classes=classes)


def test_the_benchmark_divides_what_is_measured_by_the_estimate():
    found = Comparison(
        Setting(), 4, "stored", 100 * 2**20, 120 * 2**20, 110 * 2**20, [1.0, 2.0, 4.0], [2.0] * 3
    )
    ratios = [to_dict(found)[f"{name}_ratio"] for name in ("allocated", "resident", "time")]
    assert ratios == pytest.approx([1.1, 1.2, 1.0])  # of time: the median of 2, 1 and 1/2
    (row,) = table([found]).rows
    assert row == ["32px H=512 K=4", "stored", "100.0", "110.0", "1.10", "120.0", "1.20",
                   "2", "2", "1.00"]  # fmt: skip
    assert Comparison(Setting(), 4, "stored", 1, None).resident_ratio is None
