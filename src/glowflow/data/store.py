"""One array on disk: decoded once, memory-mapped ever after."""

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ..errors import InputError
from ..progress import with_bar
from .partition import complete_partition, limit_parts
from .types import (
    TEST,
    TRAIN,
    VALID,
    Count,
    ImageData,
    NoMoreImagesError,
    Source,
    Splits,
    UnreadableImageError,
)

THREADS = 4
READ_AHEAD = 256
"""Images that are decoded before the first of them is written."""


def cache_folder() -> Path:
    """`$GLOWFLOW_CACHE`, or `$XDG_CACHE_HOME/glowflow`, or `~/.cache/glowflow`."""
    if own := os.environ.get("GLOWFLOW_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glowflow"


def store(
    fingerprint: str,
    make: Callable[[], Source],
    *,
    held_out: float,
    limit: int | None,
    strict: bool,
    cache: Path,
    progress: bool,
) -> Splits:
    """Decode a source into one array under `cache`, or open the array of an earlier start.

    Args:
        fingerprint: changes whenever the images would.
        make: opens the source; called only if there is no array yet.
        held_out: share for validation, and for the test, where the source is not split.
        limit: largest number of images.
        strict: stop at a broken image instead of skipping it.
        cache: folder of all arrays.
        progress: show a bar, and warn of skipped and missing images.

    Raises:
        InputError: `strict` and an image is broken, or fewer than 3 can be read, or the array does
            not fit on the disk.
    """
    key = hashlib.sha256(f"2 {fingerprint} {held_out} {limit}".encode()).hexdigest()[:20]
    folder = cache / "arrays" / key
    if not (folder / "info.json").is_file():
        _build(make(), held_out, limit, strict, folder, progress)
    splits = _open(folder)
    if splits.skipped and strict:
        raise InputError(f"{splits.skipped[0]}; mend or remove the file, or leave --strict out.")
    if progress:
        _warn(splits)
    return splits


def _warn(splits: Splits) -> None:
    console = Console(stderr=True)
    if splits.skipped:
        shown = "; ".join(splits.skipped[:5])
        more = f"; and {len(splits.skipped) - 5} more" if len(splits.skipped) > 5 else ""
        console.print(
            f"Skipped {len(splits.skipped)} images that cannot be read: {shown}{more}",
            markup=False,
        )
    if splits.completeness.startswith("incomplete"):
        console.print(f"{splits.source} ({splits.completeness}).", markup=False)


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


def _build(
    source: Source, held_out: float, limit: int | None, strict: bool, folder: Path, progress: bool
) -> None:
    count = len(source.names)
    if count < 3:
        raise InputError(
            f"{source.title} has {count} images: at least 3 are needed, "
            "one to train on, one to validate and one to test."
        )
    partition = complete_partition(count, source.partition, held_out)
    order = limit_parts(partition, limit, held_out)
    order = order[np.argsort(partition[order], kind="stable")]
    row = np.zeros(count, dtype=np.int64)
    row[order] = np.arange(len(order))

    def fill(temporary: Path) -> None:
        path = temporary / "images.npy"
        array = _allocate(path, source, len(order))
        kept = np.zeros(len(order), dtype=bool)
        skipped: list[str] = []
        images = _images(source, order)
        for index, image in with_bar(images, "reading images", count=len(order), visible=progress):
            if isinstance(image, str):
                if strict:
                    raise InputError(f"{image}; mend or remove it, or leave --strict out.")
                skipped.append(image)
            elif image is not None:
                array[row[index]] = image
                kept[row[index]] = True
        indices = order[kept]
        sizes = np.bincount(partition[indices], minlength=3).tolist()
        if min(sizes) < 1:
            reason = f", the first one, {skipped[0]}" if skipped else ""
            raise InputError(
                f"{source.title}: {len(indices)} images can be read ({sizes[TRAIN]} to train on, "
                f"{sizes[VALID]} to validate, {sizes[TEST]} to test){reason}; "
                "each part needs at least one."
            )
        if not kept.all():
            for to, start in enumerate(np.flatnonzero(kept)):
                array[to] = array[start]
            np.save(temporary / "kept.npy", array[: len(indices)])
            del array
            (temporary / "kept.npy").replace(path)
        else:
            array.flush()
        _describe(source, temporary, indices, sizes, skipped)

    replace_folder(folder, fill)


def _allocate(path: Path, source: Source, count: int) -> Any:
    shape = (count, *source.shape)
    needed = math.prod(shape) * np.dtype(source.dtype).itemsize
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(
            f"The array of {source.title} needs {needed / 1e9:,.1f} GB and {path.parent.parent} "
            f"has {free / 1e9:,.1f} GB free: give a --limit or a smaller --size, or set "
            "GLOWFLOW_CACHE to another disk."
        )
    return np.lib.format.open_memmap(path, mode="w+", dtype=source.dtype, shape=shape)


def _images(
    source: Source, order: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[Any] | str | None]]:
    """Each image, or why it cannot be read, or None after the end of a stream."""

    def attempt(index: int) -> NDArray[Any] | str | None:
        try:
            return source.read(index)
        except UnreadableImageError as error:
            return f"{source.names[index]}: {error}"
        except NoMoreImagesError:
            return None

    if source.in_order:
        yield from ((index, attempt(index)) for index in np.sort(order).tolist())
        return
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(order), READ_AHEAD):
            some = order[start : start + READ_AHEAD].tolist()
            yield from zip(some, pool.map(attempt, some), strict=True)


def _describe(
    source: Source,
    folder: Path,
    indices: NDArray[np.int64],
    sizes: list[int],
    skipped: list[str],
) -> None:
    class_names = source.class_names
    if source.labels is not None:
        labels = source.labels[indices]
        class_names = class_names or tuple(map(str, range(int(source.labels.max()) + 1)))
        np.save(folder / "labels.npy", labels)
    if source.attributes is not None:
        np.save(folder / "attributes.npy", source.attributes[indices])
    info = {
        "title": source.title,
        "dataset": source.dataset,
        "counts": source.counts,
        "sizes": sizes,
        "class_names": class_names,
        "attribute_names": source.attribute_names,
        "names": [source.names[i] for i in indices],
        "skipped": skipped,
        "sha256": file_checksum(folder / "images.npy"),
    }
    (folder / "info.json").write_text(json.dumps(info), encoding="utf-8")


def _open(folder: Path) -> Splits:
    try:
        return _open_array(folder)
    except (OSError, ValueError, LookupError) as error:
        raise InputError(
            f"The array in {folder} is damaged ({error}): remove that folder, it is made again."
        ) from error


def _open_array(folder: Path) -> Splits:
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
        info["dataset"],
        tuple(Count(part, here, tuple(sizes)) for part, here, sizes in info["counts"]),
        folder,
    )


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
