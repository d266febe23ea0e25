"""A first map that tells every value from coarser ones, by mixtures of logistics on the bytes."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .base import sum_per_sample, without_autocast
from .fitted import FittedMap, require_precision
from .marginals import Marginals
from .palette import Palette, counts

COMPONENTS = 4
"""Logistics in each mixture."""
BROAD = 2e-5
"""Weight, for each bin that a mixture reaches across, of two more logistics as broad as its likely
and as all its logistics reach: no bin between two modes is too narrow for float32, and samples of
a single mode are left alone."""
COUNTED = 1e-5
"""Least weight of a logistic that the mixture reaches to; bins beside rarer ones are in a tail."""
FLOOR = 1e-7
"""Share of the mass that is spread evenly over the bins: far outside they are as wide as float32
tells apart in either tail."""
TAIL = 1e-9
"""Mass of each tail outside of the bins, so that the map is onto the real line."""
MARGIN = 256
"""Between a value and its bin's edge at least, in roundings of the mass: what the levels add."""
STEEPEST = math.log(4.0)
"""log of the slope beyond the range of bytes at most, in bins."""
NARROWEST = 0.05
"""Of a logistic's scale, in bins."""
LOGIT_BOUND, MEAN_BOUND, SCALE_BOUND, SLOPE_BOUND = 30.0, 300.0, 12.0, 8.0
"""Of the logits of the weights, of δ, of log s/r and of α: what is usual is left as it is."""
PALETTE_BOUND = 4.0
"""Of the palettes' logits: the widths of bins are not lost in float32."""
PALETTE_VALUES = 64
"""Of the coarser image at least, where an octave has a palette: fewer tell little."""
TOGETHER = 2**16
"""Values of phases that are computed at once, at most: more are no faster, and take memory."""
FEW = 2048
FEW_PARTS, MANY_PARTS = 2, 16
"""Into which a search for bins divides them at once: many of few values, whose operations cost as
much as those of more."""
ROWS = 2**15
"""Values that a linear prediction is fitted to, at most."""
RIDGES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Relative to the mean variance of what predicts."""


class Logistics(NamedTuple):
    """Mixtures of logistics for values of one phase, (batch, channels, COMPONENTS + 2, h, w) each,
    of which the last two are the broad ones."""

    weights: Tensor
    means: Tensor
    scales: Tensor
    palette: Palette | None = None
    """In whose coordinate the means of the others are."""

    def starts(self, index: Tensor, bins: int) -> Tensor:
        """Where bins of these numbers start, (…, 1 or each logistic, h, w)."""
        evenly = index / bins - 0.5
        if self.palette is None:
            return evenly.unsqueeze(-3)
        return _for_each(self.palette.start(index), evenly)

    def widths(self, index: Tensor, bins: int) -> Tensor | float:
        """How wide they are."""
        if self.palette is None:
            return 1 / bins
        return _for_each(self.palette.width(index), torch.full_like(index, 1 / bins))


class Told(NamedTuple):
    """What is told of the values of one phase, or of several whose positions stand in a row."""

    raw: Tensor
    """(batch, values, h, w), the network's: of each channel the logits of π, δ and log s/r of its
    logistics, and α of channels (1, 0), (2, 0), (2, 1), …"""
    linear: Tensor
    """(batch, channels, h, w), l."""
    size: Tensor
    """(channels, h, w), or (channels, 1, 1) of all positions: r."""
    across: Tensor
    """(channels·(channels − 1)/2, h, w), or 1 and 1: what is added to α."""
    palette: Palette | None

    @classmethod
    def in_a_row(cls, told: Sequence["Told"]) -> "Told":
        """Of the positions of all these, (…, 1, positions); all or none of them have a palette."""
        sides = [one.linear.shape[-2:] for one in told]
        size, across = (
            _in_a_row([part.expand(-1, *side) for part, side in zip(parts, sides, strict=True)])
            for parts in ([one.size for one in told], [one.across for one in told])
        )
        palettes = [one.palette for one in told if one.palette is not None]
        return cls(
            _in_a_row([one.raw for one in told]),
            _in_a_row([one.linear for one in told]),
            size,
            across,
            Palette.in_a_row(palettes, [math.prod(side) for side in sides]) if palettes else None,
        )

    def mixtures(self, bits: int) -> "Mixtures":
        """The mixtures, but for the residuals of the channels before."""
        channels = len(self.size)
        raw: Any = self.raw
        of_mixtures, of_slopes = raw.tensor_split([3 * COMPONENTS * channels], dim=1)
        mixtures = of_mixtures.unflatten(1, (channels, 3, COMPONENTS))
        logits = _bounded(mixtures[:, :, 0], LOGIT_BOUND)
        shifts = _bounded(mixtures[:, :, 1], MEAN_BOUND)
        log_scales = _bounded(mixtures[:, :, 2], SCALE_BOUND)
        slopes = _bounded(of_slopes.unflatten(1, (len(self.across), COMPONENTS)), SLOPE_BOUND)
        size = self.size[:, None]
        spread = torch.linspace(-1.0, 1.0, COMPONENTS, dtype=size.dtype, device=size.device)
        spread = spread[:, None, None]
        log_scales = 1.2 * spread - 0.5 + log_scales
        scales = (size * log_scales.exp()).clamp(min=NARROWEST / 2**bits)
        means = self.linear[:, :, None] + size * (shifts + 0.5 * spread)
        slopes = slopes + self.across[:, None]
        return Mixtures(logits.softmax(2), means, scales, slopes, self.palette, 2**bits)


class Mixtures(NamedTuple):
    """The mixtures of all channels where the channels before are as predicted linearly."""

    weights: Tensor
    """(batch, channels, COMPONENTS, h, w), summing to one."""
    means: Tensor
    scales: Tensor
    slopes: Tensor
    """(batch, channels·(channels − 1)/2, COMPONENTS, h, w): change of the means with the residual
    of a channel before, for channels (1, 0), (2, 0), (2, 1), …"""
    palette: Palette | None
    bins: int

    def given(self, residuals: Sequence[Tensor], channel: int | None = None) -> Logistics:
        """Those of one channel, or of all, given the residuals (batch, h, w) of those before."""
        means = []
        for c in range(self.means.shape[1]) if channel is None else [channel]:
            mean = self.means[:, c]
            for before in range(c):
                slope = self.slopes[:, c * (c - 1) // 2 + before]
                mean = mean + slope * residuals[before].unsqueeze(1)
            means.append(mean)
        some = slice(None) if channel is None else slice(channel, channel + 1)
        mixture = _with_broad(
            self.weights[:, some], torch.stack(means, 1), self.scales[:, some], self.bins
        )
        if self.palette is None:
            return mixture
        palette = self.palette if channel is None else self.palette.channel(channel)
        own, broad = mixture.means.tensor_split([COMPONENTS], dim=2)
        return mixture._replace(means=torch.cat((palette(own), broad), dim=2), palette=palette)


class Found(NamedTuple):
    """Values of one channel, (batch, 1, h, w), that scores stand for."""

    value: Tensor
    centre: Tensor
    """The middle of its bin."""
    log_slope: Tensor


class Interlaced(FittedMap):
    """y = Φ⁻¹(F(x | what is coarser)), log-det Σ log (F'(x | ·)/φ(y)), Φ the normal CDF.

    An image of 2h × 2w is interlaced of four phases of h × w, of rows and columns 00, 11, 01 and
    10. The first is the coarser image, which is interlaced again, until a side is odd; its values
    have `Marginals`. Each value x of the others, in [−½, ½), has

        F(x | ·) = Σᵢ πᵢ σ((x − mᵢ)/sᵢ),    mᵢ = l + r δᵢ + Σ_c αᵢ_c e_c

    at the edges of the 2ⁿ bins of n-bit values, the first and the last of which have the logistics'
    tails, and linear within the bins; `BROAD`, `FLOOR` and `TAIL` keep it invertible. So under a
    standard normal prior and uniform noise the density is the discrete likelihood, without a gap.
    l is a linear prediction by 3x3 neighbours in the phases that are known, r the usual size of its
    residuals, both fitted; e_c are the residuals of the channels before; networks give logits of π,
    δ, log s/r and α from all that is known, as bytes: coarser octaves' features, the coarser image,
    and the residuals of the phases before.

    With `palette`, mᵢ and the edges of the bins are taken through T, the CDF of values that a
    network tells from how often the image has had each in the phases that are known, so that a
    value that it does not use is narrow; not for the two broad logistics.

    Both directions ask the octaves' networks as often: the inverse goes from coarse to fine, phase
    by phase.

    Args:
        shape: channels, height, width.
        bits: n.
        network: makes the network of each octave, coarsest first: called with channels, values that
            each position has, and whether there is a coarser octave, it gives a module with the
            methods of `OctaveNetwork`.
        palette: makes the palette's network of each octave whose coarser image has
            `PALETTE_VALUES` positions or more: called with 2ⁿ, it gives a module as
            `PaletteNetwork`.

    Source: the interlacing Reed et al. 2017, "Parallel multiscale autoregressive density
    estimation", and Cao et al. 2020, "Lossless image compression through super-resolution"; the
    mixtures Salimans et al. 2017, "PixelCNN++"; the map Chen & Gopinath 2000, "Gaussianization".
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        bits: int,
        network: Callable[[int, int, bool], nn.Module],
        palette: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        channels, *sides = shape
        self.bits = bits
        values: list[int] = []
        while all(side % 2 == 0 for side in sides):
            sides = [side // 2 for side in sides]
            values.insert(0, math.prod(sides))
        self.coarsest = Marginals((channels, sides[0], sides[1]), bits)
        raw = COMPONENTS * (3 * channels + channels * (channels - 1) // 2)
        self.octaves = nn.ModuleList(
            Octave(
                channels,
                bits,
                network(channels, raw, number > 0),
                palette(2**bits) if palette and known >= PALETTE_VALUES else None,
            )
            for number, known in enumerate(values)
        )

    def extra_repr(self) -> str:
        """Bits, for `print`."""
        return f"bits={self.bits}"

    @without_autocast
    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return Φ⁻¹(F(x)) and its log-determinant in nats."""
        y, by_value = self.by_value(x)
        return y, sum_per_sample(by_value)

    @without_autocast
    def by_value(
        self, x: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Tensor, Float[Tensor, "batch channels height width"]]:
        """Return Φ⁻¹(F(x)) and each value's part of the log-determinant."""
        require_precision(x, "The first map `interlaced` has probabilities")
        pyramid = self._pyramid(x)
        y, by_value = self.coarsest.by_value(pyramid[-1])
        finer = [apart(image)[1:] for image in reversed(pyramid[:-1])]
        features, told = None, []
        for octave, first, rest in zip(self._octaves(), reversed(pyramid[1:]), finer, strict=True):
            known = [self._centres(phase) for phase in (first, *rest)]
            features = octave.features(known[0], features)
            told.append(octave.told_of_all(features, known))
        flat = [value for phases in finer for value in phases]
        scores, log_slopes = self._by_row([one for three in told for one in three], flat)
        for number in range(len(finer)):
            three = slice(3 * number, 3 * number + 3)
            y = together([y, *scores[three]])
            by_value = together([by_value, *log_slopes[three]])
        return y, by_value

    def _by_row(
        self, told: Sequence[Told], values: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Φ⁻¹(F(x)) of the values of each phase and the log of its slope, of small ones at once."""
        scores: list[Tensor] = []
        log_slopes: list[Tensor] = []
        for some in _small_together(told):
            row = Told.in_a_row(told[some])
            x = _in_a_row(values[some])
            residual = self._centres(x) - row.linear
            found = self._normal(row.mixtures(self.bits).given(residual.unbind(1)), x)
            sizes = [math.prod(value.shape[-2:]) for value in values[some]]
            for of_all, of_row in zip((scores, log_slopes), found, strict=True):
                parts = torch.split(of_row, sizes, dim=-1)
                shapes = [value.shape for value in values[some]]
                of_all += [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        return scores, log_slopes

    @without_autocast
    def inverse(
        self, y: Float[Tensor, "batch channels height width"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return F⁻¹(Φ(y)) and its log-determinant in nats."""
        require_precision(y, "The first map `interlaced` has probabilities")
        pyramid = self._pyramid(y)
        x, log_det = self.coarsest.inverse(pyramid[-1])
        features = None
        for octave, finer in zip(self._octaves(), reversed(pyramid[:-1]), strict=True):
            phases = apart(finer)[1:]
            xs, known = [x], [self._centres(x)]
            features = octave.features(known[0], features)
            residuals: list[Tensor] = []
            for number, scores in enumerate(phases):
                told = octave.told(number, features, known, residuals)
                mixtures, linear = told.mixtures(self.bits), told.linear.unbind(1)
                found: list[Found] = []
                before: list[Tensor] = []
                for channel, score in enumerate(torch.split(scores, 1, dim=1)):
                    found.append(self._from_normal(mixtures.given(before, channel), score))
                    before.append(found[-1].centre[:, 0] - linear[channel])
                values, centres, log_slopes = (
                    torch.cat(parts, dim=1) for parts in zip(*found, strict=True)
                )
                log_det = log_det - sum_per_sample(log_slopes)
                xs.append(values)
                known.append(centres)
                residuals.append(torch.stack(before, dim=1))
            x = together(xs)
        return x, log_det

    def _fit(self, x: Tensor, noise_variance: float) -> None:
        pyramid = self._pyramid(x)
        self.coarsest.fit(pyramid[-1], noise_variance)
        for octave, finer in zip(self._octaves(), reversed(pyramid[:-1]), strict=True):
            octave.fit(apart(finer))

    def _octaves(self) -> list[Any]:
        return list(self.octaves)

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """x, and the first phase of each before."""
        pyramid = [x]
        for _ in self.octaves:
            pyramid.append(pyramid[-1][..., ::2, ::2])
        return pyramid

    def _index(self, value: Tensor) -> Tensor:
        """The number of the bin, whole, of a value in bins."""
        return value.detach().floor().nan_to_num().clamp(0, 2**self.bits - 1)

    def _centres(self, x: Tensor) -> Tensor:
        """The middles of the bins in which x is."""
        bins = 2**self.bits
        return (self._index((x + 0.5) * bins) + 0.5) / bins - 0.5

    def _normal(self, mixture: Logistics, x: Tensor) -> tuple[Tensor, Tensor]:
        """Φ⁻¹(F(x)) and the log of its slope; beyond the range it is linear."""
        bins = 2**self.bits
        value = (x + 0.5) * bins
        index = self._index(value)
        low, mass, high = self._masses(mixture, index)
        inside = (value - index).clamp(0.0, 1.0)
        beyond = (value - index - inside) / bins
        inside = self._off_edges(inside, index, mass, torch.minimum(low, high))
        is_low = low < high
        nearer = torch.where(is_low, low + inside * mass, high + (1 - inside) * mass)
        y = torch.special.ndtri(nearer)
        y = torch.where(is_low, y, -y)
        log_slope = self._log_slope(y, mass, beyond != 0)
        return y + beyond * log_slope.detach().exp(), log_slope

    def _off_edges(self, inside: Tensor, index: Tensor, mass: Tensor, outside: Tensor) -> Tensor:
        """Moved so far into the bin that rounding does not take y to the next one, in which all
        that is finer would be told otherwise; its slope stays one."""
        rounding = torch.finfo(mass.dtype).eps * (outside + mass).detach()
        least = (MARGIN * rounding / mass.detach()).clamp(max=0.5)
        first = torch.where(index == 0, torch.zeros_like(least), least)
        last = torch.where(index == 2**self.bits - 1, torch.ones_like(least), 1.0 - least)
        return inside + (inside.clamp(first, last) - inside).detach()

    def _from_normal(self, mixture: Logistics, y: Tensor) -> Found:
        """F⁻¹(Φ(y)), the middle of its bin, and the log of the slope there of Φ⁻¹(F)."""
        bins = 2**self.bits
        end = -NormalDist().inv_cdf(TAIL)
        bounded = y.clamp(-end, end)
        is_low = bounded < 0
        side = torch.where(is_low, 1.0, -1.0).to(y)
        distance = -side * bounded
        nearer = 0.5 * torch.special.erfc(distance * math.sqrt(0.5))  # ndtr is 0 in the tails
        found = nearer.detach()
        index = torch.zeros_like(found)
        parts, step = FEW_PARTS if found.numel() > FEW else MANY_PARTS, bins
        with torch.no_grad():
            scales = mixture.scales * side.unsqueeze(2)
            while step > 1:  # to the last bin that starts at or below it
                parts = min(parts, step)
                step //= parts
                inner = torch.arange(step, step * parts, step, dtype=y.dtype, device=y.device)
                starts = index + inner.view(-1, 1, 1, 1, 1)
                outside = self._outside(mixture, scales, side, starts)
                index = index + step * ((outside - found) * side <= 0).sum(0)
        centre = (index + 0.5) / bins - 0.5
        below, within, above = self._by_logistic(mixture, index)
        beside = (mixture.weights * torch.where(is_low.unsqueeze(2), below, above)).sum(2)
        outside = _with_tails(beside, side * centre + (0.5 - 0.5 / bins)) + TAIL
        mass = _with_tails((mixture.weights * within).sum(2), 1 / bins)
        inside = (nearer - outside) / mass
        inside = torch.where(is_low, inside, 1 - inside)
        most = 1.0 - 2 * bins * torch.finfo(y.dtype).eps  # in this bin, where it is rounded
        inside = inside + (inside.clamp(0.0, most) - inside).detach()
        log_slope = self._log_slope(bounded, mass, y != bounded)
        x = (index + inside) / bins - 0.5 + (y - bounded) * (-log_slope.detach()).exp()
        return Found(x, centre, log_slope)

    def _outside(self, mixture: Logistics, scales: Tensor, side: Tensor, index: Tensor) -> Tensor:
        """The mass below the starts of bins of these numbers where `side` is 1, and above them
        where it is −1, as are the signs of `scales`."""
        bins = 2**self.bits
        mass = torch.sigmoid((mixture.starts(index, bins) - mixture.means) / scales)
        evenly = side * (index / bins - 0.5) + 0.5
        return _with_tails((mixture.weights * mass).sum(-3), evenly) + TAIL

    def _masses(self, mixture: Logistics, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mass below bins of these numbers, in them, and above."""
        bins = 2**self.bits
        parts = self._by_logistic(mixture, index)
        low, mass, high = ((mixture.weights * part).sum(2) for part in parts)
        return (
            _with_tails(low, index / bins) + TAIL,
            _with_tails(mass, 1 / bins),
            _with_tails(high, (bins - 1 - index) / bins) + TAIL,
        )

    def _by_logistic(self, mixture: Logistics, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of each logistic, without what lies outside of the bins."""
        bins = 2**self.bits
        start = (mixture.starts(index, bins) - mixture.means) / mixture.scales
        width = mixture.widths(index, bins) / mixture.scales
        below, above = torch.sigmoid(start), torch.sigmoid(-start - width)
        to_end, from_start = torch.sigmoid(start + width), torch.sigmoid(-start)
        within = to_end * from_start * -torch.expm1(-width)  # σ(b) − σ(a) without a difference
        is_first, is_last = (index == 0)[:, :, None], (index == bins - 1)[:, :, None]
        within = torch.where(is_first, to_end, torch.where(is_last, from_start, within))
        return below.masked_fill(is_first, 0.0), within, above.masked_fill(is_last, 0.0)

    def _log_slope(self, y: Tensor, mass: Tensor, is_beyond: Tensor) -> Tensor:
        """log(2ⁿ · mass / φ(y)), and beyond the range no more than STEEPEST."""
        of_bins = self.bits * math.log(2)
        log_slope = 0.5 * y.square() + mass.log() + (of_bins + 0.5 * math.log(2 * math.pi))
        return torch.where(is_beyond, log_slope.clamp(max=of_bins + STEEPEST), log_slope)


class Octave(nn.Module):
    """The mixtures of three phases, given the first: a network around linear predictions.

    Args:
        channels: of the image.
        bits: of its values.
        network: as `OctaveNetwork`.
        palette: as `PaletteNetwork`.
    """

    contrast: Tensor
    """(channels,) usual size of the difference of a value of the first phase from its 3x3 mean."""
    bias: Tensor
    """(3, channels) of the linear predictions of the three phases."""
    across: Tensor
    """(3, channels, channels) slopes of a channel's residual with those of the channels before."""
    size: Tensor
    """(3, channels) r, the usual size of a residual."""

    def __init__(
        self, channels: int, bits: int, network: nn.Module, palette: nn.Module | None
    ) -> None:
        super().__init__()
        self.channels, self.bits = channels, bits
        self.network, self.palette_network = network, palette
        self.register_buffer("contrast", torch.ones(channels))
        for number in range(3):
            kernel = torch.zeros(channels, (number + 1) * channels, 3, 3)
            self.register_buffer(f"weight{number}", kernel)
        self.register_buffer("bias", torch.zeros(3, channels))
        self.register_buffer("across", torch.zeros(3, channels, channels))
        self.register_buffer("size", torch.full((3, channels), 0.25))

    def features(self, coarse: Tensor, below: Tensor | None) -> Tensor:
        """What the network makes of the first phase and the coarser octave's features."""
        contrast = torch.asinh(_sharp(coarse) / self.contrast[:, None, None])
        features: Tensor = self.network(torch.cat((2 * coarse, contrast), dim=1), below)
        return features

    def told(
        self, number: int, features: Tensor, known: Sequence[Tensor], residuals: Sequence[Tensor]
    ) -> Told:
        """What the first phases, as centres of bins, and their residuals tell of the next one."""
        linear = self._linear(number, known)
        palettes = self._palettes([torch.cat(tuple(known), dim=-1)])
        raw = self._values(number, features, residuals)
        return self._told(number, raw, linear, palettes[0])

    def told_of_all(self, features: Tensor, known: Sequence[Tensor]) -> list[Told]:
        """What is told of the three phases, where all four are known."""
        linear = [self._linear(number, known[: number + 1]) for number in range(3)]
        residuals = [value - of_it for value, of_it in zip(known[1:], linear, strict=True)]
        raw = [self._values(number, features, residuals[:number]) for number in range(3)]
        palettes = self._palettes(known[:3])
        return [self._told(n, raw[n], linear[n], palettes[n]) for n in range(3)]

    def _told(self, number: int, raw: Tensor, linear: Tensor, palette: Palette | None) -> Told:
        size = self.size[number]
        across = torch.cat([self.across[number, c, :c] for c in range(self.channels)])
        return Told(raw, linear, size[:, None, None], across[:, None, None], palette)

    def _values(self, number: int, features: Tensor, residuals: Sequence[Tensor]) -> Tensor:
        sizes = self.size[:number, :, None, None]
        relative = [torch.asinh(e / size) for e, size in zip(residuals, sizes, strict=True)]
        network: Any = self.network
        raw: Tensor = network.values(
            number, features, torch.cat(relative, dim=1) if relative else None
        )
        return raw

    def _palettes(self, known: Sequence[Tensor]) -> Sequence[Palette | None]:
        """For each of these values, as centres of bins: that of images with it and those before."""
        if self.palette_network is None:
            return len(known) * [None]
        bins = 2**self.bits
        counted = [counts((value + 0.5) * bins - 0.5, bins) for value in known]
        for number in range(1, len(counted)):
            counted[number] = counted[number] + counted[number - 1]
        logits = self.palette_network(torch.cat(counted))
        return Palette.of(_bounded(logits, PALETTE_BOUND)).chunk(len(known))

    def fit(self, phases: Sequence[Tensor]) -> None:
        """Fit the linear predictions and the sizes of their residuals to images' phases."""
        least = 0.5 / 2**self.bits
        sharp = _sharp(phases[0]).abs().double().transpose(0, 1).flatten(1).mean(1)
        self.contrast.copy_(sharp.clamp(min=least))
        for number in range(3):
            columns, targets = _rows(phases[: number + 1], phases[number + 1])
            weight, bias, residuals = _ridge(columns, targets)
            kernel = weight.mT.reshape(self.channels, -1, 3, 3)
            self._weight(number).copy_(kernel)
            self.bias[number].copy_(bias)
            widest = 0.25 / len(columns)  # which tells little of the residuals if it is small
            for c in range(self.channels):
                before = residuals[:, :c]
                ridge = 1e-9 + 1e-6 * before.square().sum(0)
                gram = before.mT @ before + torch.diag(ridge)
                slopes = torch.linalg.solve(gram, before.mT @ residuals[:, c])
                self.across[number, c, :c] = slopes.to(self.across)
                left = (residuals[:, c] - before @ slopes).abs().median()
                self.size[number, c] = left.clamp(min=max(least, widest)).to(self.size)

    def _weight(self, number: int) -> Tensor:
        weight: Tensor = getattr(self, f"weight{number}")
        return weight

    def _linear(self, number: int, known: Sequence[Tensor]) -> Tensor:
        padded = F.pad(torch.cat(tuple(known), dim=1), (1, 1, 1, 1), mode="replicate")
        return F.conv2d(padded, self._weight(number), self.bias[number])


def apart(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four phases (…, h, w) of (…, 2h, 2w): rows and columns 00, 11, 01, 10."""
    return x[..., ::2, ::2], x[..., 1::2, 1::2], x[..., ::2, 1::2], x[..., 1::2, ::2]


def together(phases: Sequence[Tensor]) -> Tensor:
    """The inverse of `apart`."""
    first, second, third, fourth = phases
    even = torch.stack((first, third), dim=-1).flatten(-2)
    odd = torch.stack((fourth, second), dim=-1).flatten(-2)
    return torch.stack((even, odd), dim=-2).flatten(-3, -2)


def _small_together(told: Sequence[Told]) -> list[slice]:
    """Phases that follow upon each other, of at most `TOGETHER` values or one; all or none of them
    have a palette."""
    ends, values = [0], 0
    for n, (one, before) in enumerate(zip(told, [*told[:1], *told[:-1]], strict=True)):
        values += one.linear.numel()
        alike = (one.palette is None) == (before.palette is None)
        if n and (values > TOGETHER or not alike):
            ends.append(n)
            values = one.linear.numel()
    return [slice(*pair) for pair in pairwise([*ends, len(told)])] if told else []


def _in_a_row(parts: Sequence[Tensor]) -> Tensor:
    """The positions of all of them, (…, 1, positions)."""
    rows = [part.flatten(-2) for part in parts]
    return (torch.cat(rows, dim=-1) if len(rows) > 1 else rows[0]).unsqueeze(-2)


def _bounded(x: Tensor, bound: float) -> Tensor:
    return bound * torch.tanh(x / bound)


def _sharp(x: Tensor) -> Tensor:
    """The difference of each value from its 3x3 mean."""
    return x - F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _for_each(own: Tensor, broad: Tensor) -> Tensor:
    """One value for the logistics of a mixture, another one for its two broad ones."""
    return torch.stack(COMPONENTS * (own,) + 2 * (broad,), dim=-3)


def _with_tails(mass: Tensor, evenly: Tensor | float) -> Tensor:
    """The logistics' mass, and that which is spread evenly, without the tails outside."""
    kept = 1.0 - 2 * TAIL
    return kept * (1.0 - FLOOR) * mass + kept * FLOOR * evenly


def _with_broad(weights: Tensor, means: Tensor, scales: Tensor, bins: int) -> Logistics:
    """The mixture, and two more logistics that reach as far as the likely ones and as all."""
    mean, scale = ((weights * part).sum(2, keepdim=True) for part in (means, scales))
    distance = (means - mean).abs()
    near = (distance * (10 * weights).clamp(max=1.0)).amax(2, keepdim=True)
    far = torch.where(weights > COUNTED, distance, 0.0).amax(2, keepdim=True)
    broad = BROAD * (bins * near).clamp(max=bins)
    return Logistics(
        torch.cat(((1.0 - 2 * broad) * weights, broad, broad), dim=2),
        torch.cat((means, mean, mean), dim=2),
        torch.cat((scales, scale + near, scale + far), dim=2),
    )


def _rows(known: Sequence[Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
    """What predicts, (n, 9·known·channels), and what is predicted, (n, channels), float64, at
    places that are drawn once and for all."""
    x = F.pad(torch.cat(tuple(known), dim=1), (1, 1, 1, 1), mode="replicate")
    images, _, height, width = target.shape
    places = torch.arange(images * height * width)
    if len(places) > ROWS:
        drawn = torch.randint(len(places), (ROWS,), generator=torch.Generator().manual_seed(0))
        places = places[drawn]
    places = places.to(x.device)
    image, row, column = places // (height * width), places // width % height, places % width
    taps = [x[image, :, row + i, column + j] for i in range(3) for j in range(3)]
    columns = torch.stack(taps, dim=2).flatten(1)
    return columns.double(), target[image, :, row, column].double()


def _ridge(columns: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (columns, targets), biases, and the residuals that each row has where all others
    are fitted, of that ridge of `RIDGES` under which those are smallest."""
    count = len(columns)
    centre, mean = columns.mean(0), targets.mean(0)
    a, b = columns - centre, targets - mean
    values, vectors = torch.linalg.eigh(a.mT @ a / count)
    turned = a @ vectors
    toward = turned.mT @ b / count
    weights, residuals = [], []
    for ridge in RIDGES:
        shrunk = 1 / (values.clamp(min=0.0) + ridge * values.mean().clamp(min=1e-12))
        leverage = 1 / count + (turned.square() * shrunk).sum(1) / count
        weight = shrunk[:, None] * toward
        weights.append(vectors @ weight)
        residuals.append((b - turned @ weight) / (1 - leverage).clamp(min=1e-3)[:, None])
    errors = torch.stack(residuals).square().sum((1, 2))
    best = errors.argmin().view(1)
    chosen, left = (torch.stack(x).index_select(0, best)[0] for x in (weights, residuals))
    return chosen, mean - centre @ chosen, left
