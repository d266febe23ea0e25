"""The networks in the couplings and the convolutions of the priors."""

from .convolutions import GatherConv, PointConv, ScaledConv2d, ScatterConv, ZeroLinear
from .coupling_network import CouplingNetwork
from .residual_network import ResidualNetwork

__all__ = [
    "CouplingNetwork",
    "GatherConv",
    "PointConv",
    "ResidualNetwork",
    "ScaledConv2d",
    "ScatterConv",
    "ZeroLinear",
]
