"""Glow (Kingma & Dhariwal 2018): figure 2 of the paper, top to bottom."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Bijection,
    Chain,
    Coupling,
    FlowStep,
    Interlaced,
    Invertible1x1Conv,
    Marginals,
    Permutation,
    PlainInvertible1x1Conv,
    SpectralWhitening,
    Squeeze,
    Standardize,
    VariationalDequantization,
    Whitening,
)
from ..bijections.base import per_sample, without_autocast
from ..bijections.coupling import asks_for_context
from ..bijections.exact import is_untouched
from ..bijections.fitted import FittedMap
from ..errors import InputError
from ..fused.steps import Steps
from ..nn.coupling_network import CouplingNetwork
from ..nn.dense_network import DenseNetwork
from ..nn.octave_network import OctaveNetwork
from ..nn.palette_network import PaletteNetwork
from .config import Architecture, CouplingScale, GlowConfig, picture_shape
from .flow import ClassScores, ImageFlow, Latents, LossTerms
from .parts import CONDITIONAL_NETWORKS, COUPLINGS, NETWORKS, PERMUTATIONS, part
from .priors import (
    DiagonalPrior,
    FeaturePrior,
    GaussianPrior,
    Split,
    SplitPrior,
    Top,
    TopPrior,
    standard_normal_log_prob,
)

NetworkFactory = Callable[[int, int, int], nn.Module]
"""Makes a coupling's network from its channels in, channels out and hidden channels."""


