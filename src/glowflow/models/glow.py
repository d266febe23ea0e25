"""Glow (Kingma & Dhariwal 2018): figure 2 of the paper, top to bottom."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    ChannelMixing,
    Coupling,
    Invertible1x1Conv,
    Permutation,
    PlainInvertible1x1Conv,
    Squeeze,
)
from ..bijections.base import per_sample
from ..bijections.step import FlowStep
from ..errors import InputError
from ..fused.steps import Steps
from ..nn.convolutions import ZeroLinear
from ..nn.coupling_network import CouplingNetwork
from .config import Architecture, GlowConfig
from .flow import ClassScores, ImageFlow, Latents, LossTerms
from .priors import Split, TopPrior, standard_normal_log_prob


class Glow(ImageFlow):
    """Levels of [squeeze, K steps of flow, split], the last one without split (figure 2b).

    As a bijection: `forward(x, labels)` gives the whitened latents and log|det dε/dx|,
    `inverse(latents, labels)` gives x and log|det dx/dε|.

    Example:
        >>> import torch
        >>> model = Glow(GlowConfig(image_shape=(3, 32, 32), levels=3, steps=2, hidden_channels=16))
        >>> images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
        >>> model.initialize(images)
        >>> model.bits_per_dim(images).shape
        torch.Size([8])
        >>> [tuple(eps.shape) for eps in model.encode(model.to_float(images))]
        [(8, 6, 16, 16), (8, 12, 8, 8), (8, 48, 4, 4)]

    Args:
        config: every hyperparameter.

    Source: paper, sections 2 and 3, appendix B; the official code where the paper is silent.
    """

    model_type = "glow"

    def __init__(self, config: GlowConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleList()
        self.splits = nn.ModuleList()
        channels = config.image_shape[0]
        for level in range(config.levels):
            channels *= 4
            self.levels.append(Level(channels, config))
            if level < config.levels - 1:
                self.splits.append(Split(channels))
                channels //= 2
        self.top = TopPrior(channels, config.learn_top, config.classes)
        self.classifier = ZeroLinear(channels, config.classes) if config.classes else None

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        context: Int[Tensor, " batch"] | None = None,
    ) -> tuple[Latents, Float[Tensor, " batch"]]:
        """Return the whitened latents and log|det dε/dx| in nats."""
        latents, z, log_det = self._to_top(x)
        eps, by_top = self.top(z, context)
        return (*latents, eps), log_det + by_top

    def inverse(
        self, y: Latents, context: Int[Tensor, " batch"] | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return x and log|det dx/dε| in nats."""
        *latents, eps = y
        z, log_det = self.top.inverse(eps, context)
        x, by_level = self.levels[-1].inverse(z)  # type: ignore[operator]
        log_det = log_det + by_level
        below = zip(self.levels[:-1], self.splits, latents, strict=True)
        for level, split, eps in reversed(list(below)):
            x, by_split = split.inverse((x, eps))  # type: ignore[operator]
            x, by_level = level.inverse(x)  # type: ignore[operator]
            log_det = log_det + by_split + by_level
        return x, log_det

    def log_prob_and_logits(
        self, x: Float[Tensor, "batch channels height width"], labels: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch classes"]]:
        """log p(x | label) in nats, and the classifier's logits, in one pass.

        The classifier is a zero-initialised linear map of the last level's z, averaged over the
        pixels (the official code's `ycond` model).

        Raises:
            InputError: the model has no classes.
        """
        latents, z, log_det, logits = self._to_top_with_logits(x)
        eps, by_top = self.top(z, labels)
        return standard_normal_log_prob((*latents, eps)) + log_det + by_top, logits

    def loss_terms(
        self,
        x: Float[Tensor, "batch channels height width"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> LossTerms:
        """bits/dim, plus `weight_classes` times the classifier's cross entropy in bits.

        Raises:
            InputError: as `log_prob`.
        """
        if not self.config.classes or labels is None:
            return super().loss_terms(x, labels)
        log_prob, logits = self.log_prob_and_logits(x, labels)
        bits = self._mean_bits(log_prob)
        by_classes = F.cross_entropy(logits, labels) / math.log(2)
        return LossTerms(bits + self.config.weight_classes * by_classes, bits)

    def class_scores(self, x: Float[Tensor, "batch channels height width"]) -> ClassScores:
        """log p(x | y) in nats for every class y, and the classifier's logits, in one pass.

        Only the prior of the last level's z knows the class.

        Raises:
            InputError: the model has no classes.
        """
        latents, z, log_det, logits = self._to_top_with_logits(x)
        by_class = []
        for label in range(self.config.classes):
            labels = torch.full((len(x),), label, device=x.device)
            eps, by_top = self.top(z, labels)
            by_class.append(standard_normal_log_prob((*latents, eps)) + log_det + by_top)
        return ClassScores(torch.stack(by_class, dim=1), logits)

    def _log_prob_by_level(self, x: Tensor) -> Iterator[Float[Tensor, " batch"]]:
        for level, split in zip(self.levels[:-1], self.splits, strict=True):
            x, by_level = level(x)
            (x, eps), by_split = split(x)
            yield standard_normal_log_prob((eps,)) + by_level + by_split
        z, by_level = self.levels[-1](x)
        by_class = []
        for label in range(max(1, self.config.classes)):
            eps, by_top = self.top(z, torch.full((len(z),), label, device=z.device))
            by_class.append(standard_normal_log_prob((eps,)) + by_top)
        yield torch.logsumexp(torch.stack(by_class), dim=0) - math.log(len(by_class)) + by_level

    @property
    def latent_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(channels, height, width) of each level's latent, first level first."""
        channels, height, width = self.config.image_shape
        last = self.config.levels
        return tuple(
            (
                channels * 2 ** (level if level < last else level + 1),
                height // 2**level,
                width // 2**level,
            )
            for level in range(1, last + 1)
        )

    def _to_top(
        self, x: Tensor, initialize: bool = False
    ) -> tuple[list[Tensor], Tensor, Float[Tensor, " batch"]]:
        """The latents of the splits, the last level's z, and the log-determinant so far."""
        run: Any = Level.initialize if initialize else Level.__call__
        latents = []
        log_det = per_sample(0.0, x)
        for level, split in zip(self.levels[:-1], self.splits, strict=True):
            x, by_level = run(level, x)
            (x, eps), by_split = split(x)
            latents.append(eps)
            log_det = log_det + by_level + by_split
        z, by_level = run(self.levels[-1], x)
        return latents, z, log_det + by_level

    def _to_top_with_logits(
        self, x: Tensor
    ) -> tuple[list[Tensor], Tensor, Float[Tensor, " batch"], Float[Tensor, "batch classes"]]:
        if self.classifier is None:
            raise InputError("This model has no classes: make one with `classes` above 0.")
        self._check(x)
        latents, z, log_det = self._to_top(x)
        return latents, z, log_det, self.classifier(z.mean(dim=(2, 3)))

    def _initialize(self, x: Tensor) -> None:
        self._to_top(x, initialize=True)


class Level(Chain):
    """Squeeze, then K steps of flow (figure 2b)."""

    def __init__(self, channels: int, config: Architecture) -> None:
        steps = Steps(Step(channels, config) for _ in range(config.steps))
        super().__init__({"squeeze": Squeeze(), "steps": steps})


class Step(FlowStep):
    """Actnorm, then a permutation of the channels, then a coupling (figure 2a)."""

    def __init__(self, channels: int, config: Architecture) -> None:
        super().__init__(
            ActNorm(channels), permutation(channels, config), coupling(channels, config)
        )


def permutation(channels: int, config: Architecture) -> ChannelMixing:
    """The channel mixing that the configuration names (paper, section 3.2)."""
    match config.permutation:
        case "lu":
            return Invertible1x1Conv(channels)
        case "plain":
            return PlainInvertible1x1Conv(channels)
        case "shuffle":
            return Permutation.shuffle(channels)
        case "reverse":
            return Permutation.reverse(channels)


def coupling(channels: int, config: Architecture) -> Coupling:
    """The coupling that the configuration names, with its network (paper, section 3.3)."""
    changed = channels // 2
    kept = channels - changed
    if config.coupling == "additive":
        return AdditiveCoupling(CouplingNetwork(kept, changed, config.hidden_channels))
    network = CouplingNetwork(kept, 2 * changed, config.hidden_channels)
    return AffineCoupling(network, config.coupling_scale)
