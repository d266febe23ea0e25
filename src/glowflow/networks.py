"""The former place of `glowflow.nn`, for code that imports it from here."""

from .nn import CouplingNetwork, GatherConv, PointConv, ScaledConv2d, ScatterConv, ZeroLinear

__all__ = [
    "CouplingNetwork",
    "GatherConv",
    "PointConv",
    "ScaledConv2d",
    "ScatterConv",
    "ZeroLinear",
]
