"""Files that are whole or absent: written beside their final name, then renamed."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` if the block succeeds.

    Raises:
        InputError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot make the folder {path.parent} ({error.strerror}); choose another one."
        ) from error
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except PermissionError as error:
        raise InputError(
            f"Cannot write {path} ({error.strerror}); choose another output folder."
        ) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def require_writable(folder: Path) -> None:
    """Make `folder` and write a byte into it, so that a long run fails before it starts.

    Raises:
        InputError: the folder cannot be made or written.
    """
    probe = folder / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"Cannot write into {folder} ({error.strerror}); choose another output folder."
        ) from error
