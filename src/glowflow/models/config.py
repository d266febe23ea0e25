"""What a model is made of, as frozen dataclasses: Python's arguments and `config.json`."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from ..checks import require, require_choice
from ..errors import InputError
from .parts import COUPLINGS, NETWORKS, PERMUTATIONS

Memory = Literal["stored", "reversible"]
Precision = Literal["float32", "bf16"]
CouplingScale = Literal["sigmoid", "bounded", "exp", "inverse_sigmoid"]
Family = Literal["glow", "realnvp"]
Dequantization = Literal["uniform", "variational"]
Prior = Literal["convolutional", "diagonal"]
FirstMap = Literal[
    "none",
    "marginals",
    "interlaced",
    "whitening",
    "standardize",
    "standardize_positions",
    "spectral",
    "auto",
]
Padding = Literal["zero", "periodic", "reflect"]
LARGEST = {
    "levels": 30,
    "scales": 30,
    "steps": 10_000,
    "residual_blocks": 10_000,
    "hidden_channels": 65_536,
    "rank": 65_536,
    "dense_steps": 10_000,
    "dense_channels": 65_536,
    "interlaced_channels": 65_536,
    "palette_channels": 65_536,
    "dequantization_channels": 65_536,
    "classes": 1_000_000,
    "condition_channels": 65_536,
}
"""Of what a model is counted in; more is a slip or a damaged file."""
LARGEST_SIDE = 65_536
"""Channels, height and width of an image, and of every other grid."""
if TYPE_CHECKING:
    CouplingName: TypeAlias = str
    PermutationName: TypeAlias = str
    NetworkName: TypeAlias = str
else:
    CouplingName = Literal[tuple(COUPLINGS)]
    PermutationName = Literal[tuple(PERMUTATIONS)]
    NetworkName = Literal[tuple(NETWORKS)]


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
    coupling: CouplingName = "affine"
    """z2 becomes (z2 + shift) * scale, or z2 + shift."""
    coupling_scale: CouplingScale = "sigmoid"
    """`sigmoid`: sigmoid(s + 2), official; `bounded`: between 1/2 and 2; `exp`: exp(s);
    `inverse_sigmoid`: 1 / sigmoid(s + 2)."""
    permutation: PermutationName = "lu"
    """Channel mixing of a step: learned 1x1 convolution as LU or plain, or fixed."""
    network: NetworkName = "convolutional"
    """Network of the couplings; in Python also a class of one's own: `Glow(config, network=…)`."""
    first_map: FirstMap = "none"
    """What comes before the first level, fitted to the training images: `marginals` gives every
    position a normal distribution, `interlaced` every value one that networks tell from coarser
    values, `whitening` gives principal components unit variance,
    `standardize` gives every channel mean 0 and variance 1, `standardize_positions` every position,
    `spectral` every wave of fields that are alike everywhere, such as periodic ones;
    `auto` lets training choose what makes held-out images more probable; `none` is the official
    model."""
    rank: int = 1024
    """Principal components that `whitening` scales one by one; the others share one scale."""
    dense_steps: int = 0
    """Couplings between these components, with dense networks, in `whitening`."""
    dense_channels: int = 512
    """Hidden values of the dense networks."""
    interlaced_channels: int = 64
    """Features of the networks in `interlaced`."""
    palette_channels: int = 0
    """Features of networks in `interlaced` that tell how often a value comes from how often the
    image has had each so far, for pictures that lack some, as where a contrast was stretched; 0 for
    none."""
    bits: int | None = 8
    """Bits per pixel value, 1 to 8; `None` for float data, which is not dequantised."""
    dequantization: Dequantization = "uniform"
    """Noise within a byte's bin: `uniform`, official, or `variational`, of a shape that is learned
    (Flow++)."""
    dequantization_channels: int = 32
    """Channels of the hidden layers of the network that gives its shape."""
    prior: Prior = "convolutional"
    """Mean and scale of latents: `convolutional`, by what stays at a split, official; `diagonal`,
    at every level one of each for each position, and for each class if there are any."""
    learn_top: bool = True
    """Learn mean and scale of the last level's prior."""
    weight_classes: float = 0.01
    """Weight of the classifier's bits in the loss of a class-conditional model."""
    padding: Padding = "zero"
    """What 3x3 convolutions see beyond the edge: `zero`, official, with a channel that marks the
    edge; `periodic` the other side; `reflect` the mirror image."""
    condition_channels: int = 32
    """Channels of the feature maps of what a conditional model is given, at each level."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _require_counts(self, 1, "levels", "steps", "hidden_channels", "dense_channels")
        _require_counts(self, 1, "dequantization_channels", "condition_channels")
        _require_counts(self, 1, "interlaced_channels")
        _require_counts(self, 2, "rank")
        _require_counts(self, 0, "dense_steps", "palette_channels")
        _require_bits(self.bits)
        require(
            self.first_map not in ("marginals", "interlaced") or self.bits is not None,
            f"first_map {self.first_map} is for bytes: float data have no bins; choose whitening "
            "or none.",
        )
        require(
            self.dequantization == "uniform" or self.bits is not None,
            "dequantization variational is for bytes: float data have no bins; choose uniform.",
        )
        require(
            isinstance(self.learn_top, bool),
            f"learn_top is {self.learn_top!r}: give true or false.",
        )
        require(
            self.prior == "convolutional" or self.learn_top,
            "A diagonal prior is learned at every level: leave learn_top true.",
        )
        _require_numbers(self, "weight_classes")
        require(isinstance(self.network, str), f"network is {self.network!r}: give a name.")
        for name, choices in (
            ("coupling", CouplingName),
            ("coupling_scale", CouplingScale),
            ("permutation", PermutationName),
            ("first_map", FirstMap),
            ("dequantization", Dequantization),
            ("prior", Prior),
            ("padding", Padding),
        ):
            require_choice(name, getattr(self, name), choices)
        if "." not in self.network:  # else it is the name of a class, module.Class
            require_choice("network", self.network, NetworkName)
        require(
            self.padding == "zero" or self.network == "convolutional",
            f"padding {self.padding} is of the network convolutional: leave it out with "
            f"{self.network}.",
        )

    @property
    def axes(self) -> int:
        """Of the grid: 2 for images."""
        return 2

    @property
    def context_channels(self) -> int:
        """Channels of what couplings and priors are given at each level; 0 for nothing."""
        return 0


@dataclass(frozen=True, kw_only=True)
class GlowConfig(Architecture):
    """An architecture for images, or float data on another grid, of one shape."""

    image_shape: tuple[int, ...]
    """Channels, height, width; or channels and the grid of float data on one or three axes: C, L or
    C, D, H, W."""
    classes: int = 0
    """Number of classes the top prior is conditioned on; 0 for none."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        super().__post_init__()
        object.__setattr__(self, "image_shape", _checked_shape(self.image_shape, axes=(1, 2, 3)))
        _require_counts(self, 0, "classes")
        require(
            self.axes == 2 or self.bits is None,
            f"image_shape is {self.image_shape}: images of bytes have channels, height and width; "
            "float data on a grid of one or three axes have bits None.",
        )
        _require_halvings(self.image_shape, self.levels, "2^levels", "levels")
        require(
            self.padding != "reflect" or min(self.image_shape[1:]) > 2**self.levels,
            f"The last of {self.levels} levels is one pixel wide, which reflects nothing: take "
            "fewer levels, or padding periodic or zero.",
        )

    @property
    def axes(self) -> int:
        """Of the grid: 2 for images."""
        return len(self.image_shape) - 1

    @property
    def fewest_weights(self) -> int:
        """How many arrays of weights such a model has at least: actnorm's three of each step."""
        dense = self.dense_steps if self.first_map == "whitening" else 0
        return 3 * self.levels * self.steps + dense

    @classmethod
    def of(
        cls, architecture: Architecture, image_shape: tuple[int, ...], classes: int = 0
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
        _require_counts(self, 1, "scales", "residual_blocks", "hidden_channels")
        _require_bits(self.bits)
        _require_numbers(self, "alpha", "batch_norm_lag", "l2")
        require(
            0.0 < self.alpha < 0.5, f"alpha is {self.alpha}: give more than 0 and less than 0.5."
        )
        require(
            0.0 <= self.batch_norm_lag < 1.0,
            f"batch_norm_lag is {self.batch_norm_lag}: give 0 up to, but below, 1.",
        )
        require(self.l2 >= 0, f"l2 is {self.l2}: give 0 or more.")


def without_bins(
    architecture: Architecture | RealNVPArchitecture,
) -> Architecture | RealNVPArchitecture:
    """The architecture for float data, which have no noise to shape."""
    if isinstance(architecture, Architecture):
        return dataclasses.replace(architecture, bits=None, dequantization="uniform")
    return dataclasses.replace(architecture, bits=None)


@dataclass(frozen=True, kw_only=True)
class RealNVPConfig(RealNVPArchitecture):
    """An architecture for images of one shape."""

    image_shape: tuple[int, ...]
    """Channels, height, width."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        super().__post_init__()
        object.__setattr__(self, "image_shape", _checked_shape(self.image_shape))
        _require_halvings(self.image_shape, self.scales - 1, "2^(scales - 1)", "scales")

    @property
    def classes(self) -> int:
        """0: there is no class-conditional RealNVP."""
        return 0

    @property
    def fewest_weights(self) -> int:
        """How many arrays of weights such a model has at least: four a residual block, of the
        networks of six couplings a scale, four at the last."""
        return 4 * (6 * self.scales - 2) * self.residual_blocks

    @classmethod
    def of(cls, architecture: RealNVPArchitecture, image_shape: tuple[int, ...]) -> "RealNVPConfig":
        """The architecture, for images of this shape."""
        return cls(**dataclasses.asdict(architecture), image_shape=image_shape)


def picture_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width, for what is about pictures.

    Raises:
        InputError: the shape is of data on a grid of one or three axes.
    """
    if len(shape) != 3:
        raise InputError(f"This is for images, and not for data on a grid of {sides(shape[1:])}.")
    channels, height, width = shape
    return channels, height, width


def _require_bits(bits: int | None) -> None:
    require(
        bits is None or (is_whole(bits) and 1 <= bits <= 8),
        f"bits is {bits}: give 1 to 8 for images, or None for float data.",
    )


def _require_counts(settings: Any, least: int, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(is_whole(value), f"{name} is {value!r}: give a whole number.")
        require(value >= least, f"{name} is {value}: give at least {least}.")
        most = LARGEST[name]
        require(value <= most, f"{name} is {value:,}: give at most {most:,}.")


def _require_numbers(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        require(is_number and math.isfinite(value), f"{name} is {value!r}: give a number.")


def is_whole(value: Any) -> bool:
    """Whether it is an integer, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def _checked_shape(given: Any, axes: tuple[int, ...] = (2,)) -> tuple[int, ...]:
    """Channels and a grid of so many axes."""
    shape = tuple(given) if isinstance(given, (tuple, list)) else ()
    if len(shape) - 1 not in axes or not all(map(is_whole, shape)) or min(shape) < 1:
        others = "" if axes == (2,) else ", or channels and a grid of one or three axes"
        raise InputError(f"image_shape is {given}: give channels, height and width{others}.")
    require(
        max(shape) <= LARGEST_SIDE,
        f"image_shape is {given}: give at most {LARGEST_SIDE:,} of each.",
    )
    return shape


def sides(grid: Sequence[int]) -> str:
    """Height and width, or the sides of another grid, in words: 32x32."""
    return "x".join(map(str, grid))


def _require_halvings(image_shape: tuple[int, ...], halvings: int, factor: str, what: str) -> None:
    grid = image_shape[1:]
    images = "Images" if len(grid) == 2 else "Data on a grid"
    each = "height and width" if len(grid) == 2 else "each side"
    some = math.gcd(*grid)
    most = (some & -some).bit_length() - 1  # how often 2 divides them
    fits = f" (up to {most + (what == 'scales')} fit)" if most else ""
    series = "; a series has one axis, with --grid 1" if len(grid) == 2 and 1 in grid else ""
    require(
        all(side % 2**halvings == 0 for side in grid),
        f"{images} of {sides(grid)} cannot be halved {halvings} times: {each} must be "
        f"divisible by {factor} = {2**halvings}; change the size or the {what}{fits}{series}.",
    )
