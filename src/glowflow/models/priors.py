"""Gaussian priors, as bijections that whiten: ε = (z − μ)/σ is standard normal under the prior.

log N(z; μ, σ²) = log N(ε; 0, 1) − log σ, so a prior is a bijection z → ε with log-det −Σ log σ,
and a whole flow is one bijection to standard normal latents.
"""

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..bijections.base import Bijection, sum_per_sample
from ..bijections.coupling import halves
from ..errors import InputError
from ..nn.convolutions import GatherConv, ZeroLinear


def standard_normal_log_prob(
    latents: tuple[Float[Tensor, "batch *shape"], ...],
) -> Float[Tensor, " batch"]:
    """log N(ε; 0, I) = −½ Σ (ε² + log 2π) over all latents, in nats."""
    dims = sum(math.prod(eps.shape[1:]) for eps in latents)
    squares = torch.stack([sum_per_sample(eps.square()) for eps in latents]).sum(0)
    return -0.5 * (squares + dims * math.log(2 * math.pi))


class GaussianPrior(Bijection):
    """ε = (z − μ)/σ, log-det −Σ log σ. A subclass says where μ and log σ come from."""

    @abstractmethod
    def mean_and_log_std(
        self, z: Tensor, context: Tensor | None
    ) -> tuple[
        Float[Tensor, "batch channels height width"], Float[Tensor, "batch channels height width"]
    ]:
        """μ and log σ."""

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return the whitened latent ε and −Σ log σ in nats."""
        mean, log_std = self.mean_and_log_std(x, context)
        return (x - mean) * (-log_std).exp(), -sum_per_sample(log_std)

    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return z = μ + σ·ε and Σ log σ in nats."""
        mean, log_std = self.mean_and_log_std(y, context)
        return mean + y * log_std.exp(), sum_per_sample(log_std)


class SplitPrior(GaussianPrior):
    """p(z2 | z1) = N(μ(z1), σ²(z1)), with μ and log σ the even and odd channels of a zero conv.

    Args:
        kept: channels of z1, given as the context.
        factored: channels of z2.

    Source: paper, section 2 (multi-scale architecture); the official code's `split2d`.
    """

    def __init__(self, kept: int, factored: int) -> None:
        super().__init__()
        self.conv = GatherConv(kept, 2 * factored)

    def mean_and_log_std(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """μ(z1) and log σ(z1), with z1 the context."""
        h = self.conv(context)
        return h[:, 0::2], h[:, 1::2]


class TopPrior(GaussianPrior):
    """Prior of the last level: N(0, I), learned, and class-conditional, as asked.

    Learned: a zero conv on 2C channels of zeros, so that the prior may differ at the edges.
    Class-conditional: plus a zero linear map of the one-hot class, the same at every pixel.
    μ is the first half of the channels, log σ the second.

    Args:
        channels: channels C of the last level's z.
        learn: add the learned zero conv.
        classes: number of classes; 0 for none. The context is then (batch,) int64 labels.

    Raises:
        InputError: a class-conditional prior is used without labels, or with impossible ones.

    Source: the official code's `prior`.
    """

    def __init__(self, channels: int, learn: bool, classes: int) -> None:
        super().__init__()
        self.channels = channels
        self.classes = classes
        self.conv = GatherConv(2 * channels, 2 * channels) if learn else None
        self.classes_map = ZeroLinear(classes, 2 * channels) if classes else None

    def mean_and_log_std(
        self, z: Float[Tensor, "batch channels height width"], context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """μ and log σ, for labels (batch,) as the context where there are classes."""
        h = z.new_zeros(1, 2 * self.channels, z.shape[2], z.shape[3])
        if self.conv is not None:
            h = self.conv(h)
        if self.classes_map is not None:
            # Looking at labels on an accelerator waits for it: not in a training step.
            look = not self.training or z.device.type == "cpu"
            labels = check_labels(context, len(z), self.classes, look)
            onehot = torch.nn.functional.one_hot(labels, self.classes)
            h = h + self.classes_map(onehot.to(z))[:, :, None, None]
        mean, log_std = h.expand(len(z), -1, -1, -1).chunk(2, dim=1)
        return mean, log_std


class Split(Bijection):
    """Half of the channels leaves the flow, whitened by what the other half says about it.

    x ↔ (z1, ε) with (z1, z2) the halves of x and ε = (z2 − μ(z1))/σ(z1); log-det −Σ log σ(z1).

    Args:
        channels: channels of x; the first half, the larger one if odd, goes on.

    Source: paper, section 2 and figure 2b.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        factored = channels // 2
        self.prior = SplitPrior(channels - factored, factored)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], Float[Tensor, " batch"]]:
        """Return (z1, ε) and −Σ log σ(z1) in nats."""
        z1, z2 = halves(x)
        eps, log_det = self.prior(z2, z1)
        return (z1, eps), log_det

    def inverse(
        self, y: tuple[Tensor, Tensor], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return x from (z1, ε), and Σ log σ(z1) in nats."""
        z1, eps = y
        z2, log_det = self.prior.inverse(eps, z1)
        return torch.cat((z1, z2), dim=1), log_det


def check_labels(
    labels: Int[Tensor, " batch"] | None, batch: int, classes: int, look: bool = True
) -> Int[Tensor, " batch"]:
    """The labels, if they are usable; with `look`, their values are checked too.

    Raises:
        InputError: labels are missing, of another length, or outside 0..classes-1.
    """
    if labels is None:
        raise InputError(f"This model has {classes} classes: give labels, one per image.")
    if labels.shape != (batch,) or labels.is_floating_point():
        raise InputError(f"Labels are {tuple(labels.shape)} {labels.dtype}: give {batch} integers.")
    if look and batch and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(f"Labels must lie between 0 and {classes - 1} for {classes} classes.")
    return labels.long()
