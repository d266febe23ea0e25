"""Arrays of NumPy files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, in_one_line
from ...photos.images import refit, to_bytes, values_of
from ..config import DataConfig
from ..grids import end_of, other_grid, require_floats, with_channels
from ..types import TEST, TRAIN, VALID, Source
from .folder import MOST_CLASSES, natural

IMAGE_NAMES = ("images", "image", "imgs", "x", "data", "arr_0", "photos", "pictures")
"""What arrays of images are called, the likeliest first."""
LABEL_NAMES = ("labels", "label", "y", "targets", "target", "classes")
PARTS = {
    "train": TRAIN, "training": TRAIN, "val": VALID, "valid": VALID, "validation": VALID,
    "test": TEST, "testing": TEST,
}  # fmt: skip
LOOKED_AT = 200
"""Images of a float array that are looked at for whether they were bytes once."""


@dataclass(frozen=True)
class Found:
    """The arrays of a file that belong together."""

    layout: str
    images: tuple[NDArray[Any], ...]
    """Of each part."""
    labels: tuple[NDArray[Any] | None, ...]
    parts: tuple[int, ...] | None = None
    """What each is for; None where the file has no parts."""


def array_source(path: Path, config: DataConfig) -> Source:
    """Images of an .npy or .npz file.

    An .npz file has one array of images and, if it likes, `labels` (or y, targets, …), or parts of
    its own as Keras' files (`x_train`, `y_train`, …) and MedMNIST's (`train_images`, …). Of several
    that may be the images, `array` names one. Axes may be (N, H, W), (N, C, H, W) or
    (N, H, W, C); `layout` says which where both can be. uint8 arrays are bytes of images, and so
    are other integers from 0 to 255; larger ones need `source_range`. Float arrays become
    `config.dtype` and are neither scaled nor dequantised. Labels are whole numbers, truth values,
    text, or one column a class: their distinct values are the classes. Several columns of 0 and 1
    are attributes.

    Raises:
        InputError: the file is damaged, or an array is of another type or shape, or empty, or has
            values that are not finite, or it cannot be told what it is.
    """
    found = _find(path, _load(path), config)
    notes: list[str] = []
    parts = [_axes(images, path, config, notes) for images in found.images]
    if len({(images.shape[1:], images.dtype) for images in parts}) > 1:
        shapes = ", ".join(f"{images.dtype} {images.shape[1:]}" for images in parts)
        raise InputError(f"The parts of {path} have images of {shapes}: give them one shape.")
    some = parts[0]
    scale = _scale(parts, path, config, notes)
    is_float = np.issubdtype(some.dtype, np.floating)
    native = some.shape[1:]
    shape = (config.channels or native[0], *(config.size or native[1:]))
    if is_float:
        for images in parts:
            _require_finite(images, path, config.dtype)
        _note_bytes(some, path, notes)
    if shape != native and (is_float or native[0] not in (1, 3, 4)):
        raise InputError(
            f"The array in {path} has images of shape {native} and {shape} is asked for: "
            "only images of bytes with 1, 3 or 4 channels can be converted."
        )
    starts = np.cumsum([0, *map(len, parts)])
    attributes = _attributes(found, parts, path, notes)
    labels, class_names = (
        (None, ()) if attributes is not None else _labels(found, parts, path, notes)
    )

    def read(index: int) -> NDArray[Any]:
        part = int(np.searchsorted(starts, index, side="right")) - 1
        image = parts[part][index - starts[part]]
        if is_float:
            return image.astype(config.dtype)
        values = image if scale is None else to_bytes(image, scale)
        return refit(values.astype(np.uint8), shape, config.fit, config.upscale, f"{path}[{index}]")

    count = int(starts[-1])
    return Source(
        title=str(path.name),
        shape=shape,
        dtype=config.dtype if is_float else "uint8",
        names=tuple(map(str, range(count))),
        read=read,
        labels=labels,
        class_names=class_names,
        attributes=attributes,
        attribute_names=() if attributes is None else tuple(map(str, range(attributes.shape[1]))),
        partition=None if found.parts is None else np.repeat(found.parts, np.diff(starts)),
        layout=found.layout,
        notes=tuple(notes),
        values_inside=None if is_float else values_of(native[1:], shape, config.fit, count),
    )


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the file by name; that of an .npy file is called `arr_0`."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"arr_0": loaded}
        with loaded:
            members = {name: loaded[name] for name in loaded.files}
            return {name: each for name, each in members.items() if isinstance(each, np.ndarray)}
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into memory: save its images as an .npy file, which is read from "
            "the disk."
        ) from error
    except Exception as error:  # what damaged headers make of zipfile, zlib and ast
        said = in_one_line(error)
        raise InputError(
            f"Cannot read {path}: it is damaged, or holds Python objects ({said[:200]}); "
            "save a plain array with numpy.save."
        ) from error


def _find(path: Path, arrays: dict[str, NDArray[Any]], config: DataConfig) -> Found:
    """Which arrays are the images, and which their labels.

    Raises:
        InputError: several may be, or none.
    """
    if not arrays:
        raise InputError(f"{path} has no array in it.")
    told = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
    if config.array is not None:
        if config.array not in arrays:
            raise InputError(f"{path} has no array {config.array!r}: it has {told}.")
        return _plain(path, arrays, config.array)
    if (found := _in_parts(arrays)) is not None:
        return found
    if len(arrays) == 1:
        return _plain(path, arrays, next(iter(arrays)))
    candidates = [name for name, array in arrays.items() if array.ndim in (3, 4)]
    if len(candidates) == 1:
        return _plain(path, arrays, candidates[0])
    if not candidates:
        raise InputError(
            f"{path} has no array of images, which have 3 or 4 axes: it has {told}; give one of "
            "them with --array."
        )
    raise InputError(
        f"{path} has several arrays that may be the images ({told}): say which with --array NAME, "
        "or --target NAME."
    )


def _plain(path: Path, arrays: dict[str, NDArray[Any]], name: str) -> Found:
    others = {other.lower(): array for other, array in arrays.items() if other != name}
    labels = next((others[each] for each in LABEL_NAMES if each in others), None)
    for part in _named_parts(arrays).values():
        if part.get("images") == name and "labels" in part:
            labels = arrays[part["labels"]]
    layout = "array" if path.suffix.lower() == ".npy" else "npz"
    return Found(layout, (arrays[name],), (labels,))


def _in_parts(arrays: dict[str, NDArray[Any]]) -> Found | None:
    """Keras' and MedMNIST's names, and others of that form."""
    named = {part: some for part, some in _named_parts(arrays).items() if "images" in some}
    if not named:
        return None
    order = sorted(named)
    first, *_ = _words(named[order[0]]["images"])
    return Found(
        "npz (MedMNIST)" if first in PARTS else "npz (Keras)",
        tuple(arrays[named[part]["images"]] for part in order),
        tuple(arrays[named[part]["labels"]] if "labels" in named[part] else None for part in order),
        tuple(order),
    )


def _named_parts(arrays: dict[str, NDArray[Any]]) -> dict[int, dict[str, str]]:
    """Names of the `images` and the `labels` of each part; none where two are the same."""
    found: dict[int, dict[str, str]] = {}
    for name in arrays:
        words = _words(name)
        parts = [PARTS[word] for word in words if word in PARTS]
        kinds = [
            kind
            for kind, known in (("images", IMAGE_NAMES), ("labels", LABEL_NAMES))
            for word in words
            if word in known
        ]
        if len(words) != 2 or len(parts) != 1 or len(kinds) != 1:
            continue
        if kinds[0] in found.setdefault(parts[0], {}):
            return {}
        found[parts[0]][kinds[0]] = name
    return found


def _words(name: str) -> list[str]:
    return name.lower().replace("-", "_").split("_")


def _axes(images: NDArray[Any], path: Path, config: DataConfig, notes: list[str]) -> NDArray[Any]:
    """(N, C, H, W), as a view; or floats (N, C, *grid)."""
    if images.dtype.kind not in "iufb":
        raise InputError(
            f"The array in {path} is {images.dtype}: give uint8 images (0 to 255) or floats."
        )
    if config.grid in (1, 3) or (images.dtype.kind == "f" and images.ndim in (2, 5)):
        what = f"The array in {path}"
        if 0 in images.shape:
            raise InputError(f"{what} has shape {images.shape}: give at least one of each axis.")
        shape = with_channels(images.shape[1:], config.grid, what)
        require_floats(images.dtype, shape, what)
        return images.reshape(len(images), *shape)
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise InputError(
            f"The array in {path} has shape {images.shape}: give (N, H, W), (N, C, H, W) or "
            "(N, H, W, C), with at least one of each."
        )
    layout: str | None = None if config.layout in ("folder", "classes") else config.layout
    if layout is None and images.dtype.kind == "f" and images.ndim == 3:
        other = other_grid(images.shape[1:], config.grid, f"The array in {path.name}")
        notes.extend(note for note in other if note not in notes)
    if layout is not None and len(layout) != images.ndim:
        raise InputError(
            f"The array in {path} has shape {images.shape}, which is not {layout}: give another "
            "--layout."
        )
    if images.ndim == 3 and layout is None and images.shape[2] in (3, 4) and images.shape[1] > 4:
        notes.append(
            f"{path.name} is read as one image of {images.shape[2]} channels; --layout NHW reads "
            f"{len(images):,} grey ones."
        )
        return images.transpose(2, 0, 1)[None]
    if images.ndim == 3:
        return images[:, None]
    if layout is None:
        layout = _likely_axes(images.shape, path, notes, images.dtype.kind == "f")
    return images.transpose(0, 3, 1, 2) if layout == "NHWC" else images


def _likely_axes(shape: tuple[int, ...], path: Path, notes: list[str], floats: bool) -> str:
    """NCHW or NHWC, where a shape says so: 1, 3 or 4 are channels (the smaller of two such), and so
    is what is not a side of a square.

    Raises:
        InputError: it does not.
    """
    first, last = shape[1], shape[3]
    colours = (1, 3, 4)
    if first in colours and last in colours:
        layout, channels = ("NHWC", last) if last < first else ("NCHW", first)
        _note_axes(path, layout, channels, notes, floats)
        return layout
    if first in colours or last in colours:
        return "NCHW" if first in colours else "NHWC"
    if (shape[1] == shape[2]) != (shape[2] == shape[3]):
        layout, channels = ("NHWC", last) if shape[1] == shape[2] else ("NCHW", first)
        _note_axes(path, layout, channels, notes, floats)
        return layout
    raise InputError(
        f"The array in {path} has shape {shape}, with {first} channels as NCHW and {last} as NHWC: "
        f"say which with --layout NCHW or --layout NHWC{', or --grid 3 for cubes' * floats}."
    )


def _note_axes(path: Path, layout: str, channels: int, notes: list[str], floats: bool) -> None:
    otherwise = "--layout says otherwise" + ", and --grid 3 reads cubes" * floats
    note = f"{path.name} is read as {layout}, with {channels} channels; {otherwise}."
    if note not in notes:
        notes.append(note)


def _scale(
    parts: Sequence[NDArray[Any]], path: Path, config: DataConfig, notes: list[str]
) -> tuple[float, float] | None:
    """What becomes 0 and 255 of integers that are not bytes; None for bytes and floats."""
    dtype = parts[0].dtype
    if dtype == np.uint8 or np.issubdtype(dtype, np.floating):
        return None
    if config.source_range is not None:
        return config.source_range
    if dtype == np.bool_:
        notes.append(f"{path.name} is of truth values: false is read as 0 and true as 255.")
        return (0.0, 1.0)
    low = min(int(images.min()) for images in parts)
    high = max(int(images.max()) for images in parts)
    if low >= 0 and high <= 255:
        notes.append(f"{path.name} is {dtype} from {low} to {high}: it is read as bytes.")
        return (0.0, 255.0)
    raise InputError(
        f"The array in {path} is {dtype} from {low} to {high}: say with --source-range LOW HIGH "
        "what becomes 0 and 255, or give floats."
    )


def _note_bytes(images: NDArray[Any], path: Path, notes: list[str]) -> None:
    """Say when floats were bytes once: their density is then unbounded."""
    some = np.asarray(images[:LOOKED_AT], dtype=np.float64)
    low, high = float(some.min()), float(some.max())
    for scale, words in ((255.0, "k/255"), (1.0, "whole numbers")):
        steps = some * scale
        if (
            low >= 0
            and 1 / scale < high <= 255 / scale
            and np.abs(steps - np.round(steps)).max() < 1e-3
        ):
            notes.append(
                f"The values of {path.name} are floats, and all of them are {words}: they were "
                "bytes, and as floats they are not dequantised, so that their likelihood has no "
                "bound; save them as uint8 (0 to 255)."
            )
            return


def _labels(
    found: Found, parts: Sequence[NDArray[Any]], path: Path, notes: list[str]
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels and the names of their classes.

    Raises:
        InputError: labels are no classes, or not as many as the images.
    """
    if all(labels is None for labels in found.labels):
        return None, ()
    columns = []
    for labels, images in zip(found.labels, parts, strict=True):
        if labels is None:
            notes.append(f"A part of {path.name} has no labels: the images have none.")
            return None, ()
        columns.append(_one_each(labels, len(images), path))
    values = np.concatenate(columns)
    distinct, numbers = np.unique(values, return_inverse=True)
    if len(distinct) > MOST_CLASSES:
        notes.append(
            f"The labels of {path.name} have {len(distinct):,} different values, too many for "
            f"classes (at most {MOST_CLASSES:,}): the images have no labels."
        )
        return None, ()
    names = [str(value) for value in distinct.tolist()]
    if len(set(names)) < len(names):
        raise InputError(f"Labels in {path} differ and read alike: give whole numbers or text.")
    order = list(range(len(names)))  # numpy sorts numbers by their value
    if values.dtype.kind == "U":
        order.sort(key=lambda i: natural(names[i]))
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return rank[numbers.reshape(-1)], tuple(names[i] for i in order)


