"""The networks in the couplings and the convolutions of the priors."""

from .conditioning_network import ConditioningNetwork
from .convolutions import GatherConv, PointConv, ScaledConv, ScatterConv, ZeroLinear
from .coupling_network import ConditionalCouplingNetwork, CouplingNetwork
from .dense_network import DenseNetwork
from .octave_network import OctaveNetwork
from .palette_network import PaletteNetwork
from .residual_network import ResidualNetwork

__all__ = [
    "ConditionalCouplingNetwork",
    "ConditioningNetwork",
    "CouplingNetwork",
    "DenseNetwork",
    "GatherConv",
    "OctaveNetwork",
    "PaletteNetwork",
    "PointConv",
    "ResidualNetwork",
    "ScaledConv",
    "ScatterConv",
    "ZeroLinear",
]
