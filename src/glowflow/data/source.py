"""From a name to splits."""

from dataclasses import replace
from pathlib import Path

from ..config import DataConfig
from ..errors import InputError
from .arrays import array_source
from .digits import digits_source
from .faces import drawn_faces
from .folder import folder_source
from .store import Source, Splits, cache_folder, store


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
        _source(config, cache, progress),
        held_out=config.held_out,
        strict=config.strict,
        cache=cache,
        progress=progress,
    )


def _source(config: DataConfig, cache: Path, progress: bool) -> Source:
    how = (config.size, config.channels, config.fit, config.upscale)
    if config.data == "digits":
        return digits_source(config.size, config.channels)
    if config.data == "faces":
        return replace(
            folder_source(drawn_faces(config.faces, cache, progress), *how), title="drawn faces"
        )
    path = Path(config.data).expanduser()
    if path.is_dir():
        return folder_source(path, *how)
    if path.is_file() and path.suffix in (".npy", ".npz"):
        return array_source(path, *how)
    if path.exists():
        raise InputError(f"{path} is neither a folder nor an .npy or .npz array: give one of them.")
    raise InputError(
        f"There is no folder or file {path}: give one, or `faces` or `digits`, which are built in."
    )
