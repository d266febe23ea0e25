"""rosinality/glow-pytorch: its blocks of flows."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..models.config import GlowConfig
from . import mapping
from .checkpoint import Checkpoint, bits_of, black_of, find, image_size_of
from .foreign import Foreign, Given
from .mapping import State

TITLE = "rosinality/glow-pytorch"
NAMES = re.compile(r"(?<![^.])blocks\.\d+\.(?:flows\.\d+\.(?:actnorm|invconv|coupling)|prior)\.")


def recognises(names: Mapping[str, Tensor]) -> bool:
    """Whether these are names of its blocks."""
    return any(map(NAMES.search, names))


def read(tensors: Mapping[str, Tensor], given: Given, source: str) -> Foreign:
    """Its model in the official form.

    The networks' biased convolutions are actnorms with logs 0; the last convolutions, padded with
    ones, have Σ_c W_c for the edge channel; the chunks (log s, t) become odd and even channels; the
    signs of an actnorm's scale go into the 1x1 convolution.

    Args, errors: as of `Format`.

    Source: its model.py, whose last block keeps to LU with `--no_lu` too.
    """
    checkpoint = find(tensors, NAMES, TITLE, source)
    of_blocks, of_flows = r"blocks\.(\d+)\.", r"blocks\.0\.flows\.(\d+)\."
    blocks, flows = checkpoint.plausible(*(len(checkpoint.found(p)) for p in (of_blocks, of_flows)))
    first = "blocks.0.flows.0"
    hidden_channels = checkpoint.size(f"{first}.coupling.net.0.weight")
    squeezed = checkpoint.size(f"{first}.actnorm.loc", axis=1)
    affine = checkpoint.size(f"{first}.coupling.net.4.conv.bias") == squeezed
    steps = {f"blocks.{i}.flows.{j}": squeezed * 2**i for i in range(blocks) for j in range(flows)}
    factored = {name.partition(".invconv.w_")[0] for name in checkpoint.weights}
    plain = [name for name in steps if name not in factored]
    priors = {f"blocks.{i}.prior": squeezed * 2**i // 2 for i in range(blocks)}
    priors[f"blocks.{blocks - 1}.prior"] *= 2

    flagged = any(name.endswith(".initialized") for name in checkpoint.weights)  # not at first
    shapes: dict[str, tuple[int, ...]] = {}
    for name, channels in steps.items():
        shapes |= _step_shapes(name, channels, hidden_channels, affine, name in plain)
        if flagged:
            shapes[f"{name}.actnorm.initialized"] = ()
    for name, channels in priors.items():
        shapes |= _conv_shapes(name, channels, 2 * channels)
    w = checkpoint.complete(shapes)
    for name in steps:
        _check(checkpoint, w, name, name in plain)

    levels = []
    for i in range(blocks):
        names = [f"blocks.{i}.flows.{j}" for j in range(flows)]
        states = [_step(w, name, affine, name in plain, bool(plain)) for name in names]
        prior = _conv(w, f"blocks.{i}.prior")
        prior = mapping.chunks_crossed(prior, "even") if i < blocks - 1 else _fed_zeros(prior)
        levels.append(mapping.level(states, mapping.under(prior=mapping.under(conv=prior))))
    size = image_size_of(given.image_size, None, source)
    config = GlowConfig(
        image_shape=(squeezed // 4, *size),
        levels=blocks,
        steps=flows,
        hidden_channels=hidden_channels,
        coupling="affine" if affine else "additive",
        permutation="plain" if plain else "lu",
        bits=bits_of(given.bits, "its train.py has 5 unless told otherwise by --n_bits", source),
    )
    state = mapping.model(levels)
    state = mapping.brightened(state, black_of(given.black, -0.5))
    mixed = "The last block's 1x1 convolutions were LU and the others plain: all are plain now."
    return Foreign(
        config=config,
        state=mapping.finished(state, checkpoint.dtype, source),
        left_out=checkpoint.left_out,
        notes=(mixed,) if 0 < len(plain) < len(steps) else (),
    )


def _step_shapes(
    name: str, channels: int, hidden: int, affine: bool, plain: bool
) -> dict[str, tuple[int, ...]]:
    changed = channels if affine else channels // 2
    square = (channels, channels)
    mixing: dict[str, tuple[int, ...]] = {"weight": (*square, 1, 1)}
    if not plain:
        mixing = dict.fromkeys(("w_p", "u_mask", "l_mask", "l_eye", "w_l", "w_u"), square)
        mixing |= dict.fromkeys(("s_sign", "w_s"), (channels,))
    return {
        f"{name}.actnorm.loc": (1, channels, 1, 1),
        f"{name}.actnorm.scale": (1, channels, 1, 1),
        **{f"{name}.invconv.{part}": shape for part, shape in mixing.items()},
        f"{name}.coupling.net.0.weight": (hidden, channels // 2, 3, 3),
        f"{name}.coupling.net.0.bias": (hidden,),
        f"{name}.coupling.net.2.weight": (hidden, hidden, 1, 1),
        f"{name}.coupling.net.2.bias": (hidden,),
        **_conv_shapes(f"{name}.coupling.net.4", hidden, changed),
    }


def _conv_shapes(name: str, channels_in: int, channels_out: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.conv.weight": (channels_out, channels_in, 3, 3),
        f"{name}.conv.bias": (channels_out,),
        f"{name}.scale": (1, channels_out, 1, 1),
    }


def _check(checkpoint: Checkpoint, w: State, name: str, plain: bool) -> None:
    """Refuse a step that has no inverse, or whose fixed parts are not what they are made as."""
    require = checkpoint.require
    flag = f"{name}.actnorm.initialized"
    require(flag not in w or w[flag] == 1, flag, "is not 1")
    require((w[f"{name}.actnorm.scale"] != 0).all(), f"{name}.actnorm.scale", "has a zero")
    c = f"{name}.invconv"
    if plain:
        mapping.check_invertible(checkpoint, f"{c}.weight")
        return
    ones = torch.ones_like(w[f"{c}.w_p"])
    made = {"l_mask": ones.tril(-1), "u_mask": ones.triu(1), "l_eye": ones.diag().diag()}
    for part, value in made.items():
        require(torch.equal(w[f"{c}.{part}"], value), f"{c}.{part}", "is changed")
    mapping.check_factors(checkpoint, f"{c}.w_p", f"{c}.s_sign")


def _step(w: State, name: str, affine: bool, plain: bool, becomes_plain: bool) -> State:
    scale = w[f"{name}.actnorm.scale"]
    c = f"{name}.invconv"
    if plain:
        mixing = mapping.plain(w[f"{c}.weight"], scale.sign())
    else:
        P, L, U, sign_s, log_s = (w[f"{c}.{n}"] for n in ("w_p", "w_l", "w_u", "s_sign", "w_s"))
        mixing = mapping.factored(P, L, U, sign_s, log_s, scale.sign())
        mixing = mapping.multiplied(mixing) if becomes_plain else mixing
    net = f"{name}.coupling.net"
    last = _conv(w, f"{net}.4")
    return mapping.step(
        mapping.actnorm(w[f"{name}.actnorm.loc"], scale.abs().log()),
        mixing,
        mapping.network(
            mapping.hidden(w[f"{net}.0.weight"], w[f"{net}.0.bias"]),
            mapping.hidden(w[f"{net}.2.weight"], w[f"{net}.2.bias"]),
            mapping.chunks_crossed(last, "odd") if affine else last,
        ),
    )


def _conv(w: State, name: str) -> State:
    """A last convolution, which is padded with ones."""
    weight, bias = w[f"{name}.conv.weight"], w[f"{name}.conv.bias"]
    return mapping.zero_conv(weight, bias, w[f"{name}.scale"], padding=1.0)


def _fed_zeros(prior: State) -> State:
    """The last block's prior, which sees C zeros, for the top's 2C zeros."""
    return prior | {"weight": torch.cat((prior["weight"], torch.zeros_like(prior["weight"])), 1)}
