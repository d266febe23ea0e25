"""One array on disk: decoded once, memory-mapped ever after."""

import errno
import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..models.conditions import Condition
from ..models.config import sides
from ..photos.images import SmallImageError, UnreadableImageError
from ..progress import remark, with_bar
from .config import Split
from .partition import complete_partition, content_of, evenly, limit_parts
from .patches import marked_incomplete
from .types import (
    TEST,
    TRAIN,
    VALID,
    Count,
    ImageData,
    Images,
    LeftOut,
    NoMoreImagesError,
    Reading,
    Source,
    Splits,
)

THREADS = 4
READ_AHEAD = 256
"""Images that are decoded before the first of them is written."""


def cache_folder() -> Path:
    """`$GLOWFLOW_CACHE`, or `$XDG_CACHE_HOME/glowflow`, or `~/.cache/glowflow`."""
    if own := os.environ.get("GLOWFLOW_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glowflow"


@dataclass(frozen=True)
class Selection:
    """Which images of a source are read, and how they are split."""

    held_out: float = 0.1
    """Share for validation, and for the test, where the source is not split."""
    split: Split = "hash"
    """How, then."""
    limit: int | None = None
    """Largest number of images."""
    whole: bool = False
    """All of them in the source's order, as new data are used: nothing is held out."""


def store(
    fingerprint: str,
    make: Callable[[], Source],
    selection: Selection,
    *,
    strict: bool,
    skip_small: bool,
    cache: Path,
    progress: bool,
) -> Path:
    """Decode a source into one array under `cache`, or find the array of an earlier start.

    Args:
        fingerprint: changes whenever the images would.
        make: opens the source; called only if there is no array yet.
        selection: which images, and how they are split.
        strict: stop at a broken image instead of skipping it.
        skip_small: skip images that are too small instead of naming them all and stopping.
        cache: folder of all arrays.
        progress: show a bar.

    Returns:
        The array's folder, for `read_splits` or `read_images`.

    Raises:
        InputError: an image is broken (`strict`) or too small, or too few can be read, or the array
            does not fit on the disk.
    """
    key = hashlib.sha256(os.fsencode(f"4 {fingerprint} {selection} {skip_small}")).hexdigest()[:20]
    folder = cache / "arrays" / key
    if not (folder / "info.json").is_file():
        _build(make(), selection, strict, skip_small, folder, progress)
    skipped = _read_info(folder)["skipped"]
    if skipped and strict:
        raise InputError(f"{skipped[0]}; mend or remove the file, or leave --strict out.")
    return folder


def warn(
    skipped: tuple[str, ...],
    reading: Reading,
    source: str = "",
    complete: str = "",
    images: bool = True,
) -> None:
    """Say on stderr what is not among the images, or other data, and what else is to be known."""
    lines = list(reading.notes)
    if skipped:
        shown = "; ".join(skipped[:5])
        more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        lines.append(f"Skipped {len(skipped)} images that cannot be used: {shown}{more}")
    if reading.left_out:
        lines.append(f"Left out: {'; '.join(map(str, reading.left_out))}.")
    if reading.one_colour:
        count, first = len(reading.one_colour), reading.one_colour[0]
        same = "images are of one colour" if images else "samples have one value"
        lines.append(f"{count} {same} throughout, the first of them {first}.")
    if complete.startswith("incomplete"):
        lines.append(f"{source} ({complete}).")
    for line in lines:
        remark(line)


def replace_folder(final: Path, fill: Callable[[Path], None]) -> None:
    """Fill a temporary folder beside `final` and rename it, so that it is whole or absent.

    Where another process was faster its folder stays, for others may read it already.

    Raises:
        InputError: the folder cannot be written, or a file that fills it cannot be read.
    """
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.part")
    former = final.with_name(f"{temporary.name}.former")
    before = _made_at(final)
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        if _made_at(final) != before:
            return
        with suppress(FileNotFoundError):
            final.rename(former)
        temporary.rename(final)
    except OSError as error:
        if _made_at(final) != before:
            return
        other = error.filename is not None and not str(error.filename).startswith(str(final.parent))
        if other:
            raise InputError(f"Cannot read {error.filename} ({error.strerror}).") from error
        raise InputError(
            f"Cannot write into {final.parent} ({error.strerror}); "
            "set GLOWFLOW_CACHE to another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def _made_at(folder: Path) -> int | None:
    """What tells a folder from another one of its name; None where there is none."""
    return folder.stat().st_ino if folder.is_dir() else None


def _build(
    source: Source,
    selection: Selection,
    strict: bool,
    skip_small: bool,
    folder: Path,
    progress: bool,
) -> None:
    count, least = len(source.names), 1 if selection.whole else 3
    name = "images" if source.dtype == "uint8" else "samples"
    if count < least:
        raise InputError(
            f"{source.title} has {count} {name}: at least {least} "
            + ("is needed." if selection.whole else "are needed, one to train on, one to validate ")
            + ("" if selection.whole else "and one to test.")
        )
    partition, order = _select(source, selection)
    row = np.zeros(count, dtype=np.int64)
    row[order] = np.arange(len(order))

    def fill(temporary: Path) -> None:
        path = temporary / "images.npy"
        _require_room(temporary, source, len(order))
        array = _allocate(path, source.dtype, (len(order), *source.shape))
        given = _allocate_conditions(temporary, source, len(order))
        written = np.asarray(array)  # a row of a memmap is made in ten times as long
        kept = np.zeros(len(order), dtype=bool)
        looks = Looks(len(order))
        skipped: list[str] = []
        small: list[SmallImageError] = []
        images = _images(source, order)
        for index, image in with_bar(images, f"reading {name}", count=len(order), visible=progress):
            if isinstance(image, SmallImageError):
                small.append(image)
            elif isinstance(image, str):
                if strict:
                    raise InputError(f"{image}; mend or remove it, or leave --strict out.")
                skipped.append(image)
            elif image is not None:
                written[row[index]] = image
                conditions = None
                if given is not None and source.given is not None:
                    conditions = given[row[index]] = source.given(index)
                looks.note(int(row[index]), image, conditions)
                kept[row[index]] = True
        if small and not skip_small:
            raise _too_small(small)
        skipped += [f"{each.name}: {each.have[0]}x{each.have[1]} is too small" for each in small]
        rows = np.flatnonzero(kept)
        sizes = np.bincount(partition[order[rows]], minlength=3)
        if not selection.whole and not kept.all() and 0 in sizes:
            rows = _split_again(source, selection, partition, order, rows)
        indices = order[rows]
        sizes = np.bincount(partition[indices], minlength=3).tolist()
        _require_parts(source, selection, sizes, skipped)
        if (np.diff(rows) < 0).any():
            np.save(temporary / "kept.npy", array[rows])
            del array, written
            (temporary / "kept.npy").replace(path)
        elif not kept.all():
            for to, start in enumerate(rows):
                array[to] = array[start]
            array.flush()
            del array, written
            _shorten(path, len(rows))
        else:
            array.flush()
        if given is not None:
            given.flush()
        _describe(source, selection, temporary, indices, sizes, skipped, looks.of(rows))

    replace_folder(folder, fill)


def _select(source: Source, selection: Selection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The part of each image, and the images in the order of their rows."""
    names, own, held_out = source.names, source.partition, selection.held_out
    if selection.whole:
        everything = np.zeros(len(names), dtype=np.int64)
        if selection.limit is None:
            return everything, np.arange(len(names))
        return everything, evenly(len(names), selection.limit)
    partition = complete_partition(source.files or names, own, held_out, selection.split)
    units = source.files if source.patches is not None and source.files else names
    order = limit_parts(units, partition, selection.limit, held_out)
    return partition, order[np.argsort(partition[order], kind="stable")]


def _split_again(
    source: Source,
    selection: Selection,
    partition: NDArray[np.int64],
    order: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The rows in their new order after `partition` was made anew of the images that are left: a
    part is empty without the others."""
    left = order[rows]
    files = source.files or source.names
    own = None if source.partition is None else source.partition[left]
    partition[left] = complete_partition(
        [files[i] for i in left.tolist()], own, selection.held_out, selection.split
    )
    return rows[np.argsort(partition[left], kind="stable")]


def _require_parts(
    source: Source, selection: Selection, sizes: list[int], skipped: list[str]
) -> None:
    reason = f", the first one, {skipped[0]}" if skipped else ""
    if selection.whole:
        if not sum(sizes):
            raise InputError(f"{source.title}: no image can be read{reason}.")
    elif min(sizes) < 1:
        raise InputError(
            f"{source.title}: {sum(sizes)} images can be read ({sizes[TRAIN]} to train on, "
            f"{sizes[VALID]} to validate, {sizes[TEST]} to test){reason}; "
            "each part needs at least one."
        )


def _too_small(small: list[SmallImageError]) -> InputError:
    """One sentence for all of them."""
    if len(small) == 1:
        return small[0]
    first = sorted(small, key=lambda each: each.name)[:10]
    shown = ", ".join(f"{each.name} {each.have[0]}x{each.have[1]}" for each in first)
    more = f" and {len(small) - 10} more" if len(small) > 10 else ""
    height, width = first[0].wanted
    return InputError(
        f"{len(small)} images are smaller than the {height}x{width} that is asked for ({shown}"
        f"{more}): choose a smaller --size, or add --upscale, or leave them out with --skip-small."
    )


class Looks:
    """What is noted of each row while it is written."""

    def __init__(self, count: int) -> None:
        self.contents = np.zeros(count, dtype=np.uint64)
        self.lowest = np.zeros(count)
        self.highest = np.zeros(count)
        self.flat = np.zeros(count, dtype=bool)

    def note(self, row: int, image: NDArray[Any], conditions: NDArray[Any] | None = None) -> None:
        """Take the hash, the range and whether every pixel is the same."""
        whole = image
        if conditions is not None:
            whole = np.append(image.astype(conditions.dtype), conditions)
        self.contents[row] = content_of(whole)
        values = image.reshape(len(image), -1)
        lowest, highest = values.min(axis=1), values.max(axis=1)
        self.lowest[row], self.highest[row] = lowest.min(), highest.max()
        self.flat[row] = bool((lowest == highest).all())

    def of(self, rows: NDArray[np.int64]) -> "Looks":
        """Those of some rows."""
        some = Looks(0)
        for name, values in vars(self).items():
            setattr(some, name, values[rows])
        return some


def _require_room(folder: Path, source: Source, count: int) -> None:
    """Refuse an array that is larger than the disk: files are made without room for their pages.

    Raises:
        InputError: it is.
    """
    needed = count * math.prod(source.shape) * np.dtype(source.dtype).itemsize
    needed += count * _values_given(source) * np.dtype(_dtype_given(source)).itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = "The array and the conditions" if source.conditions else "The array"
        raise InputError(
            f"{what} of {source.title} need{'s' * (not source.conditions)} {needed / 1e9:,.1f} GB "
            f"and {folder.parent} has {free / 1e9:,.1f} GB free: give a --limit or a smaller "
            "--size, or set GLOWFLOW_CACHE to another disk."
        )


def _allocate(path: Path, dtype: str, shape: tuple[int, ...]) -> Any:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _allocate_conditions(folder: Path, source: Source, count: int) -> Any:
    """`conditions.npy`, (count, values); None of a source without conditions."""
    if not source.conditions:
        return None
    shape = (count, _values_given(source))
    return _allocate(folder / "conditions.npy", _dtype_given(source), shape)


def _values_given(source: Source) -> int:
    return sum(condition.size for condition in source.conditions)


def _dtype_given(source: Source) -> str:
    return "float64" if source.dtype == "float64" else "float32"


def _shorten(path: Path, count: int) -> None:
    """Leave the first so many rows of an array's file, whose header has room for any number."""
    array = np.load(path, mmap_mode="r")
    shape, dtype, start = (count, *array.shape[1:]), array.dtype, array.offset
    del array
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, header)
        if file.tell() != start:
            raise OSError(errno.EIO, f"the header of {path.name} has another length")
        file.truncate(start + math.prod(shape) * dtype.itemsize)


def _images(
    source: Source, order: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[Any] | SmallImageError | str | None]]:
    """Each image, or why it cannot be read, or None after the end of a stream."""

    def attempt(index: int) -> NDArray[Any] | SmallImageError | str | None:
        try:
            return source.read(index)
        except SmallImageError as error:
            return error
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
    selection: Selection,
    folder: Path,
    indices: NDArray[np.int64],
    sizes: list[int],
    skipped: list[str],
    looks: Looks,
) -> None:
    class_names = source.class_names
    if source.labels is not None:
        labels = source.labels[indices]
        class_names = class_names or tuple(map(str, range(int(source.labels.max()) + 1)))
        np.save(folder / "labels.npy", labels)
    if source.attributes is not None:
        np.save(folder / "attributes.npy", source.attributes[indices])
    if source.values_inside is not None:
        np.save(folder / "values_inside.npy", source.values_inside[indices])
    if source.patches is not None:
        np.save(folder / "patches.npy", marked_incomplete(source.patches, indices))
    own = source.partition
    if own is not None and (own != TRAIN).any():
        np.save(folder / "partition.npy", own[indices])
        split = "published"
    else:
        split = selection.split
    np.save(folder / "contents.npy", looks.contents)
    names = [source.names[i] for i in indices]
    info = {
        "title": source.title,
        "dataset": source.dataset,
        "counts": source.counts,
        "sizes": sizes,
        "class_names": class_names,
        "attribute_names": source.attribute_names,
        "names": names,
        "skipped": skipped,
        "sha256": array_checksum(folder),
        "conditions": [asdict(condition) for condition in source.conditions],
        "layout": source.layout,
        "split": split,
        "value_range": [float(looks.lowest.min()), float(looks.highest.max())],
        "one_colour": [names[i] for i in np.flatnonzero(looks.flat)]
        if math.prod(source.shape[1:]) > 1 and source.patches is None
        else [],
        "left_out": source.left_out,
        "notes": [*source.notes, *source.late_notes()],
        "aligned": source.aligned,
    }
    (folder / "info.json").write_text(json.dumps(info), encoding="utf-8")


