"""MNIST and its relatives, Fashion-MNIST among them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...photos.images import refit, values_of
from ..config import DataConfig
from ..formats.idx import read_idx
from ..types import TEST, TRAIN, Source, count_parts

PARTS = {"train": TRAIN, "t10k": TEST}
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DIGITS = tuple(map(str, range(10)))
KNOWN = {
    (9, 0, 0, 3, 0, 2, 7, 2, 5, 5): ("Fashion-MNIST", "fashion-mnist", FASHION),
    (5, 0, 4, 1, 9, 2, 1, 3, 1, 4): ("MNIST", "mnist", DIGITS),
}
"""Title, data set and classes by the first ten training labels: the files have the same names."""


def mnist(folder: Path, config: DataConfig) -> Source | None:
    """`train-` and `t10k-images-idx3-ubyte` and `-labels-idx1-ubyte` in `folder`, .gz or not.

    The files may be called `.idx3-ubyte`, too, and lie in `raw` or `NAME/raw`.

    Returns:
        The source, or None where there is no such file.

    Raises:
        InputError: one of the four is missing or damaged.
    """
    name, folder = folder.name or str(folder), _place(folder)
    files = {
        (part, kind): _find(folder, f"{part}-{kind}-ubyte")
        for part in PARTS
        for kind in ("images-idx3", "labels-idx1")
    }
    missing = ["-".join(key) + "-ubyte" for key, path in files.items() if path is None]
    if len(missing) == len(files):
        return None
    if missing:
        raise InputError(f"{folder} has no {', '.join(missing)}: put the file, or its .gz, there.")
    arrays = {key: read_idx(path) for key, path in files.items() if path is not None}
    images = [arrays[part, "images-idx3"] for part in PARTS]
    labels = [arrays[part, "labels-idx1"] for part in PARTS]
    for part, some, theirs in zip(PARTS, images, labels, strict=True):
        if (
            some.ndim != 3
            or theirs.shape != some.shape[:1]
            or some.shape[1:] != images[0].shape[1:]
        ):
            raise InputError(
                f"The {part} images in {folder} are {some.shape} and their labels {theirs.shape}: "
                "give files that belong together."
            )
    title, dataset, classes = KNOWN.get(tuple(labels[0][:10].tolist()), (name, "", ()))
    everyones = np.concatenate(labels).astype(np.int64)
    if classes and everyones.max() >= len(classes):
        raise InputError(
            f"The labels of {title} in {folder} go up to {everyones.max()}, and 0 to "
            f"{len(classes) - 1} are expected: get the published files."
        )
    native = (1, *images[0].shape[1:])
    shape = (config.channels or 1, *(config.size or native[1:]))
    partition = np.repeat([TRAIN, TEST], [len(some) for some in images])
    names = tuple(
        f"{part}[{i}]" for part, some in zip(PARTS, images, strict=True) for i in range(len(some))
    )

    def read(index: int) -> NDArray[np.uint8]:
        part = int(index >= len(images[0]))
        image = images[part][index - part * len(images[0])][None]
        return refit(image, shape, config.fit, config.upscale, names[index])

    return Source(
        title=title,
        layout="MNIST files",
        values_inside=values_of(images[0].shape[1:], shape, config.fit, len(names)),
        shape=shape,
        dtype="uint8",
        names=names,
        read=read,
        labels=everyones,
        class_names=classes,
        partition=partition,
        dataset=dataset if shape == native else "",
        counts=count_parts(
            partition, [("train", TRAIN, (60_000,)), ("test", TEST, (10_000,))] if dataset else []
        ),
    )


def _find(folder: Path, name: str) -> Path | None:
    """With a dash or a dot before `idx`, compressed or not."""
    names = [name, name.replace("-idx", ".idx")]
    return next((p for n in names for p in (folder / n, folder / f"{n}.gz") if p.is_file()), None)


def _place(folder: Path) -> Path:
    """The folder itself, or where torchvision puts the files below it."""
    below = [folder / "raw", *sorted(folder.glob("*/raw"))]
    for place in (folder, *below):
        if _find(place, "train-images-idx3-ubyte") or _find(place, "t10k-images-idx3-ubyte"):
            return place
    return folder
