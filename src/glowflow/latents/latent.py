"""What can be done with whitened latents: attribute directions, edits, paths, resampling, PCA."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..checks import require_choice
from ..data.inputs import evenly, labels_of, require_attributes, require_fit
from ..data.types import ImageData
from ..errors import InputError
from ..files import replacing
from ..models.flow import ImageFlow, Latents
from ..processes import (
    gather_in_order,
    max_over_processes,
    process_count,
    process_index,
    shard,
    sum_over_processes,
)

Estimator = Literal["mean", "matched", "linear"]
Curve = Literal["linear", "spherical"]

FULL_AMOUNT = 1.6
"""An amount of 1 moves the code by so many differences of the means (official code)."""
COMPONENTS = 32
"""Principal axes of the covariance that the `linear` estimator uses."""
VANISHED = 1e-6
"""Share of a normal's squared length that has to be left once the held attributes are out."""
FORMAT = "1"

Sizes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Directions:
    """Attribute directions of one model."""

    latents: Mapping[str, Latents]
    """Δε of each attribute, (channels, height, width) a level: an amount of 1 adds it."""
    estimator: Estimator
    model: str
    """`identity` of the model whose latents these are."""
    counts: Mapping[str, tuple[int, int]]
    """Images with and without each attribute."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why other attributes have no direction."""
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The other attributes that are kept equal; empty for `mean`."""
    imbalance: Mapping[str, float] = field(default_factory=dict)
    """Of `matched`: in how many held attributes the two images of a pair differ, on average."""
    source: str = ""
    """The images, in words."""


def identity(model: ImageFlow) -> str:
    """SHA-256 of the configuration and of every weight: another model has another one."""
    digest = hashlib.sha256(json.dumps(asdict(model.config), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def flatten(latents: Latents) -> Float[Tensor, "batch D"]:
    """All levels of each code in one row, first level first."""
    return torch.cat([eps.flatten(1) for eps in latents], dim=1)


def unflatten(rows: Float[Tensor, "batch D"], shapes: Sizes) -> Latents:
    """The inverse of `flatten`, for latents of these shapes without the batch."""
    parts = torch.split(rows, [math.prod(shape) for shape in shapes], dim=1)
    return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True))


@torch.no_grad()
def encoded(
    model: ImageFlow,
    data: ImageData,
    indices: NDArray[np.int64],
    *,
    batch_size: int = 50,
    title: str = "encoding",
    progress: bool = True,
) -> Iterator[tuple[NDArray[np.int64], Float[Tensor, "batch D"]]]:
    """Encode images batch by batch, at the centre of each byte's bin.

    Yields:
        The indices of the batch, and its codes as float64 rows (`flatten`) on the CPU.

    Raises:
        InputError: the images do not fit the model, or it has classes and they have no labels.
    """
    require_fit(model, data)
    starts = range(0, len(indices), batch_size)
    for start in track(starts, title, disable=not progress, console=Console(stderr=True)):
        some = indices[start : start + batch_size]
        x = model.to_float(torch.from_numpy(data.images[some]), noise="center").to(model.device)
        yield some, flatten(model.encode(x, labels_of(model, data, some))).double().cpu()


class WeightedSums:
    """Σ_n w_nᵀ ε_n (K, D), a batch at a time: each direction is such a sum, with known weights.

    Args:
        count: K.
        size: D.
    """

    def __init__(self, count: int, size: int) -> None:
        self.sums = torch.zeros(count, size, dtype=torch.float64)

    def update(self, weights: Float[Tensor, "batch K"], rows: Float[Tensor, "batch D"]) -> None:
        """Add a batch."""
        self.sums += weights.double().T @ rows.double()


class RunningPCA:
    """Mean and principal axes of rows that are seen a batch at a time, in O(components·D) memory.

    Keeps the scatter matrix as S V with V (k, D) orthonormal; a batch X of m rows with mean x̄
    joins n rows with mean μ by the singular vectors of
    [S V; X − x̄; √(nm/(n+m))·(μ − x̄)], cut to 2·components + 16 rows. Exact while the rows seen, or
    D, are not more than that; otherwise what is cut off is the smallest.

    Source: Ross, Lim, Lin & Yang 2008, "Incremental learning for robust visual tracking".

    Args:
        components: axes wanted.

    Raises:
        InputError: components is below 1.
    """

    def __init__(self, components: int) -> None:
        if components < 1:
            raise InputError(f"components is {components}: ask for at least 1.")
        self.wanted = components
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.total_scatter = 0.0
        self._scaled = torch.zeros(0, 0, dtype=torch.float64)

    def update(self, rows: Float[Tensor, "batch D"]) -> None:
        """Add a batch."""
        rows = rows.double()
        centred = rows - rows.mean(0)
        self._join(len(rows), rows.mean(0), centred, float(centred.square().sum()))

    def add_up(self) -> None:
        """Join what each process has seen; all of them then know the same."""
        if process_count() == 1:
            return
        size = int(max_over_processes(self._scaled.shape[1])[0])
        mine = torch.zeros(self._most + 1, size, dtype=torch.float64)
        if self.count:
            mine[: len(self._scaled)], mine[-1] = self._scaled, self.mean
        facts = torch.tensor([[self.count, self.total_scatter]], dtype=torch.float64)
        rows = gather_in_order(mine, process_count() * len(mine)).view(
            len(mine), process_count(), size
        )
        counts = gather_in_order(facts, process_count())
        self.count, self.total_scatter = 0, 0.0
        for (count, scatter), of_one in zip(counts.tolist(), rows.unbind(1), strict=True):
            if count:
                self._join(int(count), of_one[-1], of_one[:-1], scatter)

    def _join(self, m: int, mean: Tensor, scaled: Tensor, scatter: float) -> None:
        """Add m rows by their mean, and by rows with their scatter matrix and its trace."""
        n = self.count
        parts = [scaled]
        if n:
            between = math.sqrt(n * m / (n + m)) * (self.mean - mean)[None]
            parts = [self._scaled, scaled, between]
            scatter += float(between.square().sum())
            mean = self.mean + (mean - self.mean) * (m / (n + m))
        self.count, self.mean = n + m, mean
        self.total_scatter += scatter
        stacked = torch.cat(parts)
        _, vectors = torch.linalg.eigh(stacked @ stacked.T)
        self._scaled = vectors.flip(1)[:, : self._most].T @ stacked

    @property
    def _most(self) -> int:
        """Rows that are kept."""
        return 2 * self.wanted + 16

    @property
    def scatters(self) -> Float[Tensor, " k"]:
        """Σ of the squares along each axis, largest first."""
        return self._scaled.square().sum(1)[: self._found]

    @property
    def _found(self) -> int:
        return max(0, min(self.wanted, self.count - 1, len(self._scaled)))

    @property
    def components(self) -> Float[Tensor, "k D"]:
        """Orthonormal axes, largest variance first; the largest entry of each is positive."""
        scaled = self._scaled[: self._found]
        axes = scaled / scaled.norm(dim=1, keepdim=True).clamp_min(1e-300)
        largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
        return axes * torch.sign(largest)

    @property
    def variances(self) -> Float[Tensor, " k"]:
        """Variance along each axis (÷ n − 1)."""
        return self.scatters / max(1, self.count - 1)

    @property
    def total_variance(self) -> float:
        """Sum of the variances of all D coordinates."""
        return self.total_scatter / max(1, self.count - 1)

    @property
    def shares(self) -> Float[Tensor, " k"]:
        """Explained variance of each axis, as a share of all."""
        return self.variances / max(self.total_variance, 1e-300)


def discriminant(differences: Float[Tensor, "A D"], pca: RunningPCA) -> Float[Tensor, "A D"]:
    """w = Σ⁻¹ Δμ: normals of regularised linear discriminants, one a row of Δμ.

    Σ is the covariance along the principal axes, and along all others the mean of what is left, so
    that it can be inverted from fewer images than dimensions. It is the total covariance, which
    gives the same normal as the one within the classes, up to its length.
    """
    axes, variances = pca.components, pca.variances
    rest = max(pca.total_variance - float(variances.sum()), 0.0)
    floor = rest / max(1, differences.shape[1] - len(axes))
    floor = max(floor, 1e-6 * pca.total_variance / differences.shape[1], 1e-12)
    along = differences.double() @ axes.T
    return (
        differences.double() / floor + (along * (1 / variances.clamp_min(floor) - 1 / floor)) @ axes
    )


def estimate_directions(
    model: ImageFlow,
    data: ImageData,
    *,
    estimator: Estimator = "mean",
    names: Sequence[str] | None = None,
    minimum: int = 10,
    limit: int | None = None,
    batch_size: int = 50,
    source: str = "",
    progress: bool = True,
) -> Directions:
    """A direction in latent space for each attribute, over all levels, in one pass.

    `mean`: Δε = 1.6·(mean ε of images with it − mean ε of images without it), as published.

    `matched`: the same over pairs. Each image of the smaller side is paired with all images of the
    other side that differ in the fewest held attributes, so that the two sides have the same
    share of each.

    `linear`: the normal Σ⁻¹Δμ of a regularised linear discriminant (`discriminant`), less its part
    in the span of what the held attributes do to ε (their coefficients in the least-squares fit
    of ε by the attribute and the held ones); as long as it takes to change the classifier's score
    by as much as 1.6·Δμ does.

    Held are the other attributes that can be: all four combinations with the attribute occur at
    least `minimum` times. Hair that is black is never blond.

    Memory is some dozen rows of D for an attribute; the codes are never kept.

    Args:
        model: in eval mode.
        data: images with attributes.
        estimator: `mean`, `matched` or `linear`.
        names: attributes to find; by default all that can be.
        minimum: images that each side needs.
        limit: use so many images at most, evenly spread.
        batch_size: images at once; does not change the directions beyond float rounding.
        source: the images, in words.
        progress: show a bar on stderr.

    Raises:
        InputError: the images have no attributes, a name is unknown or has too few images on a
            side, or no attribute has enough.
    """
    found = estimate_by_each(
        model,
        data,
        (estimator,),
        names=names,
        minimum=minimum,
        limit=limit,
        batch_size=batch_size,
        source=source,
        progress=progress,
    )
    return found[estimator]


def estimate_by_each(
    model: ImageFlow,
    data: ImageData,
    estimators: Sequence[Estimator],
    *,
    names: Sequence[str] | None = None,
    minimum: int = 10,
    limit: int | None = None,
    batch_size: int = 50,
    source: str = "",
    progress: bool = True,
) -> dict[Estimator, Directions]:
    """`estimate_directions` by each of several estimators, in one pass over the images.

    Where a launcher has started several processes, each encodes its share of the images, and all
    of them return the same.

    Args: as `estimate_directions`.

    Raises:
        InputError: as `estimate_directions`.
    """
    for estimator in estimators:
        require_choice("estimator", estimator, Estimator)
    all_attributes = require_attributes(data, names or ())
    if minimum < 1:
        raise InputError(f"minimum is {minimum}: a side needs at least 1 image.")
    indices = evenly(len(data), limit)
    attributes = np.asarray(all_attributes[indices])
    count = len(attributes)
    positive = attributes.sum(0)
    usable, too_few = [], {}
    for column, name in enumerate(data.attribute_names):
        with_it = int(positive[column])
        if min(with_it, count - with_it) >= minimum:
            usable.append(column)
            continue
        reason = (
            f"{name} is true of {with_it:,} and false of {count - with_it:,} images: "
            f"at least {minimum} of each are needed"
        )
        if name in (names or ()):
            raise InputError(f"{reason}.")
        too_few[name] = reason
    if not usable:
        raise InputError(f"No attribute can be used: {next(iter(too_few.values()))}.")
    held = held_attributes(attributes, usable, minimum)
    pairs: list[Pairs] = []
    if "matched" in estimators:
        pairs = [match(attributes[:, a], attributes[:, held[a]]) for a in usable]
    centred = attributes[:, usable] - attributes[:, usable].mean(0)
    weights = {
        estimator: np.stack([of_one.weights for of_one in pairs], axis=1)
        if estimator == "matched"
        else centred
        for estimator in estimators
    }
    size = sum(map(math.prod, model.latent_shapes))
    sums = {estimator: WeightedSums(len(usable), size) for estimator in estimators}
    pca = RunningPCA(COMPONENTS)
    at = {int(index): row for row, index in enumerate(indices)}
    visible = progress and process_index() == 0
    batches = encoded(model, data, shard(indices), batch_size=batch_size, progress=visible)
    for some, rows in batches:
        of_batch = [at[int(i)] for i in some]
        for estimator, total in sums.items():
            total.update(torch.from_numpy(weights[estimator][of_batch]), rows)
        if "linear" in estimators:
            pca.update(rows)
    pca.add_up()
    own = identity(model)
    every: dict[Estimator, Directions] = {}
    for estimator, total in sums.items():
        found, refused = sum_over_processes(total.sums), dict(too_few)
        if estimator == "mean":
            found = found / torch.from_numpy(centred).square().sum(0)[:, None]
        if estimator == "linear":
            found, vanished = _normals(found, centred, usable, held, pca)
            for row in vanished:
                name = data.attribute_names[usable[row]]
                reason = f"{name} cannot be told from the attributes that are held"
                if name in (names or ()):
                    raise InputError(f"{reason}: use the estimator mean or matched.")
                refused[name] = reason
        kept = {
            name: row
            for row, name in enumerate(data.attribute_names[column] for column in usable)
            if name not in refused and (names is None or name in names)
        }
        if not kept:
            raise InputError(f"No attribute can be used: {next(iter(refused.values()))}.")
        every[estimator] = Directions(
            latents={
                name: tuple(
                    eps[0].float()
                    for eps in unflatten(FULL_AMOUNT * found[row : row + 1], model.latent_shapes)
                )
                for name, row in kept.items()
            },
            estimator=estimator,
            model=own,
            counts={
                name: (int(positive[usable[row]]), count - int(positive[usable[row]]))
                for name, row in kept.items()
            },
            refused=refused,
            held={
                name: ()
                if estimator == "mean"
                else tuple(data.attribute_names[b] for b in held[usable[row]])
                for name, row in kept.items()
            },
            imbalance={name: pairs[row].imbalance for name, row in kept.items()}
            if estimator == "matched"
            else {},
            source=source,
        )
    return every


def held_attributes(
    attributes: NDArray[np.bool_], usable: Sequence[int], minimum: int
) -> dict[int, list[int]]:
    """For each usable attribute, the others that vary with it and without it.

    All four combinations of the two occur at least `minimum` times.
    """
    true = attributes.astype(np.float64)
    false = 1 - true
    smallest = np.min([a.T @ b for a in (true, false) for b in (true, false)], axis=0)
    return {a: [b for b in usable if b != a and smallest[a, b] >= minimum] for a in usable}


@dataclass(frozen=True)
class Pairs:
    """Images of two sides, weighted so that the sides are alike."""

    weights: NDArray[np.float64]
    """(N,): the difference of the sides is Σ w_n ε_n; sums to 1 with, to −1 without."""
    imbalance: float
    """Mean number of other attributes in which a pair differs."""


def match(side: NDArray[np.bool_], others: NDArray[np.bool_]) -> Pairs:
    """Pair each image of the smaller side with the most alike ones of the other side.

    Args:
        side: (N,) which side an image is on; each has at least one.
        others: (N, B) what the two of a pair should agree on.
    """
    few = side if side.sum() <= (~side).sum() else ~side
    patterns, of_image = np.unique(others, axis=0, return_inverse=True)
    of_image = of_image.reshape(-1)
    in_few = np.bincount(of_image[few], minlength=len(patterns))
    in_many = np.bincount(of_image[~few], minlength=len(patterns))
    wanted, there = np.flatnonzero(in_few), np.flatnonzero(in_many)
    share = np.zeros(len(patterns))
    differing = 0.0
    values = patterns.astype(np.float32)
    for start in range(0, len(wanted), 1024):
        some = wanted[start : start + 1024]
        a, b = values[some], values[there]
        distance = a.sum(1)[:, None] + b.sum(1)[None] - 2 * a @ b.T
        nearest = distance.min(1, keepdims=True)
        close = (distance < nearest + 0.5) * in_many[there]
        share[there] += (in_few[some][:, None] * close / close.sum(1, keepdims=True)).sum(0)
        differing += float((nearest[:, 0] * in_few[some]).sum())
    total = few.sum()
    weights = np.where(few, 1 / total, -(share / np.maximum(in_many, 1) / total)[of_image])
    return Pairs(weights if few is side else -weights, differing / float(total))


def _normals(
    sums: Float[Tensor, "A D"],
    weights: NDArray[np.float64],
    usable: Sequence[int],
    held: Mapping[int, Sequence[int]],
    pca: RunningPCA,
) -> tuple[Float[Tensor, "A D"], list[int]]:
    """Normals less what the held attributes do, and the rows of which nothing is left."""
    covariance = torch.from_numpy(weights.T @ weights)
    differences = sums / covariance.diagonal()[:, None]
    normals = discriminant(differences, pca)
    vanished = []
    for row, column in enumerate(usable):
        normal, difference = normals[row].clone(), differences[row]
        score = normal @ difference
        others = [usable.index(b) for b in held[column]]
        if others:
            both = [row, *others]
            inverse = torch.linalg.pinv(covariance[both][:, both], rtol=1e-8, hermitian=True)
            effects = (inverse @ sums[both])[1:]
            gram = effects @ effects.T
            along = torch.linalg.pinv(gram, rtol=1e-8, hermitian=True) @ (effects @ normal)
            rest = normal - along @ effects
        else:
            rest = normal
        moved = normal @ rest
        if moved <= VANISHED * normal.square().sum():
            vanished.append(row)
        normals[row] = rest * (score / moved.clamp_min(1e-300))
    return normals, vanished


def save_directions(path: Path, directions: Directions) -> None:
    """Write a safetensors file: `ATTRIBUTE.LEVEL` is Δε of a level, the rest is in the metadata.

    Raises:
        InputError: the folder cannot be written.
    """
    tensors = {
        f"{name}.{level}": eps.contiguous()
        for name, latents in directions.latents.items()
        for level, eps in enumerate(latents, start=1)
    }
    metadata = {
        "format": FORMAT,
        "kind": "glowflow directions",
        "model": directions.model,
        "estimator": directions.estimator,
        "source": directions.source,
        "attributes": json.dumps(list(directions.latents)),
        "counts": json.dumps(dict(directions.counts)),
        "refused": json.dumps(dict(directions.refused)),
        "held": json.dumps(dict(directions.held)),
        "imbalance": json.dumps(dict(directions.imbalance)),
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_directions(path: Path, model: ImageFlow) -> Directions:
    """Read the directions of this model.

    Raises:
        InputError: there is no such file, it is damaged or another kind of file, or its directions
            are another model's.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}: make one with glow directions.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != "glowflow directions" or metadata.get("format") != FORMAT:
                raise InputError(
                    f"{path} does not hold directions of format {FORMAT}: "
                    "make it with glow directions."
                )
            if metadata["model"] != identity(model):
                raise InputError(
                    f"The directions in {path} are of another model: make them for this one with "
                    "glow directions."
                )
            levels = range(1, len(model.latent_shapes) + 1)
            latents = {
                name: tuple(file.get_tensor(f"{name}.{level}") for level in levels)
                for name in json.loads(metadata["attributes"])
            }
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"Cannot read {path}: it is damaged or not safetensors ({error}); "
            "make it again with glow directions."
        ) from error
    return Directions(
        latents=latents,
        estimator=metadata["estimator"],
        model=metadata["model"],
        counts={name: (a, b) for name, (a, b) in json.loads(metadata["counts"]).items()},
        refused=json.loads(metadata["refused"]),
        held={name: tuple(others) for name, others in json.loads(metadata["held"]).items()},
        imbalance=json.loads(metadata["imbalance"]),
        source=metadata["source"],
    )


