"""Inverse problems with a trained flow as the prior."""

from .operators import Blur, Downsample, Mask, Operator, identity, own_operator
from .solve import Problem, Solution, prior_of, solve

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
