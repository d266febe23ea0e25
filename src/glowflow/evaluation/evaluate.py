"""How good a model is: bits/dim beside baselines, accuracies and the round trip."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ..data.inputs import evenly, labels_of, require_kind
from ..data.patches import photograph_of
from ..data.types import ImageData
from ..errors import InputError
from ..models.flow import ImageFlow
from ..models.likelihood import bits_per_dim, quantize
from ..processes import gather_in_order, on_main_process, process_index, shard
from ..progress import in_batches
from ..training.health import round_trip
from .baselines import Baseline
from .beside import codecs_beside, gaussian_beside, models_beside
from .estimate import Estimate, mean_and_error
from .noise import noise_draws
from .published import published


@dataclass(frozen=True)
class Evaluation:
    """Figures of one model on one set of images."""

    mean: float
    """Bits per dimension, the mean over images and noise draws."""
    standard_error: float | None
    """Standard error of the mean over the images, of squares over photographs; None for one."""
    images: int
    draws: int
    """Dequantisation noise draws per image; 0 for float data, whose figure is differential."""
    bits: int | None
    dataset: str
    """The published data set that the images are, as in `Splits.dataset`; empty for others."""
    baselines: tuple[Baseline, ...]
    """The same images, by simpler models and by codecs."""
    published: tuple[Baseline, ...]
    """Published figures for the same data set, release and bits; empty where there are none."""
    bayes_accuracy: float | None
    """Share of the images whose label is argmax_y log p(x | y) + log p(y), p(y) the share of the
    training images; None without classes."""
    classifier_accuracy: float | None
    """Share of the images whose label has the largest logit of the classifier; None without
    classes."""
    bytes_compared: int
    """Bytes of all images, encoded and decoded; 0 for float data."""
    bytes_changed: int
    images_unchanged: int
    largest_error: float
    """Largest |decode(encode(x)) − x|, in units of x (images: 1 is the range of the bytes)."""
    mean_inside: float | None = None
    """Bits per value of the source, where `--fit pad` put margins around it: an image's bits,
    margins included, over the values that are its own; None without margins."""
    standard_error_inside: float | None = None
    values_inside: float | None = None
    """Values of an image that are its own, on average."""
    what: str = "held-out images"
    """What the images are to the model, in words."""
    dimensions: int = 0
    """Values of an image."""

    @property
    def nats(self) -> Estimate:
        """−log p(x) of a sample, in nats; for bytes the bound on that of the image."""
        scale = self.dimensions * math.log(2)
        error = None if self.standard_error is None else scale * self.standard_error
        return Estimate(scale * self.mean, error)

    @property
    def bits_per_dim(self) -> Estimate:
        """The mean with its error, which prints as 1.891 ± 0.017."""
        return Estimate(self.mean, self.standard_error)

    @property
    def bits_per_source_value(self) -> Estimate | None:
        """The same per value of the source; None without margins."""
        if self.mean_inside is None:
            return None
        return Estimate(self.mean_inside, self.standard_error_inside)

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON can hold them."""
        nats = self.nats
        return {
            **asdict(self),
            "nats_per_sample": nats.mean,
            "nats_per_sample_standard_error": nats.standard_error,
        }


@torch.no_grad()
def evaluate(
    model: ImageFlow,
    data: ImageData,
    *,
    train: ImageData | None = None,
    draws: int = 1,
    limit: int | None = None,
    batch_size: int = 50,
    seed: int = 0,
    dataset: str = "",
    what: str = "held-out images",
    progress: bool = True,
) -> Evaluation:
    """Bits/dim, its baselines, accuracies and the round trip, all on the same images.

    The figure is an upper bound on −log₂ P(image) / D by uniform dequantisation: the mean of
    `draws` noise draws. The noise of an image depends on the seed, the draw and its index alone.
    The round trip encodes the centre of each byte's bin. With classes the figure is that of the
    true label; accuracies are of log-likelihoods and logits averaged over the draws.

    Where a launcher has started several processes, each scores its share of the images, and all of
    them return the same.

    Args:
        model: in eval mode.
        data: images to score.
        train: images the baselines are fitted on; without them only codecs stand beside the model,
            and all classes are equally probable.
        draws: noise draws per image.
        limit: score so many images at most, evenly spread.
        batch_size: images at once; does not change the figures beyond float rounding.
        seed: of the noise.
        dataset: `Splits.dataset`, if the images are its test: chooses the published figures.
        what: the images are to the model, in words.
        progress: show a bar on stderr.

    Raises:
        InputError: the images do not fit the model, labels are missing, or draws or limit is below
            1.
    """
    if draws < 1 or (limit is not None and limit < 1):
        raise InputError(f"draws is {draws} and limit {limit}: give at least 1 of each.")
    require_kind(model, data)
    bits, classes = model.config.bits, model.config.classes
    indices = evenly(len(data), limit)
    class_prior = _class_prior(model, train)
    visible = progress and process_index() == 0
    with model.frozen():
        batches = [
            _measure(model, data, some, class_prior, draws, seed)
            for some in in_batches(shard(indices), batch_size, "evaluating", visible=visible)
        ]
    measured = _gather(batches, len(indices))
    groups = None if data.patches is None else photograph_of(data.patches[indices])
    mean, standard_error = mean_and_error(measured.bits_per_dim.numpy(), groups)
    accuracies = (measured.right.sum(0) / len(indices)).tolist() if classes else (None, None)
    # All of them stay on the disk.
    images = data.images if len(indices) == len(data) else data.images[indices]
    margins = _margins(data, indices)
    inside: tuple[float | None, float | None] = (None, None)
    if margins is not None:
        inside = mean_and_error(measured.bits_per_dim.numpy() * margins, groups)
    return Evaluation(
        mean=mean,
        standard_error=standard_error,
        images=len(indices),
        draws=draws if bits is not None else 0,
        bits=bits,
        dataset=dataset,
        baselines=on_main_process(
            lambda: (
                *models_beside(train, images, bits, margins, groups, seed),
                *gaussian_beside(model, train, images, data, indices),
                *codecs_beside(data, images, bits, margins, visible),
            )
        ),
        published=published(dataset, bits, classes),
        bayes_accuracy=accuracies[0],
        classifier_accuracy=accuracies[1],
        bytes_compared=images.size if bits is not None else 0,
        bytes_changed=int(measured.bytes_changed.sum()),
        images_unchanged=int((measured.bytes_changed == 0).sum()) if bits is not None else 0,
        largest_error=float(measured.error.max()),
        mean_inside=inside[0],
        standard_error_inside=inside[1],
        values_inside=None if margins is None else float(data.values_inside[indices].mean()),  # type: ignore[index]
        what=what,
        dimensions=math.prod(data.image_shape),
    )


