"""The kinds of data sources: by a name, by the beginning of a name, a type of file, a layout of a
folder. What reads them is named by `module:function`, and imported when it is used."""

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from pkgutil import resolve_name
from typing import Literal

from ..files import path_of
from .config import DataConfig
from .types import Source
from .walk import begins_like_image, files_below


@dataclass(frozen=True)
class DataSource:
    """Which `--data` a source takes, and how it reads them."""

    kind: Literal["name", "prefix", "file", "folder"]
    label: str
    """What messages call it."""
    takes: Callable[[str], bool]
    """Whether a `--data` may be this source."""
    fingerprint: Callable[[DataConfig], str]
    """Changes whenever the images would, as far as can be told without reading them."""
    open: Callable[[DataConfig, Path, bool], Source | None]
    """The images; None for a folder in another layout. Takes the configuration, the folder for what
    is made or fetched, and whether to show progress on stderr."""


def named(name: str, source: str, version: str = "") -> DataSource:
    """Data that are built in: `faces`.

    Args:
        name: the whole of `--data`.
        source: `module:function`, which is called as `DataSource.open`.
        version: `module:function`, of the configuration; changes whenever the images would.
    """
    return DataSource(
        "name",
        f"`{name}`",
        lambda data: data == name,
        lambda config: f"{name} {_version(version, config)}".rstrip(),
        lambda config, cache, progress: resolve_name(source)(config, cache, progress),
    )


def prefixed(prefix: str, source: str, version: str = "") -> DataSource:
    """Data of a service: `hub:org/name`; or a folder in its form.

    Args:
        prefix: how `--data` begins.
        source: `module:function`, of the configuration.
        version: `module:function`, of the configuration: what else than `--data` changes the
            images.
    """

    def fingerprint(config: DataConfig) -> str:
        listing = _listing(Path(config.data.removeprefix(prefix)))
        return f"{config.data} {_version(version, config)} {listing}"

    return DataSource(
        "prefix",
        f"{prefix}org/name",
        lambda data: data.startswith(prefix),
        fingerprint,
        lambda config, cache, progress: resolve_name(source)(config),
    )


def file_type(
    suffixes: tuple[str, ...], source: str, files: str = "", folders: bool = False
) -> DataSource:
    """Files that end in one of `suffixes`.

    Args:
        suffixes: in lower case.
        source: `module:function`, of path and configuration.
        files: `module:function`, of the path: the other files that are read.
        folders: whether folders of such a name are taken too.
    """

    def takes(data: str) -> bool:
        path = path_of(data)
        there = path.is_file() or (folders and path.is_dir())
        return there and path.name.lower().endswith(suffixes)

    def fingerprint(config: DataConfig) -> str:
        path = path_of(config.data)
        return _listing(path, resolve_name(files)(path) if files else ())

    return DataSource(
        "file",
        " or ".join(suffixes),
        takes,
        fingerprint,
        lambda config, cache, progress: resolve_name(source)(path_of(config.data), config),
    )


def image_file(source: str) -> DataSource:
    """Any other file that Pillow knows; `source` is `module:function`, as of `file_type`."""
    return DataSource(
        "file",
        "one image",
        lambda data: path_of(data).is_file() and begins_like_image(path_of(data)),
        lambda config: _listing(path_of(config.data)),
        lambda config, cache, progress: resolve_name(source)(path_of(config.data), config),
    )


def layout(source: str) -> DataSource:
    """Folders of one layout; `source` is `module:function`, of folder and configuration, which
    answers None to a folder in another layout."""
    return DataSource(
        "folder",
        "a folder",
        lambda data: path_of(data).is_dir(),
        lambda config: _listing(path_of(config.data)),
        lambda config, cache, progress: resolve_name(source)(path_of(config.data), config),
    )


def _version(version: str, config: DataConfig) -> str:
    return str(resolve_name(version)(config)) if version else ""


def _listing(path: Path, others: Iterable[Path] = ()) -> str:
    """A hash of the names, sizes and dates of the files at or below a path that are not hidden, and
    of others."""
    digest = hashlib.sha256(os.fsencode(path.resolve()))
    below = files_below(path).names if path.is_dir() else [""]
    files = chain(
        ((name, path / name) for name in below), ((str(other), other) for other in others)
    )
    for name, file in files:
        with suppress(OSError):  # a link to nowhere or to itself
            status = file.stat()
            line = f"{name} {status.st_size} {status.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
