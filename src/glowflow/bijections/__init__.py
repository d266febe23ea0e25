"""Invertible maps with tractable log-determinants, one idea a file."""

from .actnorm import ActNorm
from .base import Bijection
from .batchnorm import BatchNorm
from .compose import Chain
from .coupling import AdditiveCoupling, AffineCoupling, Coupling
from .dequantization import VariationalDequantization
from .interlaced import Interlaced
from .linear import ChannelMixing, Invertible1x1Conv, Permutation, PlainInvertible1x1Conv
from .logit import Logit
from .marginals import Marginals
from .masked import ChannelCoupling, CheckerboardCoupling, MaskedCoupling
from .spectral import SpectralWhitening
from .squeeze import Squeeze
from .standardize import Standardize
from .step import FlowStep
from .whitening import Whitening

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "BatchNorm",
    "Bijection",
    "Chain",
    "ChannelCoupling",
    "ChannelMixing",
    "CheckerboardCoupling",
    "Coupling",
    "FlowStep",
    "Interlaced",
    "Invertible1x1Conv",
    "Logit",
    "Marginals",
    "MaskedCoupling",
    "Permutation",
    "PlainInvertible1x1Conv",
    "SpectralWhitening",
    "Squeeze",
    "Standardize",
    "VariationalDequantization",
    "Whitening",
]
