"""From a name to splits."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import path_of
from ..progress import remark
from .config import DataConfig
from .formats.named_arrays import SUFFIXES
from .kinds import DataSource, file_type, image_file, layout, named, prefixed
from .store import Selection, cache_folder, read_images, read_splits, store, warn
from .types import BY_NAME, Images, Reading, Source, Splits
from .walk import WRITTEN, files_below, folders_in, is_hidden, is_output

SOURCES: tuple[DataSource, ...] = (
    named(
        "faces", "glowflow.data.sources.faces:faces_source", "glowflow.data.sources.faces:version"
    ),
    named("digits", "glowflow.data.sources.digits:digits_source"),
    prefixed("hub:", "glowflow.data.sources.hub:hub_source", "glowflow.data.sources.hub:version"),
    file_type(SUFFIXES, "glowflow.data.sources.fields:field_source", folders=True),
    file_type((".npy", ".npz"), "glowflow.data.sources.arrays:array_source"),
    file_type(
        (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"),
        "glowflow.data.sources.archive:archive_source",
    ),
    file_type(
        (".txt", ".csv", ".tsv", ".lst"),
        "glowflow.data.sources.listing:list_source",
        "glowflow.data.sources.listing:listed_files",
    ),
    image_file("glowflow.data.sources.one_image:image_source"),
    layout("glowflow.data.sources.cifar10:cifar10"),
    layout("glowflow.data.sources.imagenet:imagenet_old"),
    layout("glowflow.data.sources.imagenet:imagenet_new"),
    layout("glowflow.data.sources.celeba:celeba"),
    layout("glowflow.data.sources.celebahq:celeba_hq"),
    layout("glowflow.data.sources.tfrecords:tfrecords"),
    layout("glowflow.data.sources.mnist:mnist"),
    layout("glowflow.data.sources.lsun:lsun"),
    layout("glowflow.data.sources.folder:folder_source"),
)
"""All that `--data` may be: another one is a file, and a line here. Of several that take it, the
first that opens it is used; a folder of images is the last, for it opens every folder."""


DEEPEST = 3
"""Folders that may be round a known layout."""


def open_splits(config: DataConfig, *, cache: Path | None = None, progress: bool = True) -> Splits:
    """Read the data that the configuration names, from the cache if they were read before.

    Args:
        config: what to read, and in which size.
        cache: where arrays and drawn faces are kept; by default `cache_folder()`.
        progress: show bars and warnings on stderr.

    Raises:
        InputError: there are no such data, or they cannot be used.
    """
    selection = Selection(config.held_out, config.split_by, config.limit)
    splits = read_splits(_stored(config, selection, cache, progress))
    if splits.reading is not None:
        splits = replace(splits, reading=_with_results_of_now(config, splits.reading))
    if progress and splits.reading is not None:
        images = splits.train.images.dtype == np.uint8
        warn(splits.skipped, splits.reading, splits.source, splits.completeness, images)
        if copies := copies_of_training(splits):
            name = "images" if images else "samples"
            remark(f"{copies:,} held-out {name} are, byte for byte, copies of training {name}.")
    return splits


def open_images(config: DataConfig, *, cache: Path | None = None, progress: bool = True) -> Images:
    """Read all images that the configuration names, in the order that they have there.

    New data are for whatever is not training: none of them is held out, and one is enough. A limit
    takes images that are evenly spread. Args and errors as `open_splits`.
    """
    selection = Selection(limit=config.limit, whole=True)
    images = read_images(_stored(config, selection, cache, progress))
    images = replace(images, reading=_with_results_of_now(config, images.reading))
    if progress:
        warn(images.skipped, images.reading, images=images.data.images.dtype == np.uint8)
    return images


def open_source(config: DataConfig, *, cache: Path | None = None) -> Source:
    """What the configuration names, before any image of it is stored. Errors as `open_splits`."""
    return _first_that_opens(_sources_of(config), config, cache or cache_folder(), False)


def _with_results_of_now(config: DataConfig, reading: Reading) -> Reading:
    """What is said of the images, with the folders of results that are beside them now: these may
    have come since the images were read, which are the same."""
    first = next(source for source in SOURCES if source.takes(config.data))
    if first.kind != "folder":
        return reading
    now = (each for each in files_below(path_of(config.data)).left_out if each.reason == WRITTEN)
    others = (each for each in reading.left_out if each.reason != WRITTEN)
    return replace(reading, left_out=(*now, *others))


def copies_of_training(splits: Splits) -> int:
    """How many held-out images equal a training image, by the hashes of their bytes."""
    train, *others = (data.contents for data in (splits.train, splits.valid, splits.test))
    return sum(int(np.isin(o, train).sum()) for o in others if o is not None and train is not None)


def _stored(config: DataConfig, selection: Selection, cache: Path | None, progress: bool) -> Path:
    cache = cache or cache_folder()
    sources = _sources_of(config)
    how = (
        f"{config.size} {config.channels} {config.fit} {config.upscale} {config.layout} "
        f"{config.array} {config.frames} {config.source_range}"
    )
    if config.grid is not None:
        how += f" grid {config.grid}"
    if config.dtype != "float32":
        how += f" {config.dtype}"
    if config.target is not None or config.condition is not None:
        how += f" {config.target} {config.condition} {config.missing}"
    return store(
        f"{sources[0].fingerprint(config)} {how}",
        lambda: _first_that_opens(sources, config, cache, progress),
        selection,
        strict=config.strict,
        skip_small=config.skip_small,
        cache=cache,
        progress=progress,
    )


def _sources_of(config: DataConfig) -> list[DataSource]:
    """Those that take the data.

    Raises:
        InputError: there is none.
    """
    if not config.data.strip():
        raise InputError("--data is empty: name a folder or a file; the one you are in is `.`.")
    sources = [source for source in SOURCES if source.takes(config.data)]
    if config.layout in ("folder", "classes") and sources and sources[0].kind == "folder":
        sources = sources[-1:]
    if not sources:
        raise _refusal(config.data)
    return sources


def _first_that_opens(
    sources: list[DataSource], config: DataConfig, cache: Path, progress: bool
) -> Source:
    first = next(
        source
        for place, some in _places(config.data, sources)
        for kind in some
        if (source := kind.open(replace(config, data=place), cache, progress)) is not None
    )
    if (config.target or config.condition) and first.layout != BY_NAME:
        flag = "--condition" if config.condition else "--target"
        raise InputError(
            f"{first.title} has no arrays by name for {flag} {config.condition or config.target}: "
            "give an .npz, HDF5 or Zarr file."
        )
    if config.fit == "patches" and first.patches is None:
        raise InputError(
            f"{first.title} was read as {first.layout or 'data of its own kind'}, not to be cut "
            "into patches: give a folder, a list or an archive of image files; --layout folder "
            "takes a folder for no more than that."
        )
    return first


def _places(data: str, sources: list[DataSource]) -> Iterator[tuple[str, list[DataSource]]]:
    """Where the images may be: a known layout may also be in the only folder of a folder."""
    if len(sources) == 1 or sources[0].kind != "folder":
        yield data, sources
        return
    yield data, sources[:-1]
    place = path_of(data)
    for _ in range(DEEPEST):
        inside = [p for p in folders_in(place) if not is_hidden(p.name) and not is_output(p)]
        if len(inside) != 1:
            break
        place = inside[0]
        yield str(place), sources[:-1]
    yield data, sources[-1:]


def _refusal(data: str) -> InputError:
    path = path_of(data)
    labels = {
        kind: " or ".join(source.label for source in SOURCES if source.kind == kind)
        for kind in ("name", "prefix", "file")
    }
    if path.exists():
        return InputError(
            f"{path} is neither a folder nor a file of a known kind ({labels['file']}): give one "
            "of them."
        )
    return InputError(
        f"There is no folder or file {path}: give one, or {labels['prefix']}, or "
        f"{labels['name']}, which are built in."
    )
