"""What a model is made of, as frozen dataclasses: Python's arguments and `config.json`."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from ..checks import require, require_at_least, require_choice
from .parts import COUPLINGS, NETWORKS, PERMUTATIONS

Memory = Literal["stored", "reversible"]
Precision = Literal["float32", "bf16"]
CouplingScale = Literal["sigmoid", "bounded", "exp"]
Family = Literal["glow", "realnvp"]
FirstMap = Literal["none", "marginals", "whitening", "auto"]
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
    """`sigmoid`: sigmoid(s + 2), official; `bounded`: between 1/2 and 2; `exp`: exp(s)."""
    permutation: PermutationName = "lu"
    """Channel mixing of a step: learned 1x1 convolution as LU or plain, or fixed."""
    network: NetworkName = "convolutional"
    """Network of the couplings; in Python also a class of one's own: `Glow(config, network=…)`."""
    first_map: FirstMap = "none"
    """What comes before the first level, fitted to the training images: `marginals` gives every
    position a normal distribution, `whitening` gives principal components unit variance; `auto`
    lets training choose what makes held-out images more probable; `none` is the official model."""
    rank: int = 1024
    """Principal components that `whitening` scales one by one; the others share one scale."""
    dense_steps: int = 0
    """Couplings between these components, with dense networks, in `whitening`."""
    dense_channels: int = 512
    """Hidden values of the dense networks."""
    bits: int | None = 8
    """Bits per pixel value, 1 to 8; `None` for float data, which is not dequantised."""
    learn_top: bool = True
    """Learn mean and scale of the last level's prior."""
    weight_classes: float = 0.01
    """Weight of the classifier's bits in the loss of a class-conditional model."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        require_at_least(self, 1, "levels", "steps", "hidden_channels", "dense_channels")
        require_at_least(self, 2, "rank")
        require_at_least(self, 0, "dense_steps")
        _require_bits(self.bits)
        require(
            self.first_map != "marginals" or self.bits is not None,
            "first_map marginals is for bytes: float data have no bins; choose whitening or none.",
        )
        for name, choices in (
            ("coupling", CouplingName),
            ("coupling_scale", CouplingScale),
            ("permutation", PermutationName),
            ("first_map", FirstMap),
        ):
            require_choice(name, getattr(self, name), choices)
        if "." not in self.network:  # else it is the name of a class, module.Class
            require_choice("network", self.network, NetworkName)


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
        require(self.classes >= 0, f"classes is {self.classes}: give 0 or more.")
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
        require(
            0.0 < self.alpha < 0.5, f"alpha is {self.alpha}: give more than 0 and less than 0.5."
        )
        require(
            0.0 <= self.batch_norm_lag < 1.0,
            f"batch_norm_lag is {self.batch_norm_lag}: give 0 up to, but below, 1.",
        )
        require(self.l2 >= 0, f"l2 is {self.l2}: give 0 or more.")


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


def _require_bits(bits: int | None) -> None:
    require(
        bits is None or 1 <= bits <= 8,
        f"bits is {bits}: give 1 to 8 for images, or None for float data.",
    )


def _require_shape(image_shape: tuple[int, ...]) -> None:
    require(
        len(image_shape) == 3 and min(image_shape) >= 1,
        f"image_shape is {image_shape}: give channels, height and width.",
    )


def _require_halvings(
    image_shape: tuple[int, int, int], halvings: int, factor: str, what: str
) -> None:
    _, height, width = image_shape
    require(
        height % 2**halvings == 0 and width % 2**halvings == 0,
        f"Images of {height}x{width} cannot be halved {halvings} times: height and width must be "
        f"divisible by {factor} = {2**halvings}; change the size or the {what}.",
    )
