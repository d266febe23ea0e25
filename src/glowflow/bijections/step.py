"""A step of flow: what Glow is made of."""

from .actnorm import ActNorm
from .compose import Chain
from .coupling import Coupling
from .linear import ChannelMixing


class FlowStep(Chain):
    """Actnorm, then a mixing of the channels, then a coupling (paper, figure 2a)."""

    actnorm: ActNorm
    permutation: ChannelMixing
    coupling: Coupling

    def __init__(self, actnorm: ActNorm, permutation: ChannelMixing, coupling: Coupling) -> None:
        super().__init__({"actnorm": actnorm, "permutation": permutation, "coupling": coupling})
