"""The parts that a configuration names, and where each is.

Another part is a file of its own and a line here. Nothing is imported before it is used.
"""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

from ..errors import InputError

PERMUTATIONS = {
    "lu": "glowflow.bijections.linear:Invertible1x1Conv",
    "plain": "glowflow.bijections.linear:PlainInvertible1x1Conv",
    "shuffle": "glowflow.bijections.linear:Permutation.shuffle",
    "reverse": "glowflow.bijections.linear:Permutation.reverse",
}
"""Called with the number of channels: what mixes them in a step, a bijection."""
COUPLINGS = {
    "affine": "glowflow.bijections.coupling:AffineCoupling",
    "additive": "glowflow.bijections.coupling:AdditiveCoupling",
}
"""Subclasses of `Coupling`."""
NETWORKS = {
    "convolutional": "glowflow.nn.coupling_network:CouplingNetwork",
}
"""Called with channels in, channels out and hidden channels: the network of a coupling."""
CONDITIONAL_NETWORKS = {
    "convolutional": "glowflow.nn.coupling_network:ConditionalCouplingNetwork",
}
"""The same in a conditional model: called with `context_channels` too."""


def part(parts: Mapping[str, str], name: str) -> Any:
    """The part of this name.

    Raises:
        InputError: there is none.
    """
    if name not in parts:
        raise InputError(f"There is no part {name!r}: choose one of {', '.join(parts)}.")
    return resolve_name(parts[name])
