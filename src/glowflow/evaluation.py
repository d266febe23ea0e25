"""How good a model is: bits per dimension beside baselines, the round trip, nearest images."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from .baselines import Baseline, gaussian, independent_pixels, mean_and_error, png, webp
from .data import ImageData
from .errors import InputError
from .flow import ImageFlow
from .likelihood import dequantize, quantize


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
    baselines: tuple[Baseline, ...]
    """The same images, by simpler models and by codecs."""
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
    progress: bool = True,
) -> Evaluation:
    """Bits/dim, its baselines and the round trip, all on the same images.

    The figure is an upper bound on −log₂ P(image) / D by uniform dequantisation: the mean of
    `draws` noise draws. The noise of an image depends on the seed, the draw and its index alone.
    The round trip encodes the centre of each byte's bin.

    Args:
        model: in eval mode.
        data: images to score.
        train: images the baselines are fitted on.
        draws: noise draws per image.
        limit: score so many images at most, evenly spread.
        batch_size: images at once; does not change the figures beyond float rounding.
        seed: of the noise.
        progress: show a bar on stderr.

    Raises:
        InputError: the images do not fit the model, or draws or limit is below 1.
    """
    if draws < 1 or (limit is not None and limit < 1):
        raise InputError(f"draws is {draws} and limit {limit}: give at least 1 of each.")
    bits = model.config.bits
    if (bits is None) != (data.images.dtype != np.uint8):
        kind = "float data" if bits is None else "uint8 images"
        raise InputError(f"The model is for {kind}, and the data are {data.images.dtype}.")
    count = min(len(data), limit or len(data))
    chosen = np.linspace(0, len(data) - 1, count).round().astype(int)
    draws = draws if bits is not None else 1
    figures, errors, changed = [], [0.0], []
    batch_starts = range(0, count, batch_size)
    for start in track(
        batch_starts, "evaluating", disable=not progress, console=Console(stderr=True)
    ):
        indices = chosen[start : start + batch_size]
        images, labels = _take(model, data, indices)
        total = np.zeros(len(indices))
        for draw in range(draws):
            x = images if bits is None else _with_noise(images, bits, (seed, draw), indices)
            log_prob = model.log_prob(x.to(model.device, model.dtype), labels).double().cpu()
            total += log_prob.numpy()
        dims = math.prod(model.config.image_shape)
        figures.append(-total / draws / (dims * math.log(2)) + (bits or 0))
        x, decoded = round_trip(model, images, labels)
        errors.append(float((decoded - x).abs().max()))
        if bits is not None:
            seen = quantize(x, bits)
            changed.append((quantize(decoded, bits) != seen).flatten(1).sum(1).cpu())
    per_image = torch.cat(changed) if changed else torch.zeros(0, dtype=torch.int64)
    mean, standard_error = mean_and_error(np.concatenate(figures))
    scored = data.images[chosen]
    return Evaluation(
        mean=mean,
        standard_error=standard_error,
        images=count,
        draws=draws if bits is not None else 0,
        bits=bits,
        baselines=(
            independent_pixels(train.images, scored, bits),
            gaussian(train.images, scored, bits, seed=seed),
            png(scored, bits),
            webp(scored, bits),
        ),
        bytes_compared=scored.size if bits is not None else 0,
        bytes_changed=int(per_image.sum()),
        images_unchanged=int((per_image == 0).sum()),
        largest_error=max(errors),
    )


def table(evaluation: Evaluation) -> Table:
    """The model among its baselines, best first, for the terminal."""
    unit = "differential " if evaluation.bits is None else ""
    shown = Table(
        title=f"{unit}bits/dim of {evaluation.images} held-out images", title_justify="left"
    )
    for column, justify in (("", "left"), ("bits/dim", "right"), ("±", "right"), ("", "left")):
        shown.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in ranked(evaluation):
        value = "–" if row.mean is None else f"{row.mean:.3f}"
        error = "" if row.standard_error is None else f"{row.standard_error:.3f}"
        style = "bold" if row.name == MODEL else None
        shown.add_row(row.name, value, error, row.note, style=style)
    return shown


MODEL = "This model"


def ranked(evaluation: Evaluation) -> list[Baseline]:
    """The model and its baselines, lowest bits/dim first, what does not apply last."""
    draws = f"{evaluation.draws} noise draw{'s' if evaluation.draws != 1 else ''} per image"
    note = draws if evaluation.bits is not None else "float data: depends on the unit"
    own = Baseline(MODEL, evaluation.mean, evaluation.standard_error, note)
    return sorted(
        (own, *evaluation.baselines), key=lambda b: math.inf if b.mean is None else b.mean
    )


def figure(evaluation: Evaluation) -> str:
    """The model's bits/dim with its standard error, where there is one."""
    error = evaluation.standard_error
    return f"{evaluation.mean:.3f}" + ("" if error is None else f" ± {error:.3f}")


def round_trip(
    model: ImageFlow, images: Tensor, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """x at the centre of each byte's bin (float data as it is), and decode(encode(x))."""
    x = model.to_float(images, noise="center").to(model.device)
    return x, model.decode(model.encode(x, labels), labels)


def round_trip_sentence(evaluation: Evaluation) -> str:
    """What came back, in words."""
    error = f"largest float error {evaluation.largest_error:.1e}"
    if evaluation.bits is None:
        return f"{error} over {evaluation.images} images"
    if not evaluation.bytes_changed:
        total = f"all {evaluation.bytes_compared:,} bytes of {evaluation.images} images"
        return f"{total} unchanged; {error}"
    return (
        f"{evaluation.bytes_changed:,} of {evaluation.bytes_compared:,} bytes changed, "
        f"{evaluation.images_unchanged} of {evaluation.images} images unchanged; {error}"
    )


def nearest(
    images: NDArray[Any], among: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest of `among` (M, C, H, W) to each image (N, C, H, W), by root mean square.

    Returns:
        Indices (N,) into `among`, and the distances (N,), in units of the values.
    """
    flat = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32))
    best = torch.full((len(images),), math.inf)
    index = torch.zeros(len(images), dtype=torch.int64)
    for start, chunk in _chunks(among):
        other = torch.from_numpy(chunk.reshape(len(chunk), -1).astype(np.float32))
        closest = torch.cdist(flat, other).min(dim=1)
        better = closest.values < best
        best = torch.where(better, closest.values, best)
        index = torch.where(better, closest.indices + start, index)
    return index.numpy(), best.double().numpy() / flat.shape[1] ** 0.5


def _chunks(images: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    for start in range(0, len(images), 1024):
        yield start, images[start : start + 1024]


def _take(
    model: ImageFlow, data: ImageData, indices: NDArray[np.int64]
) -> tuple[Tensor, Tensor | None]:
    images = torch.from_numpy(data.images[indices])
    if not model.config.classes:
        return images, None
    if data.labels is None:
        raise InputError("The model has classes, and the data have no labels: give labelled data.")
    return images, torch.from_numpy(data.labels[indices]).to(model.device)


def _with_noise(
    images: Tensor, bits: int, seed: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Dequantise each image with the noise of its own index, whatever batch it is in."""
    noisy = []
    for image, index in zip(images, indices.tolist(), strict=True):
        state = np.random.SeedSequence((*seed, index)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]) % 2**63)
        noisy.append(dequantize(image[None], bits, generator=generator))
    return torch.cat(noisy)