def edit(
    latents: Latents,
    directions: Sequence[Latents],
    amounts: Sequence[float],
    *,
    temperature: float = 1.0,
) -> Latents:
    """ε' = ε − (1 − T)·P ε + Σ_i α_i Δε_i.

    P projects on the span of the directions whose amount is not 0: the part of the code that the
    edit moves. Its temperature T multiplies what the image has of it already, before the amounts
    are added. 1 is the published edit, relative to the image; with 0 every image ends at the same
    place along the directions, whatever it had; the rest of the code is kept in any case. Amounts
    that are all 0 return the latents themselves, at any temperature.

    Args:
        latents: codes, (batch, channels, height, width) a level.
        directions: Δε of each attribute, (channels, height, width) a level.
        amounts: α of each; the published range is −1 to 1.
        temperature: T, 0 or more.

    Raises:
        InputError: there is not one amount a direction, or the temperature is negative.
    """
    if len(directions) != len(amounts):
        raise InputError(
            f"There are {len(directions)} attributes and {len(amounts)} amounts: "
            "give one amount an attribute."
        )
    if not temperature >= 0 or not all(map(math.isfinite, amounts)):
        raise InputError(
            f"The temperature is {temperature} and the amounts are {list(amounts)}: "
            "give a temperature of 0 or more, and finite amounts."
        )
    moving = [(d, a) for d, a in zip(directions, amounts, strict=True) if a != 0]
    if not moving:
        return latents
    shapes = [tuple(eps.shape[1:]) for eps in latents]
    rows = flatten(latents)
    axes = torch.stack([torch.cat([eps.flatten() for eps in d]) for d, _ in moving]).to(rows)
    moved = rows + torch.tensor([a for _, a in moving]).to(rows) @ axes
    if temperature != 1:
        basis = torch.linalg.qr(axes.double().T)[0]
        moved = moved - (1 - temperature) * (rows.double() @ basis @ basis.T).to(rows)
    return unflatten(moved, shapes)


