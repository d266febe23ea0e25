"""RealNVP (Dinh, Sohl-Dickstein & Bengio 2017): section 3 of the paper, top to bottom."""

from contextlib import nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..bijections import (
    BatchNorm,
    Chain,
    ChannelCoupling,
    CheckerboardCoupling,
    Logit,
    MaskedCoupling,
    Permutation,
    Squeeze,
)
from ..bijections.base import without_autocast
from ..bijections.batchnorm import by_batches
from ..bijections.coupling import halves
from ..bijections.kept import is_traced
from ..errors import InputError
from ..nn.residual_network import ResidualNetwork
from .config import RealNVPArchitecture, RealNVPConfig
from .flow import ImageFlow, Latents, LossTerms
from .priors import standard_normal_log_prob


class RealNVP(ImageFlow):
    """Logit, then scales, after each of which but the last half of the variables leaves.

    As a bijection: `forward(x)` gives the latents and log|det dz/dx|, `inverse(latents)` gives x
    and log|det dx/dz|. The prior is standard normal, so the latents are white as they are.

    Batch statistics are used by `forward` in training mode with gradients enabled, and nowhere
    else; all other calls take the running averages, by which the map is an exact bijection.

    Example:
        >>> import torch
        >>> model = RealNVP(
        ...     RealNVPConfig(image_shape=(3, 32, 32), residual_blocks=1, hidden_channels=8)
        ... )
        >>> images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
        >>> model.initialize(images)
        >>> model.bits_per_dim(images).shape
        torch.Size([8])
        >>> [tuple(z.shape) for z in model.encode(model.to_float(images))]
        [(8, 6, 16, 16), (8, 6, 16, 16)]

    Args:
        config: every hyperparameter.

    Source: RealNVP, sections 3.4 to 3.7 and 4.1; the official code where the paper is silent.
    """

    model_type = "realnvp"
    config_class = RealNVPConfig
    config: RealNVPConfig  # type: ignore[assignment]

    def __init__(self, config: RealNVPConfig) -> None:
        super().__init__()
        self.config = config
        self.logit = Logit(config.alpha) if config.bits is not None else Chain([])
        self.scales = nn.ModuleList()
        channels, hidden = config.image_shape[0], config.hidden_channels
        for _ in range(config.scales - 1):
            self.scales.append(Scale(channels, hidden, config))
            channels, hidden = 2 * channels, 2 * hidden
        self.scales.append(LastScale(channels, hidden, config))

    @without_autocast
    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        context: Int[Tensor, " batch"] | None = None,
    ) -> tuple[Latents, Float[Tensor, " batch"]]:
        """Return the latents and log|det dz/dx| in nats."""
        with nullcontext() if torch.is_grad_enabled() else by_batches(False):
            return self._to_latents(x)

    @without_autocast
    def inverse(
        self, y: Latents, context: Int[Tensor, " batch"] | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return x and log|det dx/dz| in nats."""
        with by_batches(False):
            *latents, z = y
            x, log_det = self.scales[-1].inverse(z)  # type: ignore[operator]
            for scale, z in reversed(list(zip(self.scales[:-1], latents, strict=True))):
                x, by_scale = scale.inverse(torch.cat((x, z), dim=1))  # type: ignore[operator]
                log_det = log_det + by_scale
            x, by_logit = self.logit.inverse(x)
            return x, log_det + by_logit

    def _to_latents(self, x: Tensor) -> tuple[Latents, Float[Tensor, " batch"]]:
        latents = []
        x, log_det = self.logit(x)
        for scale in self.scales[:-1]:
            x, by_scale = scale(x)
            x, z = halves(x)
            latents.append(z)
            log_det = log_det + by_scale
        z, by_scale = self.scales[-1](x)
        return (*latents, z), log_det + by_scale

    def _log_prob_by_level(
        self, x: Tensor, labels: Tensor | None = None
    ) -> list[Float[Tensor, " batch"]]:
        by_level = []
        with by_batches(False):
            x, log_det = self.logit(x)
            for scale in self.scales[:-1]:
                x, by_scale = scale(x)
                x, z = halves(x)
                by_level.append(standard_normal_log_prob((z,)) + log_det + by_scale)
                log_det = torch.zeros_like(log_det)
            z, by_scale = self.scales[-1](x)
            by_level.append(standard_normal_log_prob((z,)) + log_det + by_scale)
        return by_level

    @property
    def latent_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(channels, height, width) of each scale's latent, first scale first."""
        channels, height, width = self.config.image_shape
        last = self.config.scales - 1
        halvings = (*range(1, last + 1), last)
        return tuple((channels * 2**n, height // 2**n, width // 2**n) for n in halvings)

    def loss_terms(
        self,
        x: Float[Tensor, "batch channels height width"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> LossTerms:
        """bits/dim + l2·Σ g², over the magnitudes of the convolutions and the scales of s.

        Source: RealNVP, section 4.1.

        Raises:
            InputError: as `log_prob`.
        """
        bits = super().loss_terms(x, labels).bits_per_dim
        return LossTerms(bits + self._penalty(), bits)

    def _penalty(self) -> Float[Tensor, ""]:
        sizes = [w for name, w in self.named_parameters() if name.endswith("original0")]
        sizes += [part.scale for part in self.modules() if isinstance(part, MaskedCoupling)]
        return self.config.l2 * torch.stack([w.square().sum() for w in sizes]).sum()

    def _initialize(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Set the running averages from this batch, unless they have seen one."""
        if not self.initialized:
            with by_batches(True):
                self._to_latents(x)

    def _checked(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = super()._checked(x, labels)
        if isinstance(self.logit, Logit) and x.numel() and not (x.is_meta or is_traced()):
            largest = float(x.detach().abs().max())
            if largest >= self.logit.limit:
                raise InputError(
                    f"x reaches {largest:.3g}: this model takes values between -1/2 and 1/2, as "
                    "`to_float` makes them from bytes."
                )
        return x


class Scale(Chain):
    """Three checkerboard couplings, squeeze, three channel couplings (section 3.6).

    Then the channels are put in the order in which half of them leaves: the pixels on one diagonal
    of each 2x2 block stay, so that what goes on is the image at half the resolution.
    """

    def __init__(self, channels: int, hidden: int, config: RealNVPArchitecture) -> None:
        super().__init__(
            {
                "checkerboard": couplings(3, CheckerboardCoupling, channels, hidden, config),
                "squeeze": Squeeze(),
                "channelwise": couplings(3, ChannelCoupling, 4 * channels, 2 * hidden, config),
                "order": Permutation(diagonal_first(channels)),
            }
        )


class LastScale(Chain):
    """Four checkerboard couplings (section 3.6)."""

    def __init__(self, channels: int, hidden: int, config: RealNVPArchitecture) -> None:
        checkerboard = couplings(4, CheckerboardCoupling, channels, hidden, config)
        super().__init__({"checkerboard": checkerboard})


def couplings(
    count: int,
    kind: type[CheckerboardCoupling] | type[ChannelCoupling],
    channels: int,
    hidden: int,
    config: RealNVPArchitecture,
) -> Chain:
    """Couplings with alternating masks, each followed by batch normalisation (section 3.7)."""

    def network() -> ResidualNetwork:
        lag = config.batch_norm_lag
        return ResidualNetwork(channels, 2 * channels, hidden, config.residual_blocks, lag)

    return Chain(
        Chain(
            {
                "coupling": kind(network(), channels, parity=index % 2),
                "norm": BatchNorm(channels, config.batch_norm_lag),
            }
        )
        for index in range(count)
    )


def diagonal_first(channels: int) -> Int[Tensor, " 4*channels"]:
    """Squeezed channels in the order of the pixels (0, 0), (1, 1), (0, 1), (1, 0) of a block.

    Source: the official code's `squeeze_2x2_ordered`.
    """
    block = torch.tensor([0, 3, 1, 2])
    return (block[:, None] + 4 * torch.arange(channels)).flatten()