def read_splits(folder: Path) -> Splits:
    """What `store` has put into a folder.

    Raises:
        InputError: it is damaged.
    """
    data, info = _read(folder)
    train, valid, test = info["sizes"]
    return Splits(
        data.part(0, train),
        data.part(train, train + valid),
        data.part(train + valid, train + valid + test),
        _in_words(data, info),
        info["sha256"],
        tuple(info["skipped"]),
        info["dataset"],
        tuple(Count(part, here, tuple(sizes)) for part, here, sizes in info["counts"]),
        folder,
        _reading(info),
    )


def read_images(folder: Path) -> Images:
    """The same, of a selection that is whole."""
    data, info = _read(folder)
    return Images(
        data,
        _in_words(data, info),
        info["sha256"],
        _load(folder, "partition"),
        tuple(info["skipped"]),
        info["dataset"],
        _reading(info),
    )


def _read(folder: Path) -> tuple[ImageData, dict[str, Any]]:
    info = _read_info(folder)
    try:
        data = ImageData(
            np.load(folder / "images.npy", mmap_mode="r"),
            _load(folder, "labels"),
            _load(folder, "attributes"),
            tuple(info["class_names"]),
            tuple(info["attribute_names"]),
            tuple(info["names"]),
            _load(folder, "contents"),
            _load(folder, "values_inside"),
            _load(folder, "patches"),
            _load(folder, "conditions", "r"),
            tuple(Condition(**each) for each in info.get("conditions", ())),
        )
    except (OSError, ValueError, LookupError, TypeError, InputError) as error:
        raise _damaged(folder, error) from error
    return data, info


