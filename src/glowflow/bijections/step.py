"""A step of flow: what Glow is made of."""

from .base import Bijection
from .compose import Chain


class FlowStep(Chain):
    """Actnorm, then a mixing of the channels, then a coupling (paper, figure 2a).

    Args:
        actnorm: normalises each channel.
        permutation: mixes the channels.
        coupling: changes one half of the channels by what the other says.
    """

    actnorm: Bijection
    permutation: Bijection
    coupling: Bijection

    def __init__(self, actnorm: Bijection, permutation: Bijection, coupling: Bijection) -> None:
        super().__init__({"actnorm": actnorm, "permutation": permutation, "coupling": coupling})
