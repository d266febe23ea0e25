"""Every hyperparameter, with its unit and its default, as frozen dataclasses.

The same classes are the Python arguments, the command line (`glow train --help`), the YAML of
`--config` and the `config.json` of a run.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from .errors import InputError

Config = TypeVar("Config")
Optimizer = Literal["adamax", "adam", "adamw"]
Memory = Literal["stored", "reversible"]
Precision = Literal["float32", "bf16"]
PrecisionChoice = Literal["float32", "bf16", "auto"]
Decay = Literal["constant", "cosine", "linear"]
Coupling = Literal["affine", "additive"]
CouplingScale = Literal["sigmoid", "bounded", "exp"]
PermutationKind = Literal["lu", "plain", "shuffle", "reverse"]
Family = Literal["glow", "realnvp"]
Fit = Literal["crop", "stretch", "pad"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def _require_bits(bits: int | None) -> None:
    _require(
        bits is None or 1 <= bits <= 8,
        f"bits is {bits}: give 1 to 8 for images, or None for float data.",
    )


def _require_shape(image_shape: tuple[int, ...]) -> None:
    _require(
        len(image_shape) == 3 and min(image_shape) >= 1,
        f"image_shape is {image_shape}: give channels, height and width.",
    )


def _require_halvings(
    image_shape: tuple[int, int, int], halvings: int, factor: str, what: str
) -> None:
    _, height, width = image_shape
    _require(
        height % 2**halvings == 0 and width % 2**halvings == 0,
        f"Images of {height}x{width} cannot be halved {halvings} times: height and width must be "
        f"divisible by {factor} = {2**halvings}; change the size or the {what}.",
    )


def require_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a value that is not one of a Literal's.

    Raises:
        InputError: it is not.
    """
    allowed = get_args(choices)
    _require(value in allowed, f"{name} is {value!r}: choose one of {', '.join(allowed)}.")


def require_at_least(settings: Any, least: int, *names: str) -> None:
    """Refuse fields that are below `least`; None is no number.

    Raises:
        InputError: one is.
    """
    for name in names:
        value = getattr(settings, name)
        _require(value is None or value >= least, f"{name} is {value}: give at least {least}.")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images come from and how they become one array."""

    data: str = "faces"
    """`faces`, `digits`, a folder of images or of a published data set, an .npy / .npz array, or
    `hub:org/name`."""
    size: tuple[int, int] | None = None
    """Height and width in pixels; by default the source's own (a folder: 64 64)."""
    channels: Literal[1, 3, 4] | None = None
    """1 grey, 3 RGB, 4 RGBA; by default the source's own (a folder: 3)."""
    fit: Fit = "crop"
    """How an image becomes `size`: by a centre crop; stretched; or padded with black, which keeps
    the pixels of images that are not larger."""
    upscale: bool = False
    """Accept images smaller than `size` and enlarge them."""
    held_out: float = 0.1
    """Share of the images kept for validation, and as much again for the test, where the source
    has no split of its own; of the training images for validation, where it has a test only."""
    limit: int | None = None
    """Use so many images at most, validation and test included; by default all. A hub data set is
    read no further."""
    image_column: str | None = None
    """Which column of a hub data set has the images; by default the only one that has."""
    label_column: str | None = None
    """Which column of a hub data set has the classes; by default the only one that has, if any."""
    faces: int = 10_000
    """How many `faces` to draw."""
    strict: bool = False
    """Stop at the first image that cannot be read, instead of naming and skipping it."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _require(
            self.size is None or min(self.size) >= 1,
            f"size is {self.size}: give a height and a width of at least 1 pixel.",
        )
        _require(
            0.0 < self.held_out < 0.5,
            f"held_out is {self.held_out}: give a share between 0 and 0.5.",
        )
        _require(
            self.limit is None or self.limit >= 3,
            f"limit is {self.limit}: give at least 3, one image for each part.",
        )
        _require(self.faces >= 10, f"faces is {self.faces}: draw at least 10.")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a Glow is made of, apart from the data it is for (paper, section 3 and appendix B)."""

    family: ClassVar[Family] = "glow"

    levels: int = 3
    """L: number of scales; each halves height and width."""
    steps: int = 32
    """K: steps of flow per level."""
    hidden_channels: int = 512
    """Channels of the two hidden layers of each coupling network."""
    coupling: Coupling = "affine"
    """z2 becomes (z2 + shift) * scale, or z2 + shift."""
    coupling_scale: CouplingScale = "sigmoid"
    """`sigmoid`: sigmoid(s + 2), official; `bounded`: between 1/2 and 2; `exp`: exp(s)."""
    permutation: PermutationKind = "lu"
    """Channel mixing of a step: learned 1x1 convolution as LU or plain, or fixed."""
    bits: int | None = 8
    """Bits per pixel value, 1 to 8; `None` for float data, which is not dequantised."""
    learn_top: bool = True
    """Learn mean and scale of the last level's prior."""
    weight_classes: float = 0.01
    """Weight of the classifier's bits in the loss of a class-conditional model."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        require_at_least(self, 1, "levels", "steps", "hidden_channels")
        _require_bits(self.bits)
        for name, choices in (
            ("coupling", Coupling),
            ("coupling_scale", CouplingScale),
            ("permutation", PermutationKind),
        ):
            require_choice(name, getattr(self, name), choices)


@dataclass(frozen=True, kw_only=True)
class GlowConfig(Architecture):
    """An architecture for images of one shape."""

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: int = 0
    """Number of classes the top prior is conditioned on; 0 for none."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        super().__post_init__()
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        _require_shape(self.image_shape)
        _require(self.classes >= 0, f"classes is {self.classes}: give 0 or more.")
        _require_halvings(self.image_shape, self.levels, "2^levels", "levels")

    @classmethod
    def of(
        cls, architecture: Architecture, image_shape: tuple[int, int, int], classes: int = 0
    ) -> "GlowConfig":
        """The architecture, for images of this shape and this many classes."""
        return cls(**dataclasses.asdict(architecture), image_shape=image_shape, classes=classes)