def _attributes(
    found: Found, parts: Sequence[NDArray[Any]], path: Path, notes: list[str]
) -> NDArray[np.bool_] | None:
    """(N, A), where the labels of each image are several columns of 0 and 1, not one class each."""
    columns = []
    for labels, images in zip(found.labels, parts, strict=True):
        if labels is None or labels.ndim != 2 or len(labels) != len(images):
            return None
        if labels.shape[1] < 2 or not ((labels == 0) | (labels == 1)).all():
            return None
        columns.append(labels.astype(bool))
    if len({column.shape[1] for column in columns}) > 1:
        return None
    every = np.concatenate(columns)
    if (every.sum(1) == 1).all():
        return None
    notes.append(f"The labels of {path.name} are {every.shape[1]} attributes of each image.")
    return every


def _one_each(labels: NDArray[Any], count: int, path: Path) -> NDArray[Any]:
    """(N,) whole numbers, truth values or text."""
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    kind = labels.dtype.kind
    if labels.ndim == 2 and len(labels) == count and kind in "iubf":
        if ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all():
            return labels.argmax(1)
    elif labels.shape == (count,):
        if kind == "f" and (np.abs(labels) < 2.0**53).all() and (labels == labels.round()).all():
            return labels.astype(np.int64)
        if kind in "iub":
            fits = kind != "u" or labels.max(initial=0) < 2**63
            return labels.astype(np.int64) if fits else labels
        if kind == "U":
            return labels
        if kind == "S":
            return np.char.decode(labels, "utf-8", "replace")
    raise InputError(
        f"The labels in {path} are {labels.dtype} {labels.shape}: give one whole number or word "
        f"per image ({count})."
    )


def _require_finite(images: NDArray[Any], path: Path, dtype: str) -> None:
    bad = 0
    first = ""
    for index, image in enumerate(images):
        with np.errstate(over="ignore"):
            wrong = ~np.isfinite(image.astype(dtype, copy=False))
        count = int(wrong.sum())
        bad += count
        if count and not first:
            what = "image" if image.ndim == 3 else "sample"
            first = f"{what} {index} at {tuple(np.argwhere(wrong)[0].tolist())}"
    if bad:
        raise InputError(
            f"The array in {path} has {bad:,} values that are NaN or infinite, the first in "
            f"{first}: mend or remove them ({end_of(dtype)})."
        )