def _margins(data: ImageData, indices: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """(N,) values of the frame for each of the source; None where there are no margins."""
    dims = math.prod(data.image_shape)
    if data.values_inside is None or (data.values_inside[indices] == dims).all():
        return None
    return dims / data.values_inside[indices]


class _PerImage(NamedTuple):
    """What is measured on each image, on the CPU."""

    bits_per_dim: Float[Tensor, " N"]
    """float64."""
    right: Int[Tensor, "N 2"]
    """Whether its label is the one by Bayes' rule, and the classifier's; 0 without classes."""
    bytes_changed: Int[Tensor, " N"]
    """By encoding and decoding; 0 for float data."""
    error: Float[Tensor, " N"]
    """Largest |decode(encode(x)) − x|."""


def _measure(
    model: ImageFlow,
    data: ImageData,
    indices: NDArray[np.int64],
    class_prior: Float[Tensor, " classes"],
    draws: int,
    seed: int,
) -> _PerImage:
    """Measure a batch."""
    images, labels = torch.from_numpy(data.images[indices]), labels_of(model, data, indices)
    noisy = noise_draws(model, images, indices, draws=draws, seed=seed)
    bits, right = _likelihoods(model, noisy, labels, class_prior)
    return _PerImage(bits, right.long(), *_round_trip(model, images, labels))


def _gather(batches: Sequence[_PerImage], count: int) -> _PerImage:
    """The batches of all processes as one, in the order of the images."""
    none = torch.zeros(0, dtype=torch.int64)
    empty = _PerImage(none.double(), none.view(0, 2), none, none.float())
    columns = (torch.cat(column) for column in zip(empty, *batches, strict=True))
    return _PerImage(*(gather_in_order(column, count) for column in columns))


def _class_prior(model: ImageFlow, train: ImageData | None) -> Float[Tensor, " classes"]:
    """log p(y): the shares of the training images, equal ones without them; empty without
    classes."""
    labels = None
    if train is not None and model.config.classes:
        labels = labels_of(model, train, np.arange(len(train)))
    if labels is None:
        return torch.zeros(model.config.classes)
    return (torch.bincount(labels.cpu(), minlength=model.config.classes) / len(labels)).log()


def _likelihoods(
    model: ImageFlow, draws: Iterable[Tensor], labels: Tensor | None, class_prior: Tensor
) -> tuple[Float[Tensor, " batch"], Bool[Tensor, "batch 2"]]:
    """Bits/dim, given the label for a model with classes, and whether the label is right."""
    dims, bits = math.prod(model.config.image_shape), model.config.bits
    if labels is None or not model.config.classes:
        log_prob = torch.stack([model.log_prob(x, labels).cpu().double() for x in draws]).mean(0)
        return bits_per_dim(log_prob, dims, bits), torch.zeros(len(log_prob), 2, dtype=torch.bool)
    labels = labels.cpu()[:, None]
    scores = [torch.stack(model.class_scores(x)).cpu().double() for x in draws]
    by_class, logits = torch.stack(scores).mean(0)
    right = torch.stack([by_class + class_prior, logits], dim=1).argmax(2) == labels
    return bits_per_dim(by_class.gather(1, labels)[:, 0], dims, bits), right


def _round_trip(
    model: ImageFlow, images: Tensor, labels: Tensor | None
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Bytes that change, and the largest error, of each image encoded and decoded."""
    bits = model.config.bits
    x, decoded = round_trip(model, images, labels)
    error = (decoded - x).abs().flatten(1).amax(1).cpu()
    if bits is None:
        return torch.zeros(len(x), dtype=torch.int64), error
    different = quantize(decoded, bits) != quantize(x, bits)
    return different.flatten(1).sum(1).cpu(), error
