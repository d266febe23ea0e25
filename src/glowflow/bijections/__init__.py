"""Invertible maps with tractable log-determinants, one idea a file."""

from .actnorm import ActNorm
from .base import Bijection
from .compose import Chain
from .coupling import AdditiveCoupling, AffineCoupling, Coupling
from .linear import ChannelMixing, Invertible1x1Conv, Permutation, PlainInvertible1x1Conv
from .squeeze import Squeeze

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Bijection",
    "Chain",
    "ChannelMixing",
    "Coupling",
    "Invertible1x1Conv",
    "Permutation",
    "PlainInvertible1x1Conv",
    "Squeeze",
]
