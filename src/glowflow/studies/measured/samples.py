"""What samples at each temperature look like beside data."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from ...data.inputs import evenly, labels_of
from ...data.types import ImageData, Splits
from ...errors import InputError
from ...evaluation.estimate import Estimate
from ...evaluation.nearest import nearest
from ...evaluation.noise import noise_draws
from ...latents.codes import unflatten
from ...models.flow import ImageFlow
from ...models.likelihood import bits_per_dim
from ...progress import with_bar

SHOWN = 10
"""Samples of each temperature in the sheet."""

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """What a set of images looks like beside the test images. Distances are root mean squares over
    the values of two images, in bytes."""

    bits: Estimate | None
    """Bits/dim under the model, over the images for which it is finite; None where there is none.
    """
    to_test: Estimate
    """Distance from each image to the nearest test image: small where the images look like data."""
    from_test: Estimate
    """Distance from each test image to the nearest image: small where all of the data is covered.
    """
    variance: float
    """Mean over values of the variance across images, as a share of that of the test images."""
    saturated: float
    """Share of the values that are the lowest or the highest that there is."""
    broken: float
    """Share of the images with a value or a log p that is not finite, or that are wholly black."""


@dataclass(frozen=True)
class Samples:
    """Of several temperatures, beside training and test images."""

    count: int
    """Of each temperature, and training images."""
    test_images: int
    draws: int
    temperatures: tuple[float, ...]
    looks: tuple[Look, ...]
    """Of the samples of each temperature."""
    training: Look
    """Of training images: what samples would be if the model were the data's own distribution."""
    test_bits: Estimate | None
    sheet: tuple[UInt8[NDArray[np.uint8], "shown channels height width"], ...] = field(repr=False)
    """The first samples of each temperature."""
    originals: UInt8[NDArray[np.uint8], "shown channels height width"] = field(repr=False)
    """The first test images that were used."""

    @property
    def gaps(self) -> tuple[float, ...]:
        """How far each temperature is from the data: the mean over bits/dim, both distances and the
        variance of |a − b| / max(|a|, |b|).

        a is the samples' figure, b the test images' bits/dim, or the figure of training images.
        0 is like data; a bits/dim that is nowhere finite counts as 1.
        """
        own, gaps = self.training, []
        for look in self.looks:
            pairs = [
                (look.to_test.mean, own.to_test.mean),
                (look.from_test.mean, own.from_test.mean),
                (look.variance, own.variance),
            ]
            bits = 1.0
            if look.bits is not None and self.test_bits is not None:
                bits = _apart(look.bits.mean, self.test_bits.mean)
            gaps.append((bits + sum(_apart(a, b) for a, b in pairs)) / 4)
        return tuple(gaps)

    @property
    def best(self) -> float:
        """The temperature of the smallest gap."""
        return self.temperatures[int(np.argmin(self.gaps))]


def _apart(a: float, b: float) -> float:
    return 0.0 if a == b else abs(a - b) / max(abs(a), abs(b))


@torch.no_grad()
def measure_samples(
    model: ImageFlow,
    splits: Splits,
    temperatures: tuple[float, ...],
    *,
    count: int,
    draws: int = 1,
    batch_size: int = 50,
    seed: int = 0,
    progress: bool = True,
) -> Samples:
    """Draw the same noise at each temperature, and look at the samples as one looks at data.

    Distances to the nearest of a set depend on its size: there are as many training images as
    samples, and all are measured against the same test images.

    Args:
        model: in eval mode, for images of bytes.
        splits: training and test images to measure beside.
        temperatures: standard deviations of the latents.
        count: samples at each temperature, and training and test images at most.
        draws: dequantisation noise draws of each image.
        batch_size: images at once.
        seed: of the samples and of the noise.
        progress: show a bar on stderr.

    Raises:
        InputError: the test images are all the same.
    """
    test, test_labels = _chosen(model, splits.test, count)
    if not _variance(test):
        raise InputError(
            "The test images that were chosen are all the same: give a larger --count."
        )
    beside = _Beside(model, test, draws, batch_size, seed)
    count = min(count, len(splits.train))
    noise, labels = _noise(model, count, seed)
    looks, sheet = [], []
    for temperature in with_bar(temperatures, "sampling", visible=progress):
        images, finite = _decoded(model, temperature * noise, labels, batch_size)
        looks.append(beside.look(images, labels, finite))
        sheet.append(images[:SHOWN])
    training, training_labels = _chosen(model, splits.train, count)
    return Samples(
        count=count,
        test_images=len(test),
        draws=draws,
        temperatures=temperatures,
        looks=tuple(looks),
        training=beside.look(training, training_labels, np.ones(count, dtype=bool)),
        test_bits=_of_finite(beside.bits(test, test_labels)),
        sheet=tuple(sheet),
        originals=test[:SHOWN],
    )


