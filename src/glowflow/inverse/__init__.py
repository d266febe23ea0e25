"""Inverse problems with a trained flow as the prior."""

from .operators import Blur, Downsample, Mask, Operator, identity, own_operator
from .problem import Problem, prior_of
from .solve import Solution, solve

__all__ = [
    "Blur",
    "Downsample",
    "Mask",
    "Operator",
    "Problem",
    "Solution",
    "identity",
    "own_operator",
    "prior_of",
    "solve",
]