class Glow(ImageFlow):
    """Levels of [squeeze, K steps of flow, split], at the last of which all leaves (figure 2b).

    On a grid of one or three axes everything is the same but the convolutions, and a squeeze makes
    2 or 8 times the channels.

    Before them come, if the configuration names them, `dequantization(config)`, which shapes the
    noise in the bytes' bins, and `first_map(config)`.

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
        network: a coupling network of one's own, in the place of the one that the configuration
            names: called with channels in, channels out and hidden channels, it gives a module.

    Raises:
        InputError: the configuration names a part that there is not.

    Source: paper, sections 2 and 3, appendix B; the official code where the paper is silent.
    """

    model_type = "glow"

    def __init__(self, config: GlowConfig, *, network: NetworkFactory | None = None) -> None:
        super().__init__()
        if network is not None:
            config = dataclasses.replace(config, network=_name_of(network))
        self.config = config
        self.dequantization = dequantization(config)
        self.first_map = first_map(config)
        self.levels = nn.ModuleList()
        channels = config.image_shape[0]
        for level in range(1, config.levels + 1):
            channels *= 2**config.axes
            top = level == config.levels
            self.levels.append(Level(channels, config, number=level, top=top, network=network))
            channels //= 2
        self.register_load_state_dict_pre_hook(_with_present_names)  # type: ignore[no-untyped-call]

    @without_autocast
    def forward(
        self,
        x: Float[Tensor, "batch channels *grid"],
        context: Int[Tensor, " batch"] | None = None,
    ) -> tuple[Latents, Float[Tensor, " batch"]]:
        """Return the whitened latents and log|det dε/dx| in nats."""
        latents, log_det, _ = self._encode(x, context)
        return latents, log_det

    @without_autocast
    def inverse(
        self, y: Latents, context: Int[Tensor, " batch"] | None = None
    ) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, " batch"]]:
        """Return x and log|det dx/dε| in nats."""
        x: Any = None
        log_det: Any = 0.0
        contexts = self._contexts(context, y[0].shape[0])
        for level, eps, given in reversed(list(zip(self.levels, y, contexts, strict=True))):
            x, by_level = level.inverse((x, eps), given)
            log_det = log_det + by_level
        if self.first_map is not None:
            x, of_map = self.first_map.inverse(x, context)
            log_det = log_det + of_map
        if self.dequantization is not None:
            x, of_noise = self.dequantization.inverse(x, context)
            log_det = log_det + of_noise
        return x, log_det

    def _encode(self, x: Tensor, context: Tensor | None) -> tuple[Latents, Tensor, Tensor]:
        """The latents, log|det dε/dx|, and the last level's z."""
        latents = []
        x, log_det = self._mapped(x, context)
        contexts = self._contexts(context, x.shape[0])
        for level, given in zip(self.levels, contexts, strict=True):
            (x, eps), by_level = level(x, given)
            latents.append(eps)
            log_det = log_det + by_level
        return tuple(latents), log_det, x

    def _contexts(self, context: Any, batch: int) -> Sequence[Any]:
        """What each level is given, first level first."""
        return (context,) * len(self.levels)

    def _mapped(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the first level takes, and log|det| of what was before it."""
        log_det = per_sample(0.0, x)
        for before in (self.dequantization, self.first_map):
            if before is not None:
                x, of_it = before(x, context)
                log_det = log_det + of_it
        return x, log_det

    def log_prob_and_logits(
        self, x: Float[Tensor, "batch channels *grid"], labels: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch classes"]]:
        """log p(x | label) in nats, and the classifier's logits, in one pass.

        Raises:
            InputError: the model has no classes, or as `log_prob`.
        """
        self._require_classes()
        x = self._checked(x, labels)
        latents, log_det, z = self._encode(x, labels)
        return standard_normal_log_prob(latents) + log_det, self._top.logits(z)

    def loss_terms(
        self,
        x: Float[Tensor, "batch channels *grid"],
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
        weighted = self.config.weight_classes * F.cross_entropy(logits, labels.long())
        return LossTerms(bits + weighted / math.log(2), bits)

    @without_autocast
    def class_scores(self, x: Float[Tensor, "batch channels *grid"]) -> ClassScores:
        """log p(x | y) in nats for every class y, and the classifier's logits.

        Where only the last level's prior knows the class, that is one pass. Where coupling networks
        ask for the context, it is one a class, and a class's logit is that of the pass given it.

        Raises:
            InputError: the model has no classes, or as `log_prob`.
        """
        self._require_classes()
        x = self._checked(x)
        if not self._class_stays_at_the_top():
            by_class = [self.log_prob_and_logits(x, y) for y in self._every_class(x)]
            logits = torch.stack([logits[:, y] for y, (_, logits) in enumerate(by_class)], dim=1)
            return ClassScores(torch.stack([log_p for log_p, _ in by_class], dim=1), logits)
        below, by_class_of_top, z = self._log_prob_of_levels(x)
        log_prob = torch.stack(below).sum(0)[:, None] if below else 0.0
        return ClassScores(log_prob + by_class_of_top, self._top.logits(z))

    def _log_prob_by_level(
        self, x: Tensor, labels: Tensor | None = None
    ) -> list[Float[Tensor, " batch"]]:
        if labels is not None:
            return self._log_prob_of_each_level(x, labels)
        if self._class_stays_at_the_top():
            below, of_top, _ = self._log_prob_of_levels(x)
            return [*below, torch.logsumexp(of_top, dim=1) - math.log(of_top.shape[1])]
        by_class = []
        for each in self._every_class(x) if self.config.classes else [None]:
            by_class.append(torch.stack(self._log_prob_of_each_level(x, each)).cumsum(0))
        mixture = torch.logsumexp(torch.stack(by_class), dim=0) - math.log(len(by_class))
        return [*mixture.diff(dim=0, prepend=torch.zeros_like(mixture[:1]))]

    def _log_prob_of_each_level(self, x: Tensor, labels: Tensor | None) -> list[Tensor]:
        z, log_det_before = self._mapped(x, labels)
        parts = []
        for level, given in zip(self.levels, self._contexts(labels, len(x)), strict=True):
            (z, eps), log_det = level(z, given)
            parts.append(standard_normal_log_prob((eps,)) + log_det)
        parts[0] = parts[0] + log_det_before
        return parts

    def _log_prob_of_levels(self, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """log p (batch,) of each level but the last, of that (batch, classes), and its z."""
        *levels, top = self.levels
        x, log_det_before = self._mapped(x)
        below = []
        for level in levels:
            (x, eps), log_det = level(x)
            below.append(standard_normal_log_prob((eps,)) + log_det)
        z, by_steps = top.steps(top.squeeze(x)[0])  # type: ignore[operator]
        if below:
            below[0] = below[0] + log_det_before
        else:
            by_steps = by_steps + log_det_before
        return below, by_steps[:, None] + self._top.log_prob_by_class(z), z

    @property
    def _top(self) -> Top:
        top: Any = self.levels[-1]
        return top.split

    def _class_stays_at_the_top(self) -> bool:
        """Whether every part is known, so that the class matters to the last prior alone."""
        return all(
            type(module) in IGNORE_CONTEXT
            and is_untouched(module)
            and not (isinstance(module, Coupling) and asks_for_context(module.network))
            for module in self.modules()
            if module is not self
            if isinstance(module, Bijection | GaussianPrior)
        )

    def _every_class(self, x: Tensor) -> list[Int[Tensor, " batch"]]:
        return [torch.full((len(x),), y, device=x.device) for y in range(self.config.classes)]

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """(channels, height, width) of each level's latent, first level first; or another grid."""
        channels, *grid = self.config.image_shape
        shapes = []
        for level in range(1, self.config.levels + 1):
            channels *= 2**self.config.axes
            leaving = channels if level == self.config.levels else channels // 2
            shapes.append((leaving, *(side // 2**level for side in grid)))
            channels -= leaving
        return tuple(shapes)

    def _initialize(self, x: Tensor, labels: Tensor | None = None) -> None:
        if labels is None and self.config.classes:
            labels = x.new_zeros(len(x), dtype=torch.long)
        for before in (self.dequantization, self.first_map):
            if before is not None:
                x, _ = before.initialize(x, labels)
        for level, given in zip(self.levels, self._contexts(labels, len(x)), strict=True):
            (x, _), _ = level.initialize(x, given)  # type: ignore[operator]

    @torch.no_grad()
    def fit_first_map(self, images: Tensor) -> None:
        """Fit the map before the first level to these images, unless it is fitted; without one
        there is nothing to do.

        `initialize` does it from its own batch, for which a few hundred images are enough, while
        this map wants thousands: call this before it.

        Args:
            images: as `initialize` takes them.

        Raises:
            InputError: there are no images, or they do not fit.
        """
        if not len(images):
            raise InputError("There are no images to fit the first map to: give one at least.")
        if self.first_map is None:
            return
        bits = self.config.bits
        x = self.to_float(images, noise="center").to(self.device)
        self.first_map.fit(x, 0.0 if bits is None else 1 / (12 * 4**bits))

    @classmethod
    def from_foreign(
        cls,
        source: str | Path,
        *,
        image_size: tuple[int, int] | None = None,
        bits: int | None = None,
        black: float | None = None,
        coupling_scale: CouplingScale | None = None,
        format: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "Glow":
        """Read a model that other code has made: the official TensorFlow files, and ports.

        The model is in eval mode and has the density, the latents and the images of the original.

        Args:
            source: a file, a folder, or the prefix of a TensorFlow checkpoint.
            image_size: height and width, where the file does not say.
            bits: of the images, 1 to 8, where the file does not say.
            black: what a black value is to the model, where its format leaves that open.
            coupling_scale: how its affine couplings scale, where its format leaves that open.
            format: whose it is, as `glow convert --from` takes it; by default it is found out.
            dtype: of the model's weights.

        Raises:
            CheckpointError: the file is missing, damaged, of no known format, or not all of a
                model.
            InputError: size or bits have to be given, or contradict the file.
        """
        # By name: what reads other people's files stands above the models, and makes this one.
        read = resolve_name("glowflow.interop.convert:convert")
        return read(
            source,
            image_size=image_size,
            bits=bits,
            black=black,
            coupling_scale=coupling_scale,
            format=format,
            dtype=dtype,
        ).model

    def with_present_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights by the names of this version, from weights by its names or those of format 1."""
        last = len(self.levels) - 1
        every: Any = {"remove_duplicate": False}
        own = {n for n, _ in (*self.named_parameters(**every), *self.named_buffers(**every))}
        renamed = {}
        for name, weight in state.items():
            kind, _, rest = name.partition(".")
            present = name
            if kind == "splits":
                level, _, rest = rest.partition(".")
                present = f"levels.{level}.split.{rest}"
            elif kind == "top":
                present = f"levels.{last}.split.prior.{rest}"
            elif kind == "classifier":
                present = f"levels.{last}.split.classifier.{rest}"
            renamed[present if name not in own and present in own else name] = weight
        return renamed


class Level(Chain):
    """Squeeze, K steps of flow, split: half of the channels leaves, at the top all (figure 2b).

    x ↔ (z, ε): z goes on, ε has left.
    """

    squeeze: Squeeze
    steps: Steps
    split: Split | Top

    def __init__(
        self,
        channels: int,
        config: GlowConfig,
        *,
        number: int = 1,
        top: bool = False,
        network: NetworkFactory | None = None,
    ) -> None:
        steps = Steps(Step(channels, config, network) for _ in range(config.steps))
        prior = prior_of(channels, config, number, top)
        split = (
            Top(channels, config.learn_top, config.classes, prior)
            if top
            else Split(channels, prior)
        )
        super().__init__({"squeeze": Squeeze(), "steps": steps, "split": split})


class Step(FlowStep):
    """Actnorm, then a permutation of the channels, then a coupling (figure 2a)."""

    def __init__(
        self, channels: int, config: Architecture, network: NetworkFactory | None = None
    ) -> None:
        super().__init__(
            ActNorm(channels), permutation(channels, config), coupling(channels, config, network)
        )


def prior_of(channels: int, config: GlowConfig, number: int, top: bool) -> GaussianPrior | None:
    """That of what leaves a level of so many channels, by its number; None for what `Split` and
    `Top` have."""
    leaving = channels if top else channels // 2
    kept = channels - leaving
    how = (config.padding, config.axes)
    if config.prior == "diagonal":
        grid = (side // 2**number for side in config.image_shape[1:])
        return DiagonalPrior((leaving, *grid), config.classes)
    if config.context_channels and (config.learn_top or not top):
        return FeaturePrior(kept, leaving, config.context_channels, *how)
    if how == ("zero", 2):
        return None
    if top:
        return TopPrior(channels, config.learn_top, config.classes, *how)
    return SplitPrior(kept, leaving, *how)


def dequantization(config: GlowConfig) -> VariationalDequantization | None:
    """What shapes the noise in the bytes' bins; None where it stays uniform."""
    if config.dequantization == "uniform" or config.bits is None:
        return None
    channels = config.image_shape[0]
    network = CouplingNetwork(4 * channels, 8 * channels, config.dequantization_channels)
    return VariationalDequantization(config.bits, network)


def first_map(config: GlowConfig) -> FittedMap | None:
    """The map before the first level that the configuration names; None for `none`.

    Raises:
        InputError: the choice is left to training.
    """
    match config.first_map:
        case "none":
            return None
        case "marginals":
            return Marginals(picture_shape(config.image_shape), config.bits or 8)
        case "interlaced":
            hidden, of_palette = config.interlaced_channels, config.palette_channels
            return Interlaced(
                picture_shape(config.image_shape),
                config.bits or 8,
                lambda channels, values, below: OctaveNetwork(channels, values, hidden, below),
                (lambda bins: PaletteNetwork(bins, of_palette)) if of_palette else None,
            )
        case "standardize" | "standardize_positions":
            return Standardize(config.image_shape, config.first_map == "standardize_positions")
        case "spectral":
            return SpectralWhitening(config.image_shape)
        case "whitening":
            rank = min(config.rank, math.prod(config.image_shape))
            steps = [DenseStep(rank, config.dense_channels) for _ in range(config.dense_steps)]
            return Whitening(config.image_shape, rank, Chain(steps) if steps else None)
    raise InputError(
        "first_map is 'auto', which training decides by its images: choose none, marginals, "
        "interlaced, whitening, standardize, standardize_positions or spectral."
    )


class DenseStep(Chain):
    """A fixed shuffle of the principal components, then an affine coupling of its halves."""

    def __init__(self, components: int, hidden: int) -> None:
        coupling = AffineCoupling.of(
            components, lambda given, made: DenseNetwork(given, made, hidden), "bounded"
        )
        super().__init__({"permutation": Permutation.shuffle(components), "coupling": coupling})


def permutation(channels: int, config: Architecture) -> Bijection:
    """The channel mixing that the configuration names (paper, section 3.2)."""
    mixing: Bijection = part(PERMUTATIONS, config.permutation)(channels)
    return mixing


def coupling(
    channels: int, config: Architecture, network: NetworkFactory | None = None
) -> Bijection:
    """The coupling that the configuration names, with its network (paper, section 3.3)."""
    make = network or network_of(config)
    made: Bijection = part(COUPLINGS, config.coupling).of(
        channels,
        lambda channels_in, channels_out: make(channels_in, channels_out, config.hidden_channels),
        config.coupling_scale,
    )
    return made


def network_of(config: Architecture) -> NetworkFactory:
    """The coupling network that the configuration names."""
    how: dict[str, Any] = {} if config.padding == "zero" else {"padding": config.padding}
    if config.axes != 2:
        how["axes"] = config.axes
    if config.context_channels:
        how["context_channels"] = config.context_channels
        return partial(part(CONDITIONAL_NETWORKS, config.network), **how)
    return partial(part(NETWORKS, config.network), **how)


def _name_of(network: NetworkFactory) -> str:
    kind: Any = network if hasattr(network, "__qualname__") else type(network)
    return f"{kind.__module__}.{kind.__qualname__}"


def _with_present_names(model: Glow, state: dict[str, Any], prefix: str, *_others: Any) -> None:
    """Let `load_state_dict` take the names of format 1 too."""
    own = {name: state.pop(name) for name in list(state) if name.startswith(prefix)}
    names = model.with_present_names({n.removeprefix(prefix): w for n, w in own.items()})
    state.update({prefix + name: weight for name, weight in names.items()})


IGNORE_CONTEXT = (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    DenseStep,
    FlowStep,
    Interlaced,
    Invertible1x1Conv,
    Level,
    Marginals,
    Permutation,
    PlainInvertible1x1Conv,
    Split,
    SplitPrior,
    Squeeze,
    SpectralWhitening,
    Standardize,
    Step,
    Steps,
    Top,
    TopPrior,
    VariationalDequantization,
    Whitening,
)
"""Parts in which the class matters to nothing but the last level's prior; in a coupling, if its
network does not ask for it."""
