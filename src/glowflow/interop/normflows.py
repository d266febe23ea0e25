"""normflows' multiscale flows of `GlowBlock`s."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..bijections.actnorm import LOG_SCALE_FACTOR
from ..errors import CheckpointError, InputError
from ..models.config import CouplingScale, GlowConfig
from . import mapping
from .checkpoint import Checkpoint, black_of, find, image_size_of
from .foreign import Foreign, Given
from .mapping import State

TITLE = "normflows"
NAMES = re.compile(r"(?<![^.])flows\.\d+\.\d+\.flows\.\d+\.")
BLOCK = "flows.{}.{}.flows"
COUPLING = "flows.{}.{}.flows.0.flows.1.param_map.net"
CHANNEL_GAUSSIAN = ("loc", "loc_logs", "log_scale", "log_scale_logs")
"""Parameters of a `GlowBase`, each one a channel."""
SCALES = ("sigmoid", "inverse_sigmoid", "exp")
ASSUMED = (
    "The file does not say leaky and split_mode of its blocks, nor a transform: they are taken for "
    "0, channel and none, as GlowBlock and MultiscaleFlow have them."
)

NO_CLASSIFIER = "It has no classifier: the logits of its classes are 0 until it is trained on."

Shapes = dict[str, tuple[int, ...]]


def recognises(names: Mapping[str, Tensor]) -> bool:
    """Whether these are names of its lists of blocks."""
    return any(map(NAMES.search, names))


def read(tensors: Mapping[str, Tensor], given: Given, source: str) -> Foreign:
    """Its model in the official form, with `prior="diagonal"` where the base distributions differ
    from position to position or, below the top, from class to class.

    Its flows run from latents to images, and their inverses are the official direction: an actnorm
    (z − t)·exp(−s) has b = −t and logs = −s/3; a coupling (z − t)·sigmoid(r + 2) has the shift −t,
    and (z − t)·exp(−r) has −r for its scale.

    Args, errors: as of `Format`; bits, black and, of affine couplings, the scale are to be given.

    Source: its flows/affine/glow.py, flows/affine/coupling.py, distributions/base.py and core.py.
    """
    checkpoint = find(tensors, NAMES, TITLE, source)
    levels, steps = checkpoint.plausible(
        len(checkpoint.found(r"flows\.(\d+)\.")),
        len(checkpoint.found(r"flows\.0\.(\d+)\.")),
    )
    first = BLOCK.format(levels - 1, 0)
    squeezed = checkpoint.size(f"{first}.2.s", axis=1)
    checkpoint.require(squeezed % 4 == 0, f"{first}.2.s", "is for no squeezed images")
    normed = any(".param_map.net.1.actNorm." in name for name in checkpoint.weights)
    layers = (0, 3, 6) if normed else (0, 2, 4)
    net = COUPLING.format(levels - 1, 0)
    hidden = checkpoint.size(f"{net}.0.weight")
    if checkpoint.size(f"{net}.0.weight", axis=1) == squeezed:
        raise CheckpointError(
            f"{source} splits its channels in a checkerboard, which the official form cannot: only "
            "split_mode='channel' can be read."
        )
    affine = checkpoint.size(f"{net}.{layers[2]}.bias") == squeezed
    plain = any(name.endswith(".flows.1.W") for name in checkpoint.weights)
    bits, black, scale = _said(given, affine, source)

    found = _size(checkpoint, levels)

    shapes: Shapes = {}
    for i in range(levels):
        channels = squeezed * 2 ** (levels - 1 - i)
        pixels = (1, 1) if found is None else (found[0] >> (levels - i), found[1] >> (levels - i))
        for j in range(steps):
            shapes |= _block_shapes(i, j, channels, hidden, affine, plain, normed)
        shapes |= _base_shapes(checkpoint, i, channels if i == 0 else channels // 2, pixels)
    w = checkpoint.complete(shapes)
    for i in range(levels):
        for j in range(steps):
            _check(checkpoint, i, j, plain, normed)
    size = image_size_of(given.image_size, found, source)
    bases = [_base(w, f"q0.{i}") for i in range(levels)]
    classes = _classes(checkpoint, bases)
    diagonal = classes > 0 or any((p != p[:, :, :1, :1]).any() for base in bases for p in base)
    states = []
    for i in reversed(range(levels)):  # the first level here is the last there
        blocks = [_step(w, i, j, affine, scale, plain, layers) for j in reversed(range(steps))]
        mean, log_std = bases[i]
        pixels = size[0] >> (levels - i), size[1] >> (levels - i)
        if diagonal:
            shape = (max(1, classes), -1, *pixels)
            split = {"prior.mean": mean.expand(shape), "prior.log_std": log_std.expand(shape)}
        else:
            split = _constant(mean[0, :, 0, 0], log_std[0, :, 0, 0], top=i == 0)
        if i == 0 and classes:
            split |= mapping.no_classifier(classes, squeezed * 2 ** (levels - 1))
        states.append(mapping.level(blocks, split))
    config = GlowConfig(
        image_shape=(squeezed // 4, *size),
        levels=levels,
        steps=steps,
        hidden_channels=hidden,
        coupling="affine" if affine else "additive",
        coupling_scale=scale,
        permutation="plain" if plain else "lu",
        bits=bits,
        prior="diagonal" if diagonal else "convolutional",
        classes=classes,
    )
    state = mapping.brightened(mapping.model(states), black)
    return Foreign(
        config=config,
        state=mapping.finished(state, checkpoint.dtype, source),
        left_out=checkpoint.left_out,
        notes=(ASSUMED, NO_CLASSIFIER) if classes else (ASSUMED,),
    )


def _said(given: Given, affine: bool, source: str) -> tuple[int, float, CouplingScale]:
    """Bits, black and the scale of the couplings, of which the file says nothing.

    Raises:
        InputError: one has to be given.
    """
    scale = given.coupling_scale if affine else "sigmoid"
    if given.bits is None or given.black is None or scale is None:
        every = {"bits": given.bits, "black": given.black, "coupling_scale": scale}
        missing = [name for name, value in every.items() if value is None]
        told = {
            "bits": "--bits 8",
            "black": "--black 0",
            "coupling_scale": "--coupling-scale sigmoid",
        }
        raise InputError(
            f"{source} does not say {', '.join(missing)}: give them; a model as in normflows' "
            f"tutorial has {' '.join(told[name] for name in missing)}."
        )
    if scale not in SCALES:
        raise InputError(f"coupling_scale is {scale}: normflows has {', '.join(SCALES)}.")
    return given.bits, black_of(given.black, 0.0), scale


def _size(checkpoint: Checkpoint, levels: int) -> tuple[int, int] | None:
    """Height and width of the images, of a base distribution that has positions."""
    for i in range(levels):
        name = f"q0.{i}.loc"
        if name in checkpoint.weights and not _is_of_channels(checkpoint, f"q0.{i}"):
            first = 2 if checkpoint.size(name) == 1 else 1
            height, width = checkpoint.size(name, first), checkpoint.size(name, first + 1)
            return height << (levels - i), width << (levels - i)
    return None


def _block_shapes(
    i: int, j: int, channels: int, hidden: int, affine: bool, plain: bool, normed: bool
) -> Shapes:
    changed, square = channels if affine else channels // 2, (channels, channels)
    shapes: Shapes = {"1.W": square}
    if not plain:
        shapes = dict.fromkeys(("1.P", "1.L", "1.U", "1.eye"), square)
        shapes |= dict.fromkeys(("1.sign_S", "1.log_S"), (channels,))
    shapes |= _actnorm_shapes("2", channels)
    net = "0.flows.1.param_map.net"
    first, last = (3, 6) if normed else (2, 4)
    shapes |= {
        f"{net}.0.weight": (hidden, channels // 2, 3, 3),
        f"{net}.{first}.weight": (hidden, hidden, 1, 1),
        f"{net}.{last}.weight": (changed, hidden, 3, 3),
        f"{net}.{last}.bias": (changed,),
    }
    if normed:
        shapes |= _actnorm_shapes(f"{net}.1.actNorm", hidden)
        shapes |= _actnorm_shapes(f"{net}.4.actNorm", hidden)
    else:
        shapes |= {f"{net}.0.bias": (hidden,), f"{net}.2.bias": (hidden,)}
    return {f"{BLOCK.format(i, j)}.{name}": shape for name, shape in shapes.items()}


def _actnorm_shapes(name: str, channels: int) -> Shapes:
    shape = (1, channels, 1, 1)
    return {f"{name}.s": shape, f"{name}.t": shape, f"{name}.data_dep_init_done": ()}


def _base_shapes(checkpoint: Checkpoint, i: int, channels: int, pixels: tuple[int, int]) -> Shapes:
    """Shapes of a `GlowBase`, a `ClassCondDiagGaussian` or a `DiagGaussian`."""
    name = f"q0.{i}"
    if _is_of_channels(checkpoint, name):
        shapes: Shapes = dict.fromkeys(CHANNEL_GAUSSIAN, (1, channels, 1, 1))
        if {f"{name}.loc_cc", f"{name}.log_scale_cc"} & checkpoint.weights.keys():
            classes = checkpoint.size(f"{name}.loc_cc")
            shapes |= dict.fromkeys(("loc_cc", "log_scale_cc"), (classes, channels))
    elif checkpoint.size(f"{name}.loc") == 1:
        shapes = dict.fromkeys(("loc", "log_scale"), (1, channels, *pixels))
    else:
        classes = checkpoint.size(f"{name}.loc", axis=3)
        shapes = dict.fromkeys(("loc", "log_scale"), (channels, *pixels, classes))
    return {f"{name}.{part}": shape for part, shape in shapes.items()}


def _is_of_channels(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a base distribution is a `GlowBase`."""
    return any(f"{name}.{part}_logs" in checkpoint.weights for part in ("loc", "log_scale"))


