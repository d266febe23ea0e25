"""How good a model is: bits/dim beside baselines, accuracies and the round trip."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ..data.inputs import evenly, labels_of, require_kind, with_noise
from ..data.types import ImageData
from ..errors import InputError
from ..models.flow import ImageFlow
from ..models.likelihood import bits_per_dim, quantize
from ..processes import (
    gather_in_order,
    max_over_processes,
    on_main_process,
    process_index,
    shard,
    sum_over_processes,
)
from ..training.health import round_trip
from .baselines import Baseline, gaussian, independent_pixels
from .codecs import png, webp
from .estimate import mean_and_error
from .published import published


@dataclass(frozen=True)
class Evaluation:
    """Figures of one model on one set of images."""

    mean: float
    """Bits per dimension, the mean over images and noise draws."""
    standard_error: float | None
    """Standard error of the mean over the images; None for one image."""
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

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON can hold them."""
        return asdict(self)


@torch.no_grad()
def evaluate(
    model: ImageFlow,
    data: ImageData,
    *,
    train: ImageData,
    draws: int = 1,
    limit: int | None = None,
    batch_size: int = 50,
    seed: int = 0,
    dataset: str = "",
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
        train: images the baselines are fitted on.
        draws: noise draws per image.
        limit: score so many images at most, evenly spread.
        batch_size: images at once; does not change the figures beyond float rounding.
        seed: of the noise.
        dataset: `Splits.dataset`, if the images are its test: chooses the published figures.
        progress: show a bar on stderr.

    Raises:
        InputError: the images do not fit the model, labels are missing, or draws or limit is below
            1.
    """
    if draws < 1 or (limit is not None and limit < 1):
        raise InputError(f"draws is {draws} and limit {limit}: give at least 1 of each.")
    bits = model.config.bits
    require_kind(model, data)
    chosen = evenly(len(data), limit)
    count = len(chosen)
    draws = draws if bits is not None else 1
    prior = _class_prior(model, train)
    figures = [torch.zeros(0, dtype=torch.float64)]
    changed = [torch.zeros(0, dtype=torch.int64)]
    worst = 0.0
    right = torch.zeros(2, dtype=torch.int64)
    mine = shard(chosen)
    hidden = not progress or process_index() > 0
    for start in track(
        range(0, len(mine), batch_size), "evaluating", disable=hidden, console=Console(stderr=True)
    ):
        indices = mine[start : start + batch_size]
        images, labels = torch.from_numpy(data.images[indices]), labels_of(model, data, indices)
        scores = []
        for draw in range(draws):
            x = images if bits is None else with_noise(images, bits, (seed, draw), indices)
            scores.append(_scores(model, x.to(model.device, model.dtype), labels))
        log_prob, by_class = (torch.stack(part).mean(0) for part in zip(*scores, strict=True))
        figures.append(bits_per_dim(log_prob, math.prod(model.config.image_shape), bits))
        if labels is not None:
            by_class[0] += prior
            right += (by_class.argmax(2) == labels.cpu()).sum(1)
        x, decoded = round_trip(model, images, labels)
        worst = max(worst, float((decoded - x).abs().max()))
        if bits is not None:
            seen = quantize(x, bits)
            changed.append((quantize(decoded, bits) != seen).flatten(1).sum(1).cpu())
    per_image = gather_in_order(torch.cat(changed), count if bits is not None else 0)
    mean, standard_error = mean_and_error(gather_in_order(torch.cat(figures), count).numpy())
    (worst,) = max_over_processes(worst)
    scored = data.images[chosen]
    accuracies = (
        (sum_over_processes(right) / count).tolist() if model.config.classes else (None, None)
    )
    baselines = on_main_process(
        lambda: (
            independent_pixels(train.images, scored, bits),
            gaussian(train.images, scored, bits, seed=seed),
            png(scored, bits),
            webp(scored, bits),
        )
    )
    return Evaluation(
        mean=mean,
        standard_error=standard_error,
        images=count,
        draws=draws if bits is not None else 0,
        bits=bits,
        dataset=dataset,
        baselines=baselines,
        published=published(dataset, bits, model.config.classes),
        bayes_accuracy=accuracies[0],
        classifier_accuracy=accuracies[1],
        bytes_compared=scored.size if bits is not None else 0,
        bytes_changed=int(per_image.sum()),
        images_unchanged=int((per_image == 0).sum()),
        largest_error=worst,
    )


def _class_prior(model: ImageFlow, train: ImageData) -> Tensor:
    """log p(y) (classes,): the shares of the training images; empty without classes."""
    labels = labels_of(model, train, np.arange(len(train)))
    if labels is None:
        return torch.zeros(0)
    return (torch.bincount(labels.cpu(), minlength=model.config.classes) / len(labels)).log()


def _scores(model: ImageFlow, x: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """log p(x) or log p(x | label) (batch,), and what says the class (2, batch, classes).

    The latter is log p(x | y) and the classifier's logits. Both are float64 on the CPU.
    """
    if labels is None:
        return model.log_prob(x).cpu().double(), torch.zeros(2, len(x), 0)
    both = torch.stack(model.class_scores(x)).cpu().double()
    return both[0].gather(1, labels.cpu()[:, None])[:, 0], both
