"""Gaussian priors, and the bijections that whiten by them what leaves the flow.

log N(z; μ, σ²) = log N(ε; 0, 1) − log σ with ε = (z − μ)/σ, so whitening is a bijection z → ε with
log-det −Σ log σ, and a whole flow is one bijection to standard normal latents.
"""

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..bijections.base import Bijection, sum_per_sample, wide, without_autocast
from ..bijections.coupling import halves
from ..bijections.kept import is_traced
from ..errors import InputError
from ..nn.convolutions import GatherConv, Padding, ZeroLinear


def standard_normal_log_prob(
    latents: tuple[Float[Tensor, " batch *shape"], ...],
) -> Float[Tensor, " batch"]:
    """log N(ε; 0, I) = −½ Σ (ε² + log 2π) over all latents, in nats."""
    dims = sum(math.prod(eps.shape[1:]) for eps in latents)
    squares = torch.stack([sum_per_sample(eps.square()) for eps in latents]).sum(0)
    return -0.5 * (squares + dims * math.log(2 * math.pi))


class GaussianPrior(nn.Module):
    """p(z | given, context) = N(μ, σ²). A subclass says where μ and log σ come from.

    Whitening, ε = (z − μ)/σ, is a bijection of z with log-det −Σ log σ.
    """

    @abstractmethod
    def forward(
        self, given: Float[Tensor, "batch kept *grid"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, "batch channels *grid"]]:
        """μ and log σ."""

    @without_autocast
    def whiten(
        self, z: Tensor, given: Tensor, context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return the whitened latent ε and −Σ log σ in nats."""
        mean, log_std = self(given, context)
        return (z - mean) * (-log_std).exp(), -sum_per_sample(log_std)

    @without_autocast
    def unwhiten(
        self, eps: Tensor, given: Tensor, context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return z = μ + σ·ε and Σ log σ in nats."""
        mean, log_std = self(given, context)
        return mean + eps * log_std.exp(), sum_per_sample(log_std)


class SplitPrior(GaussianPrior):
    """p(z2 | z1) = N(μ(z1), σ²(z1)), with μ and log σ the even and odd channels of a zero conv.

    Args:
        kept: channels of z1.
        factored: channels of z2.
        padding: what the convolution sees beyond the edge.
        axes: of the grid.

    Source: paper, section 2 (multi-scale architecture); the official code's `split2d`.
    """

    def __init__(self, kept: int, factored: int, padding: Padding = "zero", axes: int = 2) -> None:
        super().__init__()
        self.conv = GatherConv(kept, 2 * factored, padding=padding, axes=axes)

    def forward(
        self, given: Float[Tensor, "batch kept *grid"], context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """μ(z1) and log σ(z1), with z1 given."""
        h = self.conv(given)
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
        padding: what the convolution sees beyond the edge.
        axes: of the grid.

    Raises:
        InputError: a class-conditional prior is used without labels, or with impossible ones.

    Source: the official code's `prior`.
    """

    def __init__(
        self, channels: int, learn: bool, classes: int, padding: Padding = "zero", axes: int = 2
    ) -> None:
        super().__init__()
        self.channels = channels
        self.classes = classes
        both = 2 * channels
        self.conv = GatherConv(both, both, padding=padding, axes=axes) if learn else None
        self.classes_map = ZeroLinear(classes, 2 * channels) if classes else None

    def forward(
        self, given: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """μ and log σ, of the shape of `given`, for labels (batch,) where there are classes."""
        h = given.new_zeros(1, 2 * self.channels, *given.shape[2:])
        if self.conv is not None:
            h = self.conv(h)
        if self.classes_map is not None:
            # Looking at labels on an accelerator waits for it: not in a training step.
            look = not self.training or given.device.type == "cpu"
            labels = check_labels(context, given.shape[0], self.classes, look)
            onehot = labels[:, None] == torch.arange(self.classes, device=labels.device)
            h = h + wide(self.classes_map(onehot.to(given)), given)
        mean, log_std = h.expand(given.shape[0], *h.shape[1:]).chunk(2, dim=1)
        return mean, log_std

    def extra_repr(self) -> str:
        """Channels and classes, for `print`."""
        return f"{self.channels}, classes={self.classes}"


class FeaturePrior(GaussianPrior):
    """p(z | given, c) = N(μ, σ²), with μ and log σ the even and odd channels of a zero conv of what
    stays at the split and of the feature maps of the conditions c; at the last level, of these.

    Args:
        kept: channels of what stays; 0 at the last level, where nothing does.
        leaving: channels of z.
        context_channels: of the feature maps.
        padding: what the convolution sees beyond the edge.
        axes: of the grid.

    Raises:
        InputError: there are no feature maps.
    """

    def __init__(
        self,
        kept: int,
        leaving: int,
        context_channels: int,
        padding: Padding = "zero",
        axes: int = 2,
    ) -> None:
        super().__init__()
        self.kept = kept
        self.conv = GatherConv(
            kept or context_channels,
            2 * leaving,
            padding=padding,
            context_channels=context_channels if kept else 0,
            axes=axes,
        )

    def forward(
        self, given: Float[Tensor, "batch kept *grid"], context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """μ and log σ."""
        if context is None:
            raise InputError("This model is conditional: say what it is given.")
        h = self.conv(given, context) if self.kept else self.conv(context)
        return h[:, 0::2], h[:, 1::2]


class DiagonalPrior(GaussianPrior):
    """p(z | y) = N(μ_y, σ_y²) with μ and log σ for each position, from nothing but the class.

    Args:
        shape: of z: channels, height and width, or channels and another grid.
        classes: number of classes; 0 for one prior. The context is then (batch,) int64 labels.

    Raises:
        InputError: as of `TopPrior`.

    Source: the base distributions of normflows' multiscale flows.
    """

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.mean = nn.Parameter(torch.zeros(max(1, classes), *shape))
        self.log_std = nn.Parameter(torch.zeros(max(1, classes), *shape))

    def forward(
        self, given: Float[Tensor, "batch kept *grid"], context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """μ and log σ of each position, for labels (batch,) where there are classes."""
        if not self.classes:
            shape = (given.shape[0], *self.mean.shape[1:])
            return self.mean.expand(shape), self.log_std.expand(shape)
        look = not self.training or given.device.type == "cpu"
        labels = check_labels(context, given.shape[0], self.classes, look)
        return self.mean.index_select(0, labels), self.log_std.index_select(0, labels)

    def extra_repr(self) -> str:
        """Shape and classes, for `print`."""
        return f"{tuple(self.mean.shape[1:])}, classes={self.classes}"


class Split(Bijection):
    """Half of the channels leaves the flow, whitened by what the other half says about it.

    x ↔ (z1, ε) with (z1, z2) the halves of x and ε = (z2 − μ(z1))/σ(z1); log-det −Σ log σ(z1).

    Args:
        channels: channels of x; the first half, the larger one if odd, goes on.
        prior: of what leaves; by default what the other half says.

    Source: paper, section 2 and figure 2b.
    """

    def __init__(self, channels: int, prior: GaussianPrior | None = None) -> None:
        super().__init__()
        factored = channels // 2
        self.prior = prior or SplitPrior(channels - factored, factored)

    def forward(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], Float[Tensor, " batch"]]:
        """Return (z1, ε) and −Σ log σ(z1) in nats."""
        z1, z2 = halves(x)
        eps, log_det = self.prior.whiten(z2, z1, context)
        return (z1, eps), log_det

    def inverse(
        self, y: tuple[Tensor, Tensor], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return x from (z1, ε), and Σ log σ(z1) in nats."""
        z1, eps = y
        z2, log_det = self.prior.unwhiten(eps, z1, context)
        return torch.cat((z1, z2), dim=1), log_det


class Top(Bijection):
    """All channels leave: the split of the last level. What is about classes is here.

    z ↔ (z, ε) with ε = (z − μ)/σ; log-det −Σ log σ. Nothing goes on; z stands beside ε for those
    who read it, such as the classifier, and `inverse` takes None in its place.

    Args:
        channels: channels of z.
        learn: learn the prior.
        classes: number of classes that the prior is conditioned on; 0 for none.
        prior: of z; by default a `TopPrior`.

    Source: the official code's `prior` and its `ycond` model.
    """

    def __init__(
        self, channels: int, learn: bool, classes: int, prior: GaussianPrior | None = None
    ) -> None:
        super().__init__()
        self.prior = prior or TopPrior(channels, learn, classes)
        self.classes = classes
        self.classifier = ZeroLinear(channels, classes) if classes else None

    def forward(
        self, x: Float[Tensor, "batch channels *grid"], context: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], Float[Tensor, " batch"]]:
        """Return (z, ε) and −Σ log σ in nats."""
        eps, log_det = self.prior.whiten(x, x, context)
        return (x, eps), log_det

    def inverse(
        self, y: tuple[Tensor | None, Tensor], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return z from (…, ε), and Σ log σ in nats."""
        _, eps = y
        return self.prior.unwhiten(eps, eps, context)

    def logits(self, z: Float[Tensor, "batch channels *grid"]) -> Tensor:
        """The classifier's logits (batch, classes): a zero linear map of z's mean over the pixels.

        Raises:
            InputError: there are no classes.
        """
        if self.classifier is None:
            raise InputError("This model has no classes: make one with `classes` above 0.")
        return self.classifier(z.mean(dim=tuple(range(2, z.dim()))))

    def log_prob_by_class(
        self, z: Float[Tensor, "batch channels *grid"]
    ) -> Float[Tensor, "batch classes"]:
        """log p(z | y) in nats of every class y; of the one prior there is, without classes."""
        by_class = []
        for label in range(max(1, self.classes)):
            (_, eps), log_det = self(z, torch.full((z.shape[0],), label, device=z.device))
            by_class.append(standard_normal_log_prob((eps,)) + log_det)
        return torch.stack(by_class, dim=1)


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
    if (
        look
        and batch
        and not is_traced()
        and not 0 <= int(labels.min()) <= int(labels.max()) < classes
    ):
        raise InputError(f"Labels must lie between 0 and {classes - 1} for {classes} classes.")
    return labels.long()
