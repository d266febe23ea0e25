"""The `FlowNet` of y0ast/Glow-PyTorch and chaiyujin/glow-pytorch, which differ in names."""

from dataclasses import dataclass

from ..errors import CheckpointError
from ..models.config import GlowConfig
from . import mapping
from .checkpoint import Checkpoint, black_of, image_size_of
from .foreign import Foreign, Given
from .mapping import State


@dataclass(frozen=True)
class Names:
    """What a port calls its parts."""

    network: str
    """A coupling's network, in its step."""
    convolution: str
    """The convolution in a layer that has more; empty where the layer is one."""
    linear: str
    """The same for linear maps."""
    top: str
    """The last level's prior."""
    lower: str
    upper: str


def read_flownet(
    checkpoint: Checkpoint, names: Names, given: Given, *, bits: int, black: float
) -> Foreign:
    """The model in the official form, which differs in the factor 3 of actnorms, and in the edge
    channel, whose weights are 0.

    Args:
        checkpoint: the weights under the port's names.
        names: of its parts.
        given: what was said of it.
        bits: of the images, if nothing was.
        black: a black value, if nothing was.

    Raises:
        CheckpointError, InputError: as of `Format`.
    """
    levels, steps = _counts(checkpoint)
    first = "flow.layers.1"
    squeezed = checkpoint.size(f"{first}.actnorm.bias", axis=1)
    checkpoint.require(squeezed % 4 == 0, f"{first}.actnorm.bias", "is for no squeezed images")
    hidden = checkpoint.size(_weight(f"{first}.{names.network}.0", names.convolution))
    last = checkpoint.size(_weight(f"{first}.{names.network}.4", names.convolution))
    plain = _is_plain(checkpoint, names)
    learn_top = any(name.startswith(f"{names.top}.") for name in checkpoint.weights)
    classes = 0
    if any(name.startswith("project_") for name in checkpoint.weights):
        classes = checkpoint.size(_weight("project_ycond", names.linear), axis=1)

    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(levels):
        channels, base = squeezed * 2**i, i * (steps + 2)
        changed = channels if last == squeezed else channels // 2
        for name in (f"flow.layers.{base + 1 + j}" for j in range(steps)):
            shapes |= _step_shapes(name, names, channels, hidden, changed, plain)
        if i < levels - 1:
            conv = f"flow.layers.{base + steps + 1}.conv"
            shapes |= _conv_shapes(conv, names, channels // 2, channels)
    top = squeezed * 2 ** (levels - 1)
    if learn_top:
        shapes |= _conv_shapes(names.top, names, 2 * top, 2 * top)
    if classes:
        shapes |= _linear_shapes("project_ycond", names, classes, 2 * top)
        shapes |= _linear_shapes("project_class", names, top, classes)
    batch, height, width = (checkpoint.size("prior_h", axis) for axis in (0, 2, 3))
    shapes["prior_h"] = (batch, 2 * top, height, width)
    w = checkpoint.complete(shapes)
    checkpoint.require((w["prior_h"] == 0).all(), "prior_h", "is not zero")
    size = image_size_of(given.image_size, (height << levels, width << levels), checkpoint.source)

    states = []
    for i in range(levels):
        base = i * (steps + 2)
        layers = [f"flow.layers.{base + 1 + j}" for j in range(steps)]
        for name in layers:
            if plain:
                mapping.check_invertible(checkpoint, f"{name}.invconv.weight")
            else:
                mapping.check_factors(checkpoint, f"{name}.invconv.p", f"{name}.invconv.sign_s")
        if i < levels - 1:
            prior = _conv(w, f"flow.layers.{base + steps + 1}.conv", names)
            split = mapping.under(prior=mapping.under(conv=prior))
        else:
            split = _top(w, names, learn_top, classes)
        states.append(mapping.level([_step(w, name, names, plain) for name in layers], split))
    config = GlowConfig(
        image_shape=(squeezed // 4, *size),
        levels=levels,
        steps=steps,
        hidden_channels=hidden,
        coupling="affine" if last == squeezed else "additive",
        permutation="plain" if plain else "lu",
        bits=bits if given.bits is None else given.bits,
        learn_top=learn_top,
        classes=classes,
    )
    state = mapping.model(states)
    state = mapping.brightened(state, black_of(given.black, black))
    state = mapping.finished(state, checkpoint.dtype, checkpoint.source)
    return Foreign(config=config, state=state, left_out=checkpoint.left_out)


def _counts(checkpoint: Checkpoint) -> tuple[int, int]:
    """Levels and steps: layer l(K + 2) squeezes, K steps follow, then the split."""
    splits = checkpoint.found(r"flow\.layers\.(\d+)\.conv\.")
    steps = checkpoint.found(r"flow\.layers\.(\d+)\.actnorm\.")
    per_level = min(splits) - 1 if splits else len(steps)
    return checkpoint.plausible(len(splits) + 1, per_level)


def _is_plain(checkpoint: Checkpoint, names: Names) -> bool:
    """Whether the 1x1 convolutions are matrices, and not factored."""
    parts = {name.rpartition(".")[2] for name in checkpoint.weights if ".invconv." in name}
    if not parts:
        raise CheckpointError(
            f"{checkpoint.source} has no 1x1 convolutions: its steps reverse or shuffle the "
            f"channels, and {checkpoint.title} does not save how; only models with invconv can be "
            "read."
        )
    if names.lower in parts and not parts & {"p", "sign_s"}:
        raise CheckpointError(
            f"{checkpoint.source} has L and U of its 1x1 convolutions and lacks their p and "
            f"sign_s, which early versions of {checkpoint.title} did not save: save them from the "
            "process that trained it; without them nobody has the model."
        )
    return names.lower not in parts


def _weight(name: str, inner: str) -> str:
    return f"{name}.{inner}weight"


def _conv_shapes(
    name: str, names: Names, channels_in: int, channels_out: int
) -> dict[str, tuple[int, ...]]:
    inner = f"{name}.{names.convolution}"
    return {
        f"{inner}weight": (channels_out, channels_in, 3, 3),
        f"{inner}bias": (channels_out,),
        f"{name}.logs": (channels_out, 1, 1),
    }


def _linear_shapes(
    name: str, names: Names, features_in: int, features_out: int
) -> dict[str, tuple[int, ...]]:
    inner = f"{name}.{names.linear}"
    return {
        f"{inner}weight": (features_out, features_in),
        f"{inner}bias": (features_out,),
        f"{name}.logs": (features_out,),
    }


def _step_shapes(
    name: str, names: Names, channels: int, hidden: int, changed: int, plain: bool
) -> dict[str, tuple[int, ...]]:
    net, square = f"{name}.{names.network}", (channels, channels)
    mixing: dict[str, tuple[int, ...]] = {"weight": square}
    if not plain:
        mixing = dict.fromkeys(("p", names.lower, names.upper), square)
        mixing |= dict.fromkeys(("sign_s", "log_s"), (channels,))
    return {
        f"{name}.actnorm.bias": (1, channels, 1, 1),
        f"{name}.actnorm.logs": (1, channels, 1, 1),
        **{f"{name}.invconv.{part}": shape for part, shape in mixing.items()},
        _weight(f"{net}.0", names.convolution): (hidden, channels // 2, 3, 3),
        f"{net}.0.actnorm.bias": (1, hidden, 1, 1),
        f"{net}.0.actnorm.logs": (1, hidden, 1, 1),
        _weight(f"{net}.2", names.convolution): (hidden, hidden, 1, 1),
        f"{net}.2.actnorm.bias": (1, hidden, 1, 1),
        f"{net}.2.actnorm.logs": (1, hidden, 1, 1),
        **_conv_shapes(f"{net}.4", names, hidden, changed),
    }


def _step(w: State, name: str, names: Names, plain: bool) -> State:
    if plain:
        mixing = mapping.plain(w[f"{name}.invconv.weight"])
    else:
        parts = ("p", names.lower, names.upper, "sign_s", "log_s")
        mixing = mapping.factored(*(w[f"{name}.invconv.{part}"] for part in parts))
    net = f"{name}.{names.network}"
    return mapping.step(
        mapping.actnorm(w[f"{name}.actnorm.bias"], w[f"{name}.actnorm.logs"]),
        mixing,
        mapping.network(
            _hidden(w, f"{net}.0", names),
            _hidden(w, f"{net}.2", names),
            _conv(w, f"{net}.4", names),
        ),
    )


def _hidden(w: State, name: str, names: Names) -> State:
    weight = w[_weight(name, names.convolution)]
    return mapping.hidden(weight, w[f"{name}.actnorm.bias"], w[f"{name}.actnorm.logs"])


def _conv(w: State, name: str, names: Names) -> State:
    inner = f"{name}.{names.convolution}"
    return mapping.zero_conv(w[f"{inner}weight"], w[f"{inner}bias"], w[f"{name}.logs"])


def _linear(w: State, name: str, names: Names) -> State:
    inner = f"{name}.{names.linear}"
    return mapping.zero_linear(w[f"{inner}weight"], w[f"{inner}bias"], w[f"{name}.logs"])


def _top(w: State, names: Names, learned: bool, classes: int) -> State:
    prior: State = {}
    if learned:
        prior |= mapping.under(conv=_conv(w, names.top, names))
    if classes:
        prior |= mapping.under(classes_map=_linear(w, "project_ycond", names))
    top = mapping.under(prior=prior)
    if classes:
        top |= mapping.under(classifier=_linear(w, "project_class", names))
    return top
