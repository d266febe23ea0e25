"""One array on disk: decoded once, memory-mapped ever after."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ..errors import InputError

TRAIN, VALID, TEST = 0, 1, 2
THREADS = 4


@dataclass(frozen=True)
class ImageData:
    """One split of a source."""

    images: NDArray[Any]
    """(N, C, H, W), uint8 or float32, memory-mapped and read-only."""
    labels: NDArray[np.int64] | None = None
    """(N,) class indices."""
    attributes: NDArray[np.bool_] | None = None
    """(N, A) whether image n has attribute a."""
    class_names: tuple[str, ...] = ()
    attribute_names: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """File names, relative to the folder they are from."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def part(self, start: int, stop: int) -> "ImageData":
        """Images `start` to `stop`, as views."""
        some = slice(start, stop)
        return ImageData(
            self.images[some],
            None if self.labels is None else self.labels[some],
            None if self.attributes is None else self.attributes[some],
            self.class_names,
            self.attribute_names,
            self.names[some],
        )


@dataclass(frozen=True)
class Splits:
    """A source, split into what is trained on, chosen by, and reported."""

    train: ImageData
    valid: ImageData
    test: ImageData
    source: str
    """What was read, in words."""
    checksum: str
    """SHA-256 of the array on disk."""
    skipped: tuple[str, ...] = ()
    """`file: reason` of each image that could not be read."""


@dataclass(frozen=True)
class Source:
    """Images that can be read one by one, before they are an array."""

    title: str
    fingerprint: str
    """Changes whenever the images would."""
    shape: tuple[int, int, int]
    dtype: str
    """uint8 or float32."""
    names: tuple[str, ...]
    read: Callable[[int], NDArray[Any]]
    """Image i as (C, H, W); raises `UnreadableImageError` for a broken one."""
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    attributes: NDArray[np.bool_] | None = None
    attribute_names: tuple[str, ...] = ()
    partition: NDArray[np.int64] | None = None
    """(N,) of TRAIN, VALID and TEST, where the source has a split of its own."""


class UnreadableImageError(Exception):
    """One image is broken; the others may be fine."""