def _read_info(folder: Path) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error
    return info


def _load(folder: Path, name: str, mmap_mode: Literal["r"] | None = None) -> Any:
    path = folder / f"{name}.npy"
    return np.load(path, mmap_mode=mmap_mode) if path.is_file() else None


def array_checksum(folder: Path) -> str:
    """That of the images; of the images and their conditions, where there are any."""
    images = file_checksum(folder / "images.npy")
    conditions = folder / "conditions.npy"
    if not conditions.is_file():
        return images
    return hashlib.sha256(f"{images} {file_checksum(conditions)}".encode()).hexdigest()


def _damaged(folder: Path, error: Exception) -> InputError:
    return InputError(
        f"The array in {folder} is damaged ({error}): remove that folder, it is made again."
    )


def _in_words(data: ImageData, info: dict[str, Any]) -> str:
    channels, *grid = data.image_shape
    if data.images.dtype != np.uint8:
        kind = f"samples on a grid of {sides(grid)}, {channels} channel{'s' * (channels > 1)}"
        return f"{info['title']}: {len(data):,} {kind}"
    colours = {1: "grey", 3: "RGB", 4: "RGBA"}.get(channels, f"{channels} channels")
    return f"{info['title']}: {len(data):,} images, {sides(grid)} {colours}"


def _reading(info: dict[str, Any]) -> Reading:
    low, high = info["value_range"]
    return Reading(
        info["layout"],
        info["split"],
        (low, high),
        tuple(info["one_colour"]),
        tuple(LeftOut(*each) for each in info["left_out"]),
        tuple(info["notes"]),
        info["aligned"],
    )


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