@dataclass(frozen=True, kw_only=True)
class RealNVPArchitecture:
    """What a RealNVP is made of, apart from the data it is for (Dinh et al. 2017).

    The defaults are the paper's for CIFAR-10. Its other 32x32 images: 4 scales, 4 residual blocks
    of 32 feature maps; 64x64 images: 5 scales, 2 residual blocks of 32 feature maps.
    """

    family: ClassVar[Family] = "realnvp"

    scales: int = 2
    """Number of scales; each but the last halves height and width."""
    residual_blocks: int = 8
    """Residual blocks of each coupling network."""
    hidden_channels: int = 64
    """Feature maps of the coupling networks at the image's resolution; each halving of height and
    width doubles them."""
    bits: int | None = 8
    """Bits per pixel value, 1 to 8; `None` for float data, which is not dequantised and for which
    there is no logit."""
    alpha: float = 0.05
    """The logit's input runs from alpha to 1 - alpha."""
    batch_norm_lag: float = 0.0
    """Share of the running averages in the statistics that a training step normalises by; 0 is
    plain batch normalisation, 0.9 the paper's form for very small batches."""
    l2: float = 5e-5
    """Weight in the loss, in bits/dim, of the squared weight-norm magnitudes and scales of s."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        require_at_least(self, 1, "scales", "residual_blocks", "hidden_channels")
        _require_bits(self.bits)
        _require(
            0.0 < self.alpha < 0.5, f"alpha is {self.alpha}: give more than 0 and less than 0.5."
        )
        _require(
            0.0 <= self.batch_norm_lag < 1.0,
            f"batch_norm_lag is {self.batch_norm_lag}: give 0 up to, but below, 1.",
        )
        _require(self.l2 >= 0, f"l2 is {self.l2}: give 0 or more.")


@dataclass(frozen=True, kw_only=True)
class RealNVPConfig(RealNVPArchitecture):
    """An architecture for images of one shape."""

    image_shape: tuple[int, int, int]
    """Channels, height, width."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        super().__post_init__()
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        _require_shape(self.image_shape)
        _require_halvings(self.image_shape, self.scales - 1, "2^(scales - 1)", "scales")

    @property
    def classes(self) -> int:
        """0: there is no class-conditional RealNVP."""
        return 0

    @classmethod
    def of(
        cls, architecture: RealNVPArchitecture, image_shape: tuple[int, int, int]
    ) -> "RealNVPConfig":
        """The architecture, for images of this shape."""
        return cls(**dataclasses.asdict(architecture), image_shape=image_shape)


