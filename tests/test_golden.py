"""The official code's own numbers: what "Glow" means here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from glowflow import Glow, GlowConfig

FILE = Path(__file__).parent / "golden" / "openai_affine_invconv.npz"


def kernel(array):
    return array.transpose(3, 2, 0, 1)


def official_state(file) -> dict[str, torch.Tensor]:
    """The official variables under this package's names."""
    state = {}

    def conv3x3(ours, theirs):
        weight = kernel(file[f"var:{theirs}/W"])
        state[f"{ours}.weight"], state[f"{ours}.edge"] = weight[:, :-1], weight[:, -1]

    def zero_conv(ours, theirs):
        conv3x3(ours, theirs)
        state[f"{ours}.b"] = file[f"var:{theirs}/b"]
        state[f"{ours}.logs"] = file[f"var:{theirs}/logs"]

    def actnorm(ours, theirs):
        state[f"{ours}.b"] = file[f"var:{theirs}actnorm_center/b"]
        state[f"{ours}.logs"] = file[f"var:{theirs}actnorm_scale/logs"]
        state[f"{ours}.initialized"] = np.array(True)

    for level in range(3):
        for step in range(2):
            theirs = f"model/{level}/{step}/"
            ours_step = f"levels.{level}.steps.{step}"
            coupling = f"{ours_step}.coupling"
            actnorm(f"{ours_step}.actnorm", theirs)
            state[f"{ours_step}.permutation.weight"] = file[f"var:{theirs}invconv/W"].T
            conv3x3(f"{coupling}.network.first", f"{theirs}f1/l_1")
            second = kernel(file[f"var:{theirs}f1/l_2/W"])
            state[f"{coupling}.network.second.weight"] = second
            for ours, layer in (("first", "l_1"), ("second", "l_2")):
                actnorm(f"{coupling}.network.{ours}", f"{theirs}f1/{layer}/")
            zero_conv(f"{coupling}.network.last", f"{theirs}f1/l_last")
    for split in range(2):
        zero_conv(f"levels.{split}.split.prior.conv", f"model/pool{split}/conv")
    zero_conv("levels.2.split.prior.conv", "model/prior/p")
    return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in state.items()}


def images(array):
    return torch.from_numpy(array).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def file():
    return np.load(FILE)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def model(request, file):
    model = Glow(
        GlowConfig(
            image_shape=(3, 16, 16), levels=3, steps=2, hidden_channels=16, permutation="plain"
        )
    )
    state = official_state(file)
    own = model.state_dict()
    model.load_weights({k: v.reshape(own[k].shape) for k, v in state.items()}, str(FILE))
    return model.to(request.param).eval()


def test_log_prob(model, file):
    x = images(file["x"]).to(model.dtype)
    difference = model.log_prob(x).detach() - torch.from_numpy(file["log_prob"])
    assert difference.abs().max() < 1e-3


def test_latents(model, file):
    for level, eps in enumerate(model.encode(images(file["x"]).to(model.dtype))):
        assert (eps - images(file[f"eps{level}"])).abs().max() < 1e-5


def test_decoded_images(model, file):
    """To 1e-5, absolute for pixel values and relative beyond them (the file is float32)."""
    latents = tuple(images(file[f"eps_in{level}"]).to(model.dtype) for level in range(3))
    expected = images(file["decoded"])
    error = (model.decode(latents) - expected).abs()
    assert (error / expected.abs().clamp(min=1.0)).max() < 1e-5
    assert error[expected.abs() <= 0.5].max() < 1e-5
