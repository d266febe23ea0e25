"""From a name to splits."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from .config import DataConfig
from .sources import faces
from .sources.arrays import array_source
from .sources.celeba import celeba
from .sources.celebahq import celeba_hq, tfrecords
from .sources.cifar10 import cifar10
from .sources.digits import digits_source
from .sources.folder import files_below, folder_source
from .sources.hub import PREFIX, hub_source
from .sources.idx import idx
from .sources.imagenet import imagenet_new, imagenet_old
from .sources.lsun import lsun
from .store import cache_folder, store
from .types import Source, Splits

LAYOUTS: tuple[Callable[[Path, DataConfig], Source | None], ...] = (
    cifar10,
    imagenet_old,
    imagenet_new,
    celeba,
    celeba_hq,
    tfrecords,
    idx,
    lsun,
)
"""Each opens a folder in its layout, and answers None to another one."""


def open_splits(config: DataConfig, *, cache: Path | None = None, progress: bool = True) -> Splits:
    """Read the data that the configuration names, from the cache if they were read before.

    Args:
        config: what to read, and in which size.
        cache: where arrays and drawn faces are kept; by default `cache_folder()`.
        progress: show bars and warnings on stderr.

    Raises:
        InputError: there are no such data, or they cannot be used.
    """
    cache = cache or cache_folder()
    return store(
        _fingerprint(config),
        lambda: _source(config, cache, progress),
        held_out=config.held_out,
        limit=config.limit,
        strict=config.strict,
        cache=cache,
        progress=progress,
    )


def _fingerprint(config: DataConfig) -> str:
    """Changes whenever the images would, as far as can be told without reading them."""
    how = f"{config.size} {config.channels} {config.fit} {config.upscale}"
    if config.data == "digits":
        return f"digits {how}"
    if config.data == "faces":
        return f"faces {faces.VERSION} {config.faces} {how}"
    if config.data.startswith(PREFIX):
        listing = _listing(Path(config.data.removeprefix(PREFIX)))
        return f"{config.data} {config.image_column} {config.label_column} {listing} {how}"
    return f"{_listing(Path(config.data).expanduser())} {how}"


def _source(config: DataConfig, cache: Path, progress: bool) -> Source:
    if config.data == "digits":
        return digits_source(config)
    if config.data == "faces":
        drawn = celeba(faces.drawn_faces(config.faces, cache, progress), config)
        assert drawn is not None
        return replace(drawn, title="drawn faces")
    if config.data.startswith(PREFIX):
        return hub_source(config)
    path = Path(config.data).expanduser()
    if path.is_dir():
        found = (layout(path, config) for layout in LAYOUTS)
        return next((source for source in found if source), None) or folder_source(path, config)
    if path.is_file() and path.suffix in (".npy", ".npz"):
        return array_source(path, config)
    if path.exists():
        raise InputError(f"{path} is neither a folder nor an .npy or .npz array: give one of them.")
    raise InputError(
        f"There is no folder or file {path}: give one, or {PREFIX}org/name, or `faces` or "
        "`digits`, which are built in."
    )


def _listing(path: Path) -> str:
    """A hash of the names, sizes and dates of the files at or below a path that are not hidden."""
    digest = hashlib.sha256(str(path.resolve()).encode())
    for name in files_below(path) if path.is_dir() else [""]:
        with suppress(FileNotFoundError):  # a broken link
            status = (path / name).stat()
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