def interpolate(a: Latents, b: Latents, t: float, curve: Curve = "linear") -> Latents:
    """The code at t between two: t = 0 is a, t = 1 is b, level by level.

    `linear`: (1 − t)·a + t·b, as published. Between independent codes its length falls to 1/√2 in
    the middle, below what the model was trained on.

    `spherical`: at each level the angle θ between a and b and the length change uniformly,
    ((1 − t)|a| + t|b|)·(sin((1 − t)θ)·â + sin(tθ)·b̂)/sin θ (Shoemake 1985); codes of the same
    length keep it.

    Args:
        a: (batch, channels, height, width) a level.
        b: the same.
        t: 0 to 1.
        curve: `linear` or `spherical`.

    Raises:
        InputError: there is no such curve.
    """
    require_choice("curve", curve, Curve)
    if t == 0 or t == 1:
        return b if t else a
    if curve == "linear":
        return tuple((1 - t) * p + t * q for p, q in zip(a, b, strict=True))
    return tuple(_slerp(p, q, t) for p, q in zip(a, b, strict=True))


def _slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    p, q = a.flatten(1).double(), b.flatten(1).double()
    long_p, long_q = p.norm(dim=1, keepdim=True), q.norm(dim=1, keepdim=True)
    unit_p, unit_q = p / long_p.clamp_min(1e-12), q / long_q.clamp_min(1e-12)
    angle = (unit_p * unit_q).sum(1, keepdim=True).clamp(-1, 1).arccos()
    sine = angle.sin()
    turned = (((1 - t) * angle).sin() * unit_p + (t * angle).sin() * unit_q) / sine
    between = ((1 - t) * long_p + t * long_q) * turned
    # Codes on one line, or without length, have no plane to turn in.
    on_a_line = (sine < 1e-6) | (long_p * long_q == 0)
    return torch.where(on_a_line, (1 - t) * p + t * q, between).reshape(a.shape).to(a)


def resample_level(latents: Latents, level: int, *, seed: int, temperature: float = 1.0) -> Latents:
    """Draw one level's ε from N(0, T²·I) and keep the others: what lives at that level.

    Args:
        latents: codes.
        level: 1 is the first, of the finest details; the last is the coarsest.
        seed: of the noise.
        temperature: T, its standard deviation.

    Raises:
        InputError: there is no such level, or the temperature is negative.
    """
    if not 1 <= level <= len(latents):
        raise InputError(f"level is {level}: this model has the levels 1 to {len(latents)}.")
    if not temperature >= 0:
        raise InputError(f"temperature is {temperature}: give 0 or more.")
    generator = torch.Generator().manual_seed(seed)
    noise = temperature * torch.randn(latents[level - 1].shape, generator=generator)
    new = noise.to(latents[level - 1])
    return (*latents[: level - 1], new, *latents[level:])
