"""Files that are whole or absent: written beside their final name, then renamed."""

import errno
import os
import platform
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from .errors import InputError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MARK = ".glow"
"""A hidden file in a folder of results under runs/: they are no data."""
SOFTWARE = "glowflow"
"""What the PNGs of results say of who wrote them."""
LOCK = ".lock"
HOLDER = "process {} on {}"
"""What stands in it."""
"""A hidden file in a run's folder, locked while a process trains."""
REFUSALS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
)
"""What a file system says to a file that it does not take."""


def path_of(name: str | Path) -> Path:
    """The path that a name is; `~` is one's home.

    Raises:
        InputError: no file can have this name.
    """
    path = Path(name)
    with suppress(RuntimeError):  # there is no such user
        path = path.expanduser()
    try:
        path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{str(name)[:40]}… is no path: it is too long.") from error
    return path


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
            _open_to_others(temporary)
            temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _open_to_others(path: Path) -> None:
    """Give a file the rights that new files have here: libraries make theirs private."""
    mask = os.umask(0)
    os.umask(mask)
    with suppress(OSError):
        path.chmod(0o666 & ~mask)


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
        InputError: it is not empty, or it is a file, or cannot be looked into.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file and not a folder: choose another --out.")
    try:
        inside = folder.is_dir() and any(path.name not in (LOCK, MARK) for path in folder.iterdir())
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot use {folder} ({error}): choose another --out.") from error
    if inside:
        raise InputError(f"{folder} exists and is not empty: choose another --out.")


def make_new(folder: Path) -> None:
    """Make a folder, or take an empty one: of two processes that make it one is refused.

    Raises:
        InputError: there is something in it, or it cannot be made.
    """
    require_new(folder)
    if not folder.is_dir():
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise InputError(f"{folder} is in use: choose another --out.") from error
        except OSError as error:
            raise _cannot_make(folder, error) from error
    require_writable(folder)


def make_numbered(folder: Path) -> Path:
    """Make `folder`, or, where there is one, `folder-2`, `folder-3` and so on.

    Raises:
        InputError: it cannot be made.
    """
    for number in count(1):
        path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise _cannot_make(path, error) from error
        return path
    raise AssertionError


def _cannot_make(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"Cannot write into {folder} ({error.strerror}); choose another output folder."
    )


def remove_empty(*folders: Path) -> None:
    """Remove those of the folders, one after another, that have nothing in them."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def in_use(folder: Path) -> Iterator[Callable[[], None]]:
    """Yield what makes `folder` ours until the end of the block, or of the process.

    The operating system keeps the lock: that of a process that has died keeps nobody out.

    Raises:
        InputError: by what is yielded: another process uses the folder, or it cannot be written.
    """
    held: list[Any] = []
    made = not folder.exists()

    def lock() -> None:
        require_writable(folder)
        path = folder / LOCK
        while not held:
            file = path.open("a+", encoding="utf-8")
            try:
                if fcntl is not None:  # else two processes are not told apart
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                who = file.read(200).strip() or "another process"
                file.close()
                raise InputError(
                    f"{folder} is in use by {who}: wait until it has ended, or stop it."
                ) from error
            if _is(file, path):
                held.append(file)
            else:  # its holder has just removed it
                file.close()
        held[0].truncate(0)
        held[0].write(HOLDER.format(os.getpid(), platform.node()))
        held[0].flush()

    try:
        yield lock
    finally:
        for file in held:
            (folder / LOCK).unlink(missing_ok=True)
            file.close()
        if made:  # and nothing came of it
            remove_empty(folder)


def has_holder(folder: Path) -> bool:
    """Whether a process of this machine that is alive, or one of another, says that the folder is
    its own. To try the lock itself would keep the process out that just wants it."""
    try:
        said = (folder / LOCK).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    found = re.fullmatch(HOLDER.format(r"(\d{1,9})", "(.*)"), said)
    if found is None or found[2] != platform.node():
        return found is not None
    try:
        os.kill(int(found[1]), 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _is(file: Any, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


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
        raise _cannot_make(folder, error) from error