def cache_folder() -> Path:
    """`$GLOWFLOW_CACHE`, or `$XDG_CACHE_HOME/glowflow`, or `~/.cache/glowflow`."""
    if own := os.environ.get("GLOWFLOW_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glowflow"


def store(source: Source, *, held_out: float, strict: bool, cache: Path, progress: bool) -> Splits:
    """Decode a source into one array under `cache`, or open the array of an earlier start.

    Args:
        source: the images.
        held_out: share for validation, and for the test, where the source is not split.
        strict: stop at a broken image instead of skipping it.
        cache: folder of all arrays.
        progress: show a bar, and warn of skipped images.

    Raises:
        InputError: `strict` and an image is broken, or fewer than 3 can be read.
    """
    key = hashlib.sha256(
        f"1 {source.fingerprint} {source.shape} {source.dtype} {held_out}".encode()
    ).hexdigest()[:20]
    folder = cache / "arrays" / key
    if not (folder / "info.json").is_file():
        _build(source, held_out, strict, folder, progress)
    splits = _open(folder)
    if splits.skipped and strict:
        raise InputError(f"{splits.skipped[0]}; mend or remove the file, or leave --strict out.")
    if splits.skipped and progress:
        shown = "; ".join(splits.skipped[:5])
        more = f"; and {len(splits.skipped) - 5} more" if len(splits.skipped) > 5 else ""
        Console(stderr=True).print(
            f"Skipped {len(splits.skipped)} images that cannot be read: {shown}{more}",
            markup=False,
        )
    return splits


def replace_folder(final: Path, fill: Callable[[Path], None]) -> None:
    """Fill a temporary folder beside `final` and rename it, so that it is whole or absent.

    Raises:
        InputError: the folder cannot be written.
    """
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        with suppress(FileNotFoundError):
            shutil.rmtree(final)
        temporary.rename(final)
    except OSError as error:
        if final.is_dir():
            return  # another process was faster
        raise InputError(
            f"Cannot write into {final.parent} ({error.strerror}); "
            "set GLOWFLOW_CACHE to another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def split_of(count: int, held_out: float) -> NDArray[np.int64]:
    """TRAIN, VALID or TEST for each image: a fixed random choice, the same in every run."""
    held = min(max(1, round(count * held_out)), (count - 1) // 2)
    partition = np.full(count, TRAIN)
    order = np.random.default_rng(0).permutation(count)
    partition[order[:held]] = VALID
    partition[order[held : 2 * held]] = TEST
    return partition


def _build(source: Source, held_out: float, strict: bool, folder: Path, progress: bool) -> None:
    count = len(source.names)
    if count < 3:
        raise InputError(
            f"{source.title} has {count} images: at least 3 are needed, "
            "one to train on, one to validate and one to test."
        )
    partition = split_of(count, held_out) if source.partition is None else source.partition
    order = np.argsort(partition, kind="stable")

    def attempt(index: int) -> NDArray[Any] | str:
        try:
            return source.read(index)
        except UnreadableImageError as error:
            return f"{source.names[index]}: {error}"

    def fill(temporary: Path) -> None:
        path = temporary / "images.npy"
        array = np.lib.format.open_memmap(
            path, mode="w+", dtype=source.dtype, shape=(count, *source.shape)
        )
        kept: list[int] = []
        skipped: list[str] = []
        with ThreadPoolExecutor(THREADS) as pool:
            results = zip(order.tolist(), pool.map(attempt, order.tolist()), strict=True)
            for index, image in track(
                results,
                total=count,
                description="reading images",
                disable=not progress,
                console=Console(stderr=True),
            ):
                if isinstance(image, str):
                    if strict:
                        pool.shutdown(cancel_futures=True)
                        raise InputError(f"{image}; mend or remove it, or leave --strict out.")
                    skipped.append(image)
                else:
                    array[len(kept)] = image
                    kept.append(index)
        sizes = np.bincount(partition[kept], minlength=3).tolist() if kept else [0, 0, 0]
        if min(sizes) < 1:
            reason = f", the first one, {skipped[0]}" if skipped else ""
            raise InputError(
                f"{source.title}: {len(kept)} images can be read ({sizes[TRAIN]} to train on, "
                f"{sizes[VALID]} to validate, {sizes[TEST]} to test){reason}; "
                "each part needs at least one."
            )
        array.flush()
        if skipped:
            np.save(temporary / "kept.npy", array[: len(kept)])
            del array
            (temporary / "kept.npy").replace(path)
        for name in ("labels", "attributes"):
            values = getattr(source, name)
            if values is not None:
                np.save(temporary / f"{name}.npy", values[kept])
        info = {
            "title": source.title,
            "sizes": sizes,
            "class_names": source.class_names,
            "attribute_names": source.attribute_names,
            "names": [source.names[i] for i in kept],
            "skipped": skipped,
            "sha256": file_checksum(path),
        }
        (temporary / "info.json").write_text(json.dumps(info), encoding="utf-8")

    replace_folder(folder, fill)


def _open(folder: Path) -> Splits:
    info = json.loads((folder / "info.json").read_text(encoding="utf-8"))

    def load(name: str) -> Any:
        path = folder / f"{name}.npy"
        return np.load(path) if path.is_file() else None

    whole = ImageData(
        np.load(folder / "images.npy", mmap_mode="r"),
        load("labels"),
        load("attributes"),
        tuple(info["class_names"]),
        tuple(info["attribute_names"]),
        tuple(info["names"]),
    )
    train, valid, test = info["sizes"]
    channels, height, width = whole.image_shape
    colours = {1: "grey", 3: "RGB", 4: "RGBA"}.get(channels, f"{channels} channels")
    return Splits(
        whole.part(0, train),
        whole.part(train, train + valid),
        whole.part(train + valid, train + valid + test),
        f"{info['title']}: {len(whole):,} images, {height}x{width} {colours}",
        info["sha256"],
        tuple(info["skipped"]),
    )


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
