"""Every hyperparameter, with its unit and its default, as frozen dataclasses.

The same classes are the Python arguments, the command line (`glow train --help`), the YAML of
`--config` and the `config.json` of a run.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from .errors import InputError

Coupling = Literal["affine", "additive"]
CouplingScale = Literal["sigmoid", "bounded", "exp"]
PermutationKind = Literal["lu", "plain", "shuffle", "reverse"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images come from and how they become one array."""

    data: str = "faces"
    """`faces`, `digits`, a folder of images, or an .npy / .npz array."""
    size: tuple[int, int] | None = None
    """Height and width in pixels; by default the source's own (a folder: 64 64)."""
    channels: Literal[1, 3, 4] | None = None
    """1 grey, 3 RGB, 4 RGBA; by default the source's own (a folder: 3)."""
    fit: Literal["crop", "stretch"] = "crop"
    """How another aspect ratio becomes `size`: centre crop, or stretch."""
    upscale: bool = False
    """Accept images smaller than `size` and enlarge them."""
    held_out: float = 0.1
    """Share of the images kept for validation, and as much again for the test, where the source
    has no split of its own."""
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
        _require(self.faces >= 10, f"faces is {self.faces}: draw at least 10.")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a Glow is made of, apart from the data it is for (paper, section 3 and appendix B)."""

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
        _require(self.levels >= 1, f"levels is {self.levels}: give at least 1.")
        _require(self.steps >= 1, f"steps is {self.steps}: give at least 1.")
        _require(
            self.hidden_channels >= 1,
            f"hidden_channels is {self.hidden_channels}: give at least 1.",
        )
        _require(
            self.bits is None or 1 <= self.bits <= 8,
            f"bits is {self.bits}: give 1 to 8 for images, or None for float data.",
        )
        for name, choices in (
            ("coupling", Coupling),
            ("coupling_scale", CouplingScale),
            ("permutation", PermutationKind),
        ):
            allowed = choices.__args__  # type: ignore[attr-defined]
            _require(
                getattr(self, name) in allowed,
                f"{name} is {getattr(self, name)!r}: choose one of {', '.join(allowed)}.",
            )


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
        _require(
            len(self.image_shape) == 3 and min(self.image_shape) >= 1,
            f"image_shape is {self.image_shape}: give channels, height and width.",
        )
        _require(self.classes >= 0, f"classes is {self.classes}: give 0 or more.")
        _, height, width = self.image_shape
        factor = 2**self.levels
        _require(
            height % factor == 0 and width % factor == 0,
            f"Images of {height}x{width} cannot be halved {self.levels} times: height and width "
            f"must be divisible by 2^levels = {factor}; change the size or the levels.",
        )

    @classmethod
    def of(
        cls, architecture: Architecture, image_shape: tuple[int, int, int], classes: int = 0
    ) -> "GlowConfig":
        """The architecture, for images of this shape and this many classes."""
        return cls(**dataclasses.asdict(architecture), image_shape=image_shape, classes=classes)
