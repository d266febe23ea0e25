"""The published runs, and what a run of one's own starts from."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ..checks import require
from ..data.config import DataConfig
from ..models.config import Architecture, RealNVPArchitecture
from .config import TrainConfig


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
    px: int, batch_size: int, *, shift: int = 0, conditional: bool = False, **architecture: Any
) -> Preset:
    return Preset((px, px), batch_size, Architecture(**architecture), shift, conditional)


PRESETS: dict[str, Preset] = {
    "cifar10": _preset(32, 512, levels=3, steps=32, coupling="affine", bits=8, shift=3),
    "imagenet32": _preset(32, 512, levels=3, steps=48, coupling="affine", bits=8),
    "imagenet64": _preset(64, 128, levels=4, steps=48, coupling="affine", bits=8),
    "lsun64": _preset(64, 128, levels=3, steps=48, coupling="affine", bits=8),
    "celebahq256": _preset(256, 40, levels=6, steps=32, coupling="additive", bits=5),
    "lsun96": _preset(96, 280, levels=5, steps=64, coupling="additive", bits=5),
    "lsun128": _preset(128, 160, levels=5, steps=64, coupling="additive", bits=5),
    "cifar10-conditional": _preset(
        32, 512, levels=3, steps=32, coupling="additive", bits=5, shift=3, conditional=True
    ),
    "imagenet32-conditional": _preset(
        32, 512, levels=3, steps=48, coupling="additive", bits=5, conditional=True
    ),
}
"""The published runs (paper, appendix; 512 hidden channels, learned top prior)."""


def preset_config(name: str, *, batch_size: int | None = None, processes: int = 1) -> TrainConfig:
    """The run that a preset names.

    Each process computes its share of the batch in parts of the size that the published run gave
    to one device (`accumulate`), so that any number of devices that divides the batch makes the
    published step.

    Args:
        name: of the preset.
        batch_size: another total batch; the published rate is scaled to it (`scaled_lr`).
        processes: that share a batch.

    Raises:
        InputError: there is no such preset.
    """
    require(name in PRESETS, f"There is no preset {name!r}: choose one of {', '.join(PRESETS)}.")
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


def starting_config(data: str, family: str = "glow", *, patches: bool = False) -> TrainConfig:
    """What a run of this family on these data starts from: of `FAMILIES`, but for `digits`, and for
    Glow of squares of photographs.

    17 greys fill 4 bits; of 8 a flow learns the gaps first. Small images want large batches. What
    is interlaced, as squares are, leaves little to the levels, which are small then.
    """
    base = FAMILIES[family]
    if data == "digits":
        model = dataclasses.replace(base.model, bits=4)
        return dataclasses.replace(base, model=model, batch_size=64)
    if patches and isinstance(base.model, Architecture):
        model = dataclasses.replace(
            base.model,
            steps=1,
            hidden_channels=32,
            interlaced_channels=96,
            dequantization="uniform",
        )
        return dataclasses.replace(base, model=model, lr=3e-2)
    return base
