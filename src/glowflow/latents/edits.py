"""What is done to codes: moved along directions, mixed, drawn anew."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..checks import require_choice
from ..errors import InputError
from ..models.flow import Latents
from .choices import Curve
from .codes import flatten, unflatten

DEPENDENT = 1e-8
"""Singular value, relative to the largest, below which directions depend on one another."""


def edit(
    latents: Latents,
    directions: Sequence[Latents],
    amounts: Sequence[float],
    *,
    temperature: float = 1.0,
) -> Latents:
    """ε' = ε − (1 − T)·P ε + Σ_i α_i Δε_i.

    P projects on the span of the directions whose amount is not 0: the part of the code that the
    edit moves. Its temperature T multiplies what the image has of it already, before the amounts
    are added. 1 is the published edit, relative to the image; with 0 every image ends at the same
    place along the directions, whatever it had; the rest of the code is kept in any case. Amounts
    that are all 0 return the latents themselves, at any temperature.

    Args:
        latents: codes, (batch, channels, height, width) a level.
        directions: Δε of each attribute, (channels, height, width) a level.
        amounts: α of each; the published range is −1 to 1.
        temperature: T, 0 or more.

    Raises:
        InputError: there is not one amount a direction, or the temperature is negative.
    """
    if len(directions) != len(amounts):
        raise InputError(
            f"There are {len(directions)} attributes and {len(amounts)} amounts: "
            "give one amount an attribute."
        )
    if not temperature >= 0 or not all(map(math.isfinite, amounts)):
        raise InputError(
            f"The temperature is {temperature} and the amounts are {list(amounts)}: "
            "give a temperature of 0 or more, and finite amounts."
        )
    moving = [(d, a) for d, a in zip(directions, amounts, strict=True) if a != 0]
    if not moving:
        return latents
    shapes = [tuple(eps.shape[1:]) for eps in latents]
    rows = flatten(latents)
    axes = torch.stack([torch.cat([eps.flatten() for eps in d]) for d, _ in moving]).to(rows)
    moved = rows + torch.tensor([a for _, a in moving]).to(rows) @ axes
    if temperature != 1:
        vectors, sizes, _ = torch.linalg.svd(axes.double().T, full_matrices=False)
        basis = vectors[:, sizes > DEPENDENT * sizes[0]]
        moved = moved - (1 - temperature) * (rows.double() @ basis @ basis.T).to(rows)
    return unflatten(moved, shapes)


def interpolate(a: Latents, b: Latents, t: float, curve: Curve = "linear") -> Latents:
    """The code at t between two: t = 0 is a, t = 1 is b, level by level.

    `linear`: (1 − t)·a + t·b, as published. Between independent codes its length falls to 1/√2 in
    the middle, below what the model was trained on.

    `spherical`: at each level the angle θ between a and b and the length change uniformly,
    ((1 − t)|a| + t|b|)·(sin((1 − t)θ)·â + sin(tθ)·b̂)/sin θ (Shoemake 1985); codes of the same
    length keep it.

    Args:
        a: (batch, channels, height, width) a level.
        b: the same.
        t: 0 to 1.
        curve: `linear` or `spherical`.

    Raises:
        InputError: there is no such curve.
    """
    require_choice("curve", curve, Curve)
    if t == 0 or t == 1:
        return b if t else a
    if curve == "linear":
        return tuple((1 - t) * p + t * q for p, q in zip(a, b, strict=True))
    return tuple(_slerp(p, q, t) for p, q in zip(a, b, strict=True))


def blend(
    corners: Sequence[Latents], across: float, down: float, curve: Curve = "linear"
) -> Latents:
    """The code at a place of a pad with two to four codes at its corners.

    Two are left and right. Three are at the upper left, the upper right and at the bottom; four at
    the upper left, upper right, lower left and lower right: `interpolate` along the upper edge and
    the lower one by `across`, and between what they give by `down`.

    Args:
        corners: codes, (batch, channels, height, width) a level.
        across: 0 to 1, from the left to the right.
        down: 0 to 1, from the top to the bottom; of two codes it is not looked at.
        curve: as in `interpolate`.

    Raises:
        InputError: there are fewer than two codes or more than four.
    """
    if not 2 <= len(corners) <= 4:
        raise InputError(f"There are {len(corners)} pictures to mix: give two to four.")
    upper = interpolate(corners[0], corners[1], across, curve)
    if len(corners) == 2:
        return upper
    return interpolate(upper, interpolate(corners[2], corners[-1], across, curve), down, curve)


def _slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    p, q = a.flatten(1).double(), b.flatten(1).double()
    long_p, long_q = p.norm(dim=1, keepdim=True), q.norm(dim=1, keepdim=True)
    unit_p, unit_q = p / long_p.clamp_min(1e-12), q / long_q.clamp_min(1e-12)
    angle = (unit_p * unit_q).sum(1, keepdim=True).clamp(-1, 1).arccos()
    sine = angle.sin()
    turned = (((1 - t) * angle).sin() * unit_p + (t * angle).sin() * unit_q) / sine
    between = ((1 - t) * long_p + t * long_q) * turned
    # Codes on one line, or without length, have no plane to turn in.
    on_a_line = (sine < 1e-6) | (long_p * long_q == 0)
    return torch.where(on_a_line, (1 - t) * p + t * q, between).reshape(a.shape).to(a)


def resample_level(latents: Latents, level: int, *, seed: int, temperature: float = 1.0) -> Latents:
    """Draw one level's ε from N(0, T²·I) and keep the others: what lives at that level.

    Args:
        latents: codes.
        level: 1 is the first, of the finest details; the last is the coarsest.
        seed: of the noise.
        temperature: T, its standard deviation.

    Raises:
        InputError: there is no such level, or the temperature is negative.
    """
    if not 1 <= level <= len(latents):
        raise InputError(f"level is {level}: this model has the levels 1 to {len(latents)}.")
    if not temperature >= 0:
        raise InputError(f"temperature is {temperature}: give 0 or more.")
    generator = torch.Generator().manual_seed(seed)
    noise = temperature * torch.randn(latents[level - 1].shape, generator=generator)
    new = noise.to(latents[level - 1])
    return (*latents[: level - 1], new, *latents[level:])
