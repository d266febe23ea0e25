"""Files of the ports: golden numbers of the originals, what is asked, left out and refused."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from glowflow import Glow
from glowflow.errors import CheckpointError, GlowflowError, InputError
from glowflow.interop import chaiyujin, freia, normflows, rosinality, y0ast
from glowflow.interop.foreign import Given
from glowflow.interop.torch_file import read_torch
from tests.interop import originals

GOLDEN = Path(__file__).parents[1] / "golden"
FORMATS = {
    "rosinality": rosinality,
    "y0ast": y0ast,
    "chaiyujin": chaiyujin,
    "normflows": normflows,
    "freia": freia,
}
GIVEN = Given(image_size=(4, 4), bits=8, black=0.0, coupling_scale="sigmoid")
SMALL = {"levels": 2, "steps": 1, "hidden": 3, "dtype": torch.float32}
STATES = {
    "rosinality": lambda: originals.rosinality_state(1, 2, 1, 3, lu=False, dtype=torch.float32),
    "rosinality-lu": lambda: originals.rosinality_state(1, 2, 1, 3, dtype=torch.float32),
    "y0ast": lambda: originals.flownet_state("y0ast", 1, size=(4, 4), classes=2, **SMALL),
    "chaiyujin": lambda: originals.flownet_state("chaiyujin", 1, size=(4, 4), lu=False, **SMALL),
    "normflows": lambda: originals.normflows_state(1, size=(4, 4), normed=True, **SMALL),
    "normflows-classes": lambda: originals.normflows_state(
        1, size=(4, 4), base="channel", classes=2, **SMALL
    ),
}


def module_of(name):
    return FORMATS[name.partition("-")[0]]


def read(name, tensors, given=GIVEN):
    return module_of(name).read(tensors, given, "the file")


class TestGolden:
    @pytest.mark.parametrize("name", ["rosinality", "y0ast"])
    def test_numbers_of_the_originals(self, name):
        tensors = read_torch(GOLDEN / f"{name}_affine_lu.pt")
        foreign = read(name, tensors, Given(image_size=(8, 8), bits=8))
        model = Glow(foreign.config)
        model.load_weights(foreign.state, "the file")
        model.eval().double()
        with np.load(GOLDEN / f"{name}_affine_lu.npz") as file:
            golden = {key: torch.from_numpy(file[key]) for key in file}
        x = golden["x"].double()
        with torch.no_grad():
            assert (model.log_prob(x) - golden["log_prob"]).abs().max() < 4e-5
        if name == "y0ast":
            latents = model.encode(x)
            mean, log_std = model.levels[-1].split.prior(golden["z_top"].double())
            whitened = (golden["z_top"] - mean) * (-log_std).exp()
            assert (latents[-1] - whitened).abs().max() < 1e-5
        else:
            decoded = model.decode((golden["eps_in0"].double(), golden["eps_in1"].double()))
            largest = golden["decoded"].abs().max()
            assert (decoded - golden["decoded"]).abs().max() < 1e-5 * largest


class TestRecognition:
    @pytest.mark.parametrize("name", STATES)
    @pytest.mark.parametrize("prefix", ["", "module.", "state_dict.module."])
    def test_by_one_format_alone(self, name, prefix):
        tensors = {prefix + key: weight for key, weight in STATES[name]().items()}
        found = [other for other, module in FORMATS.items() if module.recognises(tensors)]
        assert found == [name.partition("-")[0]]
        assert not any(key.startswith("module") for key in read(name, tensors).state)

    def test_others_are_not(self):
        own = Glow(read("y0ast", STATES["y0ast"]()).config).state_dict()
        other = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.BatchNorm2d(3)).state_dict()
        for tensors in (own, other, {}):
            assert not any(module.recognises(tensors) for module in FORMATS.values())
            for name in STATES:
                with pytest.raises(CheckpointError, match="has no weights of a"):
                    read(name, tensors)


class TestWhatIsAsked:
    @pytest.mark.parametrize(
        ("name", "left_out", "message"),
        [
            ("rosinality", "image_size", "of what size its images are: give image_size"),
            ("rosinality", "bits", "how many bits.*--n_bits"),
            ("normflows-classes", "image_size", "of what size its images are"),
            ("normflows", "bits", "does not say bits: .*--bits 8"),
            ("normflows", "black", "does not say black: .*--black 0"),
            ("normflows", "coupling_scale", "does not say coupling_scale"),
        ],
    )
    def test_is_what_the_file_does_not_say(self, name, left_out, message):
        given = dataclasses.replace(GIVEN, **{left_out: None})
        with pytest.raises(InputError, match=message):
            read(name, STATES[name](), given)

    @pytest.mark.parametrize("name", ["y0ast", "chaiyujin", "normflows"])
    def test_a_size_that_the_file_says_is_not_asked_and_not_contradicted(self, name):
        known = dataclasses.replace(GIVEN, image_size=None)
        assert read(name, STATES[name](), known).config.image_shape == (1, 4, 4)
        with pytest.raises(InputError, match="is for images of 4x4, and image_size is 8x8"):
            read(name, STATES[name](), dataclasses.replace(GIVEN, image_size=(8, 8)))

    def test_a_size_that_cannot_be_halved(self):
        with pytest.raises(InputError, match="cannot be halved 2 times"):
            read("rosinality", STATES["rosinality"](), Given(image_size=(6, 4), bits=5))

    @pytest.mark.parametrize("size", [8, (8,), (8.0, 8.0), "8"])
    def test_no_size(self, size):
        with pytest.raises(InputError, match="give height and width"):
            read("rosinality", STATES["rosinality"](), dataclasses.replace(GIVEN, image_size=size))

    @pytest.mark.parametrize("black", [float("nan"), "0"])
    @pytest.mark.parametrize("name", ["rosinality", "y0ast", "normflows"])
    def test_no_number(self, name, black):
        with pytest.raises(InputError, match=r"black is .*such as -0\.5 or 0"):
            read(name, STATES[name](), dataclasses.replace(GIVEN, black=black))

    def test_a_scale_that_normflows_has_not(self):
        with pytest.raises(InputError, match="sigmoid, inverse_sigmoid, exp"):
            read(
                "normflows",
                STATES["normflows"](),
                dataclasses.replace(GIVEN, coupling_scale="bounded"),
            )

    def test_bits_of_the_ports_whose_code_fixes_them(self):
        for name in ("y0ast", "chaiyujin"):
            assert read(name, STATES[name](), Given()).config.bits == 8
            assert read(name, STATES[name](), Given(bits=5)).config.bits == 5


class TestWhatElseIsInTheFile:
    def test_is_listed(self):
        weights = STATES["chaiyujin"]()
        tensors = {f"graph.{name}": weight for name, weight in weights.items()}
        tensors["optim.state.0.exp_avg"] = tensors["optim.state.0.exp_avg_sq"] = torch.ones(2)
        tensors["global_step"] = torch.tensor(12000)
        foreign = read("chaiyujin", tensors)
        assert foreign.left_out == (
            "optim, 2 values: the optimiser's state",
            "global_step = 12000: how long it was trained",
        )
        assert any("from 0 to 1" in note for note in foreign.notes)

    def test_a_counter_beside_the_weights(self):
        tensors = STATES["y0ast"]() | {"epoch": torch.tensor(3)}
        tensors |= {"optimizer.state.0.exp_avg": torch.ones(2, 2), "optimizer.lr": torch.ones(1)}
        assert read("y0ast", tensors).left_out == (
            "epoch = 3: how long it was trained",
            "optimizer, 2 values: the optimiser's state",
        )

    def test_an_average_of_the_weights_is_not_the_model(self):
        weights, average = STATES["rosinality"](), originals.rosinality_state(1, 2, 1, 3, seed=4)
        tensors = {f"model.{name}": weight for name, weight in weights.items()}
        tensors |= {f"ema.{name}": weight for name, weight in average.items()}
        foreign = read("rosinality", tensors)
        loc = weights["blocks.0.flows.0.actnorm.loc"].flatten()
        assert torch.equal(foreign.state["levels.0.steps.0.actnorm.b"], loc + 0.5)
        assert foreign.left_out == (f"ema, {len(average)} values: an average of the weights",)

    def test_two_models_are_not_chosen_from(self):
        weights = STATES["rosinality"]()
        tensors = {
            f"{part}.{name}": w for part in ("first", "second") for name, w in weights.items()
        }
        with pytest.raises(CheckpointError, match=r"several .* models, first\., second\."):
            read("rosinality", tensors)


REFUSED = {
    "missing": lambda tensors, name, _: tensors.pop(name),
    "other-name": lambda tensors, name, _: tensors.update({f"{name}_": tensors.pop(name)}),
    "one-more": lambda tensors, name, _: tensors.update({f"{name}.extra": torch.ones(2)}),
    "longer": lambda tensors, name, _: tensors.update({name: torch.stack([tensors[name]] * 2)}),
    "nan": lambda tensors, name, _: tensors.update({name: tensors[name] * torch.nan}),
    "infinite": lambda tensors, name, _: tensors.update(
        {name: tensors[name].float().add(torch.inf)}
    ),
}
"""What is done to a weight, and is seen wherever it is done."""
PERHAPS = {
    "shorter": lambda tensors, name, _: (
        tensors.update({name: tensors[name][:1]}) if tensors[name].dim() else None
    ),
    "zeros": lambda tensors, name, _: tensors.update({name: torch.zeros_like(tensors[name])}),
    "whole-numbers": lambda tensors, name, _: tensors.update({name: tensors[name].long()}),
    "huge": lambda tensors, name, _: tensors.update({name: tensors[name].float() * 1e30}),
    "other-order": lambda tensors, name, random: tensors.update(
        {
            name: tensors[name]
            .flatten()[torch.from_numpy(random.permutation(tensors[name].numel()))]
            .view(tensors[name].shape)
        }
    ),
    "transposed": lambda tensors, name, _: (
        tensors.update({name: tensors[name].transpose(0, -1)}) if tensors[name].dim() > 1 else None
    ),
}


class TestDamage:
    @pytest.mark.parametrize("how", REFUSED)
    @pytest.mark.parametrize("name", STATES)
    def test_is_named(self, name, how):
        whole = STATES[name]()
        random = np.random.default_rng(1)
        for weight in random.choice(sorted(whole), size=12, replace=False):
            tensors = dict(whole)
            REFUSED[how](tensors, weight, random)
            # A shape from which the architecture is deduced contradicts all others.
            expected = r" ask for |no squeezed" if how == "longer" else re.escape(weight)
            with pytest.raises(GlowflowError, match=expected) as raised:
                read(name, tensors)
            assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("how", PERHAPS)
    @pytest.mark.parametrize("name", STATES)
    def test_is_refused_or_another_whole_model(self, name, how):
        whole = STATES[name]()
        random = np.random.default_rng(2)
        for weight in random.choice(sorted(whole), size=12, replace=False):
            tensors = dict(whole)
            PERHAPS[how](tensors, weight, random)
            try:
                foreign = read(name, tensors)
            except GlowflowError as error:
                assert "\n" not in str(error)
                continue
            model = Glow(foreign.config)
            model.load_weights(foreign.state, "the file")
            assert all(torch.isfinite(w).all() for w in model.state_dict().values())

    @pytest.mark.parametrize("name", STATES)
    def test_half_of_a_file(self, name):
        whole = STATES[name]()
        for count in range(1, len(whole), 3):
            part = dict(list(whole.items())[:count])
            if module_of(name).recognises(part):
                with pytest.raises(CheckpointError, match=r"no whole|lacks"):
                    read(name, part)

    @pytest.mark.parametrize("name", STATES)
    def test_whatever_is_missing_is_named(self, name):
        whole = STATES[name]()
        for weight in whole:
            with pytest.raises(CheckpointError, match=rf"lacks {re.escape(weight)}[: .,]"):
                read(name, {n: w for n, w in whole.items() if n != weight})

    def test_many_names_stand_together_and_none_is_left_out(self):
        whole = originals.rosinality_state(1, 2, 13, 3, dtype=torch.float32)
        part = {n: w for n, w in whole.items() if not n.endswith("coupling.net.2.bias")}
        all_of_them = r"lacks blocks\.\{0-1\}\.flows\.\{0-12\}\.coupling\.net\.2\.bias \(26 of"
        with pytest.raises(CheckpointError, match=all_of_them):
            read("rosinality", part)

    def test_numbers_beyond_float32(self, tmp_path):
        whole = STATES["rosinality"]()
        whole["blocks.0.flows.0.coupling.net.0.weight"] = torch.full(
            (3, 2, 3, 3), 1e300, dtype=torch.float64
        )
        torch.save(whole, tmp_path / "huge.pt")
        given = {"image_size": (4, 4), "bits": 8}
        with pytest.raises(CheckpointError, match=r"infinite in torch\.float32: use a checkpoint"):
            Glow.from_foreign(tmp_path / "huge.pt", **given)
        Glow.from_foreign(tmp_path / "huge.pt", **given, dtype=torch.float64)

    def test_names_with_numbers_beyond_reason(self):
        tensors = STATES["rosinality"]() | {
            f"blocks.{number}.prior.scale": torch.ones(1) for number in range(10, 3000)
        }
        tensors |= {f"blocks.0.flows.{n}.actnorm.loc": torch.ones(1) for n in range(1, 3000)}
        with pytest.raises(CheckpointError, match=r"levels of 3000 steps, and \d+ weights"):
            read("rosinality", tensors)


class TestWhatCannotBeRead:
    @pytest.mark.parametrize(
        ("name", "weight", "value", "message"),
        [
            ("rosinality", "blocks.0.flows.0.actnorm.initialized", 0, "initialized is not 1"),
            ("rosinality", "blocks.0.flows.0.actnorm.scale", 0.0, "scale has a zero"),
            ("rosinality", "blocks.0.flows.0.invconv.weight", 0.0, "has no inverse"),
            ("rosinality-lu", "blocks.0.flows.0.invconv.w_p", 1.0, "is no permutation"),
            ("rosinality-lu", "blocks.0.flows.0.invconv.s_sign", 0.0, "other values than 1 and -1"),
            ("rosinality-lu", "blocks.0.flows.0.invconv.l_mask", 1.0, "l_mask is changed"),
            ("y0ast", "prior_h", 1.0, "prior_h is not zero"),
            ("y0ast", "flow.layers.1.invconv.p", 0.0, "is no permutation"),
            ("chaiyujin", "flow.layers.1.invconv.weight", 1.0, "has no inverse"),
            ("normflows", "flows.0.0.flows.2.data_dep_init_done", 0.0, "before the first batch"),
            ("normflows", "flows.0.0.flows.1.eye", 0.0, "eye is changed"),
            ("normflows", "flows.0.0.flows.0.flows.1.param_map.net.1.actNorm.s", -1e3, "infinite"),
        ],
    )
    def test_weights_that_cannot_be_meant(self, name, weight, value, message):
        tensors = STATES[name]()
        tensors[weight] = torch.full_like(tensors[weight], value)
        with pytest.raises(CheckpointError, match=message):
            read(name, tensors)

    def test_permutations_that_are_not_saved(self):
        tensors = {n: w for n, w in STATES["y0ast"]().items() if "invconv" not in n}
        with pytest.raises(CheckpointError, match="reverse or shuffle"):
            read("y0ast", tensors)

    def test_factors_without_their_fixed_part(self):
        tensors = originals.flownet_state("chaiyujin", 1, size=(4, 4), **SMALL)
        tensors = {n: w for n, w in tensors.items() if not n.endswith((".p", ".sign_s"))}
        with pytest.raises(
            CheckpointError, match=r"lacks their p and sign_s|lacks? .*p and sign_s"
        ):
            read("chaiyujin", tensors)

    def test_a_checkerboard(self):
        tensors = STATES["normflows"]()
        name = "flows.1.0.flows.0.flows.1.param_map.net.0.weight"
        tensors[name] = torch.ones(3, 4, 3, 3)
        with pytest.raises(CheckpointError, match="checkerboard"):
            read("normflows", tensors)

    @pytest.mark.parametrize(
        ("part", "said"),
        [
            ("subnet1.0.weight", "GLOWCouplingBlock"),
            ("subnet_s1.0.weight", "RNVPCouplingBlock"),
            ("global_scale", "AllInOneBlock"),
            ("F.0.weight", "NICECouplingBlock"),
        ],
    )
    def test_freia(self, part, said):
        tensors = {f"module_list.2.{part}": torch.ones(2)}
        assert freia.recognises(tensors)
        with pytest.raises(CheckpointError, match=f"{said}.*keep it in FrEIA"):
            freia.read(tensors, GIVEN, "the file")


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(name, half):
    tensors = {n: w.to(half) if w.is_floating_point() else w for n, w in STATES[name]().items()}
    state = read(name, tensors).state
    assert {w.dtype for w in state.values() if w.is_floating_point()} == {torch.float32}