@dataclass(frozen=True)
class Preset:
    """One published run: its architecture, image size and total batch size."""

    size: tuple[int, int]
    batch_size: int
    model: Architecture
    shift: int = 0
    """Largest random shift of the training images, in pixels."""
    conditional: bool = False

    @property
    def part_size(self) -> int:
        """Images of one device: 64 at 32x32, scaled by 32²/(height·width)."""
        height, width = self.size
        return max(1, 64 * 32 * 32 // (height * width))


def _preset(
    px: int,
    levels: int,
    steps: int,
    coupling: Coupling,
    bits: int,
    batch_size: int,
    **options: Any,
) -> Preset:
    model = Architecture(levels=levels, steps=steps, coupling=coupling, bits=bits)
    return Preset((px, px), batch_size, model, **options)


PRESETS: dict[str, Preset] = {
    "cifar10": _preset(32, 3, 32, "affine", 8, 512, shift=3),
    "imagenet32": _preset(32, 3, 48, "affine", 8, 512),
    "imagenet64": _preset(64, 4, 48, "affine", 8, 128),
    "lsun64": _preset(64, 3, 48, "affine", 8, 128),
    "celebahq256": _preset(256, 6, 32, "additive", 5, 40),
    "lsun96": _preset(96, 5, 64, "additive", 5, 280),
    "lsun128": _preset(128, 5, 64, "additive", 5, 160),
    "cifar10-conditional": _preset(32, 3, 32, "additive", 5, 512, shift=3, conditional=True),
    "imagenet32-conditional": _preset(32, 3, 48, "additive", 5, 512, conditional=True),
}
"""The published runs (paper, appendix; 512 hidden channels, learned top prior)."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. The defaults are sized for a laptop's processor.

    Their coupling scale is `bounded`: a short run leaves a `sigmoid` one with small scales, whose
    inverse overflows on some samples. The published presets have `sigmoid`.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: Architecture | RealNVPArchitecture = field(
        default_factory=lambda: Architecture(
            levels=3, steps=8, hidden_channels=128, coupling_scale="bounded"
        )
    )
    conditional: bool = False
    """Condition the model on the labels of the data."""
    flip: bool = False
    """Mirror every second training image, on average, left to right."""
    shift: int = 0
    """Move each training image by up to so many pixels in height and in width, edges repeated."""
    images: int = 1_000_000
    """Training images to see in all."""
    minutes: float | None = None
    """Stop training after so many minutes, if that comes before `images`."""
    batch_size: int = 16
    """Images per optimiser step, of all processes together."""
    accumulate: int = 1
    """Parts in which a process computes its share of the batch, one after another, with the memory
    of one part. The step is the same."""
    optimizer: Optimizer = "adamax"
    """`adamax` is the official choice."""
    lr: float = 5e-3
    """Learning rate after the warm-up (the paper, for its large models: 1e-3)."""
    warmup_images: int = 2_000
    """Images over which the learning rate rises linearly from 0 (the paper: 500,000)."""
    decay: Decay = "cosine"
    """What the learning rate does after the warm-up, until the end of the run."""
    clip: float = 50.0
    """Largest Euclidean norm of the gradient; a longer one is scaled down to it."""
    ema: float = 0.999
    """Decay per step of the average of the weights that evaluation and samples use; 0 for none."""
    precision: PrecisionChoice = "float32"
    """What the coupling networks compute in while training; `auto` measures which is faster."""
    memory: Memory = "stored"
    """`stored` keeps every step's activations; `reversible` computes them again from its output:
    memory does not grow with `steps`, a training step takes about a third longer. Choose it when
    the run does not fit."""
    compile: bool = False
    """Run the couplings through torch.compile: for GPUs, slower on the processor measured."""
    seed: int = 0
    """Of the weights, the order of the images and the dequantisation noise."""
    log_every: int = 20
    """Steps between two lines of metrics.jsonl."""
    validate_every: float = 60.0
    """Seconds between two validations, sample sheets and checkpoints; each comes at the end too."""
    validation_images: int = 500
    """Held-out images of each validation."""
    keep: int = 2
    """Newest checkpoints that stay, beside the best model."""
    track: tuple[str, ...] = ()
    """Trackers that get the figures of metrics.jsonl too: tensorboard, wandb, mlflow, … (all that
    Accelerate knows)."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        counts = ("images", "batch_size", "accumulate", "log_every", "validation_images", "keep")
        require_at_least(self, 1, *counts)
        for name in ("lr", "clip", "validate_every"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}: give more than 0.")
        _require(
            self.minutes is None or self.minutes > 0,
            f"minutes is {self.minutes}: give more than 0.",
        )
        for name in ("warmup_images", "shift"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: give 0 or more.")
        _require(0.0 <= self.ema < 1.0, f"ema is {self.ema}: give 0 up to, but below, 1.")
        for name, choices in (
            ("optimizer", Optimizer),
            ("decay", Decay),
            ("precision", PrecisionChoice),
            ("memory", Memory),
        ):
            require_choice(name, getattr(self, name), choices)
        if self.model.family == "realnvp":
            _require(
                not self.conditional, "RealNVP is not class-conditional: train without conditional."
            )
            _require(
                self.memory == "stored",
                "RealNVP's batch statistics cannot be recovered from its output: "
                "train with memory stored.",
            )


def preset_config(name: str, *, batch_size: int | None = None, processes: int = 1) -> TrainConfig:
    """The run that a preset names.

    Each process computes its share of the batch in parts of the size that the published run gave
    to one device (`accumulate`), so that any number of devices makes the published step.

    Args:
        name: of the preset.
        batch_size: another total batch; the published rate is scaled to it (`scaled_lr`).
        processes: that share a batch.

    Raises:
        InputError: there is no such preset.
    """
    _require(name in PRESETS, f"There is no preset {name!r}: choose one of {', '.join(PRESETS)}.")
    preset = PRESETS[name]
    batch = batch_size or preset.batch_size
    share = max(1, batch // processes)
    return TrainConfig(
        data=DataConfig(size=preset.size),
        model=preset.model,
        conditional=preset.conditional,
        shift=preset.shift,
        batch_size=batch,
        accumulate=next(
            n for n in range(1, share + 1) if share % n == 0 and share // n <= preset.part_size
        ),
        lr=scaled_lr(PUBLISHED_LR, batch, preset.batch_size),
        warmup_images=500_000,
        decay="constant",
    )


PUBLISHED_LR = 1e-3
"""Of every preset, at its own batch size."""


def scaled_lr(lr: float, batch_size: int, reference: int) -> float:
    """lr·√(batch_size / reference), for optimisers of the Adam family, Adamax among them.

    Their step has the length of the rate whatever the gradient's; the noise in its direction
    falls with the square root of the batch.

    Source: Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient algorithms".
    """
    return lr * math.sqrt(batch_size / reference)


FAMILIES: dict[str, TrainConfig] = {
    "glow": TrainConfig(),
    "realnvp": TrainConfig(
        model=RealNVPArchitecture(scales=3, residual_blocks=2, hidden_channels=32),
        batch_size=64,
        optimizer="adam",
        lr=1e-3,
    ),
}
"""What `glow train --family` starts from. RealNVP's optimiser and batch size are its paper's; the
architecture is sized for a laptop's processor."""


def starting_config(data: str, family: str = "glow") -> TrainConfig:
    """What a run of this family on these data starts from: of `FAMILIES`, but for `digits`.

    17 greys fill 4 bits; of 8 a flow learns the gaps first. Small images want large batches.
    """
    base = FAMILIES[family]
    if data != "digits":
        return base
    return dataclasses.replace(base, model=dataclasses.replace(base.model, bits=4), batch_size=64)


def to_yaml(config: Any) -> str:
    """The configuration as YAML, every field in it."""
    return yaml.safe_dump(_plain(config), sort_keys=False, default_flow_style=None)


def from_yaml(kind: type[Config], text: str, source: str) -> Config:
    """The configuration that a YAML text describes; fields that are left out keep their default.

    Args:
        kind: the dataclass, for example `TrainConfig`.
        text: YAML.
        source: where the text is from, for the message of an error.

    Raises:
        InputError: the text is not YAML, or a field is unknown or of the wrong type.
    """
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not YAML: {' '.join(str(error).split())}.") from error
    return _build(kind, fields if fields is not None else {}, source)


def _plain(config: Any) -> Any:
    if dataclasses.is_dataclass(config):
        fields = {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"family": config.family, **fields} if hasattr(config, "family") else fields
    return list(config) if isinstance(config, tuple) else config


def _build(kind: type[Config], fields: Any, source: str) -> Config:
    if not isinstance(fields, dict):
        raise InputError(f"{source} holds {fields!r} where {kind.__name__} has fields.")
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in types:
            raise InputError(f"{source} has a field {name!r}, which {kind.__name__} has not.")
        hint = types[name]
        value = tuple(value) if isinstance(value, list) else value
        if kinds := [k for k in get_args(hint) or (hint,) if dataclasses.is_dataclass(k)]:
            value = _build_one_of(kinds, value, source)
        elif not _fits(value, hint):
            raise InputError(f"In {source} the field {name} is {value!r}, which is not {hint}.")
        values[name] = value
    return kind(**values)


def _build_one_of(kinds: list[Any], fields: Any, source: str) -> Any:
    """The dataclass that the field `family` names, where there are several; else the first."""
    if len(kinds) == 1 or not isinstance(fields, dict):
        return _build(kinds[0], fields, source)
    by_family = {kind.family: kind for kind in kinds}
    family = fields.get("family", kinds[0].family)
    if family not in by_family:
        raise InputError(
            f"In {source} the family is {family!r}: choose one of {', '.join(by_family)}."
        )
    others = {name: value for name, value in fields.items() if name != "family"}
    return _build(by_family[family], others, source)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is tuple and isinstance(value, tuple):
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is (type(None) if hint is None else hint)