def _check(checkpoint: Checkpoint, i: int, j: int, plain: bool, normed: bool) -> None:
    """Refuse a block that has no inverse, or has not begun."""
    name, net = BLOCK.format(i, j), COUPLING.format(i, j)
    if plain:
        mapping.check_invertible(checkpoint, f"{name}.1.W")
    else:
        mapping.check_factors(checkpoint, f"{name}.1.P", f"{name}.1.sign_S")
        eye = checkpoint.weights[f"{name}.1.eye"]
        checkpoint.require(
            torch.equal(eye, torch.eye(len(eye)).to(eye)), f"{name}.1.eye", "is changed"
        )
    for norm in (f"{name}.2", *(f"{net}.{k}.actNorm" for k in (1, 4) if normed)):
        begun = checkpoint.weights[f"{norm}.data_dep_init_done"] > 0
        checkpoint.require(begun, f"{norm}.data_dep_init_done", "is 0, before the first batch")


def _step(
    w: State, i: int, j: int, affine: bool, scale: str, plain: bool, layers: tuple[int, int, int]
) -> State:
    name, net = BLOCK.format(i, j), COUPLING.format(i, j)
    if plain:
        mixing = mapping.plain(w[f"{name}.1.W"])
    else:
        P, L, U, sign_s, log_s = (w[f"{name}.1.{n}"] for n in ("P", "L", "U", "sign_S", "log_S"))
        mixing = mapping.factored(P, L, U, sign_s, log_s)
    last = f"{net}.{layers[2]}"
    conv = mapping.zero_conv(w[f"{last}.weight"], w[f"{last}.bias"], 0 * w[f"{last}.bias"])
    turned = slice(None, None, 2 if affine and scale != "exp" else 1)
    return mapping.step(
        mapping.actnorm(-w[f"{name}.2.t"], -w[f"{name}.2.s"]),
        mixing,
        mapping.network(
            _hidden(w, net, layers[0]),
            _hidden(w, net, layers[1]),
            mapping.negated(conv, turned),
        ),
    )


