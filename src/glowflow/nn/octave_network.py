"""The networks of the first map `interlaced`."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class OctaveNetwork(nn.Module):
    """Features of an octave's coarser image, and from them the values of its three other phases.

    The features are conv3x3 of the image, plus conv1x1 of the coarser octave's features, each of
    which stands for 2x2 positions, plus a residual relu → conv3x3 → relu → conv1x1. The values of
    a phase are relu → conv1x1, plus conv3x3 of the phases before, then relu → conv1x1 → relu →
    zero conv1x1.

    Args:
        channels: of the image.
        values: of each position, zero at the start.
        hidden: features.
        below: whether there is a coarser octave.

    Source: Cao et al. 2020, section 3.2, whose networks are wider and have no features in common.
    """

    def __init__(self, channels: int, values: int, hidden: int, below: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(2 * channels, hidden, 3, padding=1)
        self.below = nn.Conv2d(hidden, hidden, 1) if below else None
        self.across = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.point = nn.Conv2d(hidden, hidden, 1)
        self.phases = nn.ModuleList(
            PhaseNetwork(number * channels, values, hidden) for number in range(3)
        )

    def forward(
        self,
        x: Float[Tensor, "batch in height width"],
        below: Float[Tensor, "batch hidden height/2 width/2"] | None,
    ) -> Float[Tensor, "batch hidden height width"]:
        """Return the features of the coarser image, given those of the octave below."""
        h: Tensor = self.first(x)
        if self.below is not None and below is not None:
            h = h + F.interpolate(self.below(below), scale_factor=2.0)
        return h + self.point(F.relu(self.across(F.relu(h))))

    def values(
        self,
        number: int,
        features: Float[Tensor, "batch hidden height width"],
        known: Float[Tensor, "batch known height width"] | None,
    ) -> Float[Tensor, "batch values height width"]:
        """Return the values of one of the three phases, given what is known of those before."""
        phase = self.phases[number]
        values: Tensor = phase(features, known)
        return values


class PhaseNetwork(nn.Module):
    """The values of one phase; see `OctaveNetwork`."""

    def __init__(self, known: int, values: int, hidden: int) -> None:
        super().__init__()
        self.known = nn.Conv2d(known, hidden, 3, padding=1) if known else None
        self.first = nn.Conv2d(hidden, hidden, 1)
        self.second = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, values, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(
        self,
        features: Float[Tensor, "batch hidden height width"],
        known: Float[Tensor, "batch known height width"] | None,
    ) -> Float[Tensor, "batch values height width"]:
        """Return the values, zero at the start."""
        h = self.first(F.relu(features))
        if self.known is not None and known is not None:
            h = h + self.known(known)
        values: Tensor = self.last(F.relu(self.second(F.relu(h))))
        return values