@dataclass(frozen=True)
class _Beside:
    """Looks at images beside the test images."""

    model: ImageFlow
    test: Images
    draws: int
    batch_size: int
    seed: int

    def look(self, images: Images, labels: Tensor | None, finite: NDArray[np.bool_]) -> Look:
        """`finite`: whether every value of each image was."""
        bits = self.bits(images, labels)
        _, to_test = nearest(images, self.test)
        _, from_test = nearest(self.test, images)
        highest = 256 - 256 // 2 ** (self.model.config.bits or 8)
        black = ~images.any(axis=(1, 2, 3))
        return Look(
            bits=_of_finite(bits),
            to_test=Estimate.of(to_test),
            from_test=Estimate.of(from_test),
            variance=_variance(images) / _variance(self.test),
            saturated=float(((images == 0) | (images == highest)).mean()),
            broken=float((~finite | ~np.isfinite(bits) | black).mean()),
        )

    def bits(self, images: Images, labels: Tensor | None) -> NDArray[np.float64]:
        """Bits/dim (N,), the mean over draws; given the label for a model with classes.

        The noise depends on seed, draw and index alone: it is the same at each temperature.
        """
        model, bits = self.model, self.model.config.bits
        parts = []
        for start in range(0, len(images), self.batch_size):
            some = np.arange(start, min(start + self.batch_size, len(images)))
            theirs = None if labels is None else labels[some].to(model.device)
            chosen = torch.from_numpy(images[some])
            noisy = noise_draws(model, chosen, some, draws=self.draws, seed=self.seed)
            log_probs = [model.log_prob(x, theirs).double() for x in noisy]
            parts.append(torch.stack(log_probs).cpu().mean(0))
        return bits_per_dim(torch.cat(parts), math.prod(model.config.image_shape), bits).numpy()


def _of_finite(bits: NDArray[np.float64]) -> Estimate | None:
    finite = bits[np.isfinite(bits)]
    return Estimate.of(finite) if len(finite) else None


def _chosen(model: ImageFlow, data: ImageData, count: int) -> tuple[Images, Tensor | None]:
    """Images in the model's bits, evenly spread, and their labels for a model with classes."""
    indices = evenly(len(data), count)
    images = model.to_images(model.to_float(torch.tensor(data.images[indices]), noise="center"))
    return images.numpy(), labels_of(model, data, indices)


def _noise(
    model: ImageFlow, count: int, seed: int
) -> tuple[Float[Tensor, "count D"], Tensor | None]:
    """The latents and classes that `ImageFlow.sample` draws with this seed, at temperature 1."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, sum(map(math.prod, model.latent_shapes)), generator=generator)
    if not model.config.classes:
        return noise, None
    return noise, torch.randint(model.config.classes, (count,), generator=generator)


def _decoded(
    model: ImageFlow, noise: Float[Tensor, "count D"], labels: Tensor | None, batch_size: int
) -> tuple[Images, NDArray[np.bool_]]:
    """The images (N, C, H, W), and whether every value of each was finite."""
    images, finite = [], []
    for start in range(0, len(noise), batch_size):
        some = slice(start, start + batch_size)
        codes = unflatten(noise[some].to(model.device, model.dtype), model.latent_shapes)
        theirs = None if labels is None else labels[some].to(model.device)
        x = model.decode(codes, theirs)
        images.append(model.to_images(x).cpu())
        finite.append(x.isfinite().flatten(1).all(1).cpu())
    return torch.cat(images).numpy(), torch.cat(finite).numpy()


def _variance(images: Images) -> float:
    return float(images.astype(np.float32).var(axis=0).mean())