def _hidden(w: State, net: str, layer: int) -> State:
    """A convolution with a bias, or with an actnorm y = x·exp(s) + t."""
    weight, norm = w[f"{net}.{layer}.weight"], f"{net}.{layer + 1}.actNorm"
    if f"{norm}.s" not in w:
        return mapping.hidden(weight, w[f"{net}.{layer}.bias"])
    s, t = w[f"{norm}.s"], w[f"{norm}.t"]
    return mapping.hidden(weight, t * torch.exp(-s), s)


def _base(w: State, name: str) -> tuple[Tensor, Tensor]:
    """Mean and log σ, (classes or 1, channels, height or 1, width or 1)."""
    loc, log_scale = w[f"{name}.loc"], w[f"{name}.log_scale"]
    if f"{name}.loc_logs" in w:
        mean = loc * torch.exp(LOG_SCALE_FACTOR * w[f"{name}.loc_logs"])
        log_std = log_scale * torch.exp(LOG_SCALE_FACTOR * w[f"{name}.log_scale_logs"])
        if f"{name}.loc_cc" in w:
            mean = mean + w[f"{name}.loc_cc"][:, :, None, None]
            log_std = log_std + w[f"{name}.log_scale_cc"][:, :, None, None]
        return mean, log_std
    if len(loc) == 1:
        return loc, log_scale
    return loc.movedim(3, 0), log_scale.movedim(3, 0)


def _classes(checkpoint: Checkpoint, bases: list[tuple[Tensor, Tensor]]) -> int:
    """Number of classes of the base distributions that have any; 0 if none has."""
    found = {len(mean) for mean, _ in bases} - {1}
    checkpoint.require(len(found) < 2, "q0", f"has {sorted(found)} classes at its levels")
    return found.pop() if found else 0


def _constant(mean: Tensor, log_std: Tensor, top: bool) -> State:
    """A convolutional prior that says the same everywhere: μ and log σ are its biases."""
    channels = len(mean)
    both = (mean, log_std)
    b = torch.cat(both) if top else torch.stack(both, dim=1).flatten()
    seen = 2 * channels if top else channels
    conv = mapping.zero_conv(b.new_zeros(2 * channels, seen, 3, 3), b, torch.zeros_like(b))
    return mapping.under(prior=mapping.under(conv=conv))
