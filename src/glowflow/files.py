"""Files that are whole or absent: written beside their final name, then renamed."""

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

REFUSALS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
)
"""What a file system says to a file that it does not take."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the file system's refusals into a sentence.

    Raises:
        InputError: `path` cannot be written, for want of room or of a right.
    """
    try:
        yield
    except Exception as error:
        number = _refusal(error)
        if number is None:
            raise
        full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what_to_do = "make room and go on" if full else "choose another output folder"
        raise InputError(f"Cannot write {path} ({os.strerror(number)}); {what_to_do}.") from error


def _refusal(error: BaseException | None) -> int | None:
    """The refusal behind an error: libraries wrap it, and Rust's say `(os error 28)`."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number is None and (said := re.search(r"\(os error (\d+)\)", str(error))):
            number = int(said[1])
        if number in REFUSALS:
            return number
        error = error.__cause__ or error.__context__
    return None


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
        with writing(path):
            yield temporary
            temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in `folder` of a process that was killed while it wrote them."""
    for path in folder.rglob(".*.part*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}\.part(\..*)?", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    with replacing(path) as temporary:
        # Names of files that are not UTF-8 are written with their bytes escaped.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def require_new(folder: Path) -> None:
    """Refuse a folder that has something in it, so that nothing is overwritten.

    Raises:
        InputError: it is not empty, or it is a file.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty: choose another --out.")


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
