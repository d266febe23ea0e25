"""A RealNVP with as many parameters as another model."""

import math
from collections.abc import Iterator
from dataclasses import replace

from ...models.config import RealNVPArchitecture, RealNVPConfig
from ...models.realnvp import RealNVP
from ...training.presets import FAMILIES

MATCHED = 0.05
"""Largest relative difference in parameters that is called matched."""
MOST_SCALES = 5
"""That are tried."""
MOST_BLOCKS = 8
"""Residual blocks that are tried, at most."""


def match_parameters(
    target: int,
    image_shape: tuple[int, int, int],
    *,
    scales: int | None = None,
    residual_blocks: int | None = None,
) -> RealNVPArchitecture:
    """A RealNVP with about `target` parameters.

    Numbers of scales and residual blocks are tried from those of `glow train --family realnvp` on,
    the nearest first, each with the feature maps that come nearest; the first within MATCHED is
    taken, else the nearest of all.

    Args:
        target: number of parameters.
        image_shape: channels, height, width.
        scales: try this number only.
        residual_blocks: try this number only.
    """
    tried = []
    for shape in shapes(image_shape, scales, residual_blocks):
        hidden = _hidden_channels(target, shape, image_shape)
        model = replace(shape, hidden_channels=hidden)
        off = abs(_count(model, image_shape) / target - 1)
        tried.append((off, model))
        if off <= MATCHED:
            break
    return min(tried, key=lambda pair: pair[0])[1]


def shapes(
    image_shape: tuple[int, int, int], scales: int | None, residual_blocks: int | None
) -> Iterator[RealNVPArchitecture]:
    """What is tried, the nearest to `glow train`'s first."""
    base = FAMILIES["realnvp"].model
    assert isinstance(base, RealNVPArchitecture)
    _, height, width = image_shape
    fitting = [
        n for n in range(1, MOST_SCALES + 1) if height % 2 ** (n - 1) == width % 2 ** (n - 1) == 0
    ]
    numbers = fitting if scales is None else [scales]
    blocks = range(1, MOST_BLOCKS + 1) if residual_blocks is None else [residual_blocks]
    for n in sorted(numbers, key=lambda n: abs(n - base.scales)):
        for count in sorted(blocks, key=lambda count: abs(count - base.residual_blocks)):
            yield replace(base, scales=n, residual_blocks=count)


def _count(model: RealNVPArchitecture, image_shape: tuple[int, int, int]) -> int:
    made = RealNVP(RealNVPConfig.of(model, image_shape))
    return sum(weight.numel() for weight in made.parameters())


def _hidden_channels(
    target: int, shape: RealNVPArchitecture, image_shape: tuple[int, int, int]
) -> int:
    """Parameters are a·h² + b·h + c in the feature maps h: three counts give a, b and c."""
    at = [_count(replace(shape, hidden_channels=h), image_shape) for h in (1, 2, 3)]
    a = (at[2] - 2 * at[1] + at[0]) / 2
    b = at[1] - at[0] - 3 * a
    c = at[0] - a - b
    h = (math.sqrt(max(0.0, b * b + 4 * a * (target - c))) - b) / (2 * a)
    near = (max(1, math.floor(h)), max(1, math.ceil(h)))
    return min(near, key=lambda n: abs(a * n * n + b * n + c - target))
