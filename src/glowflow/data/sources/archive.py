"""Zip and tar files of images, read where they are."""

import io
import tarfile
import threading
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import InputError, in_one_line
from ...photos.images import UnreadableImageError
from ..config import DataConfig
from ..types import LeftOut, Source
from ..walk import left_out_by_type, picture_suffixes
from .folder import by_folders, images_source

LARGEST = 1 << 30
"""Bytes of an image file in an archive, at most."""


def archive_source(path: Path, config: DataConfig) -> Source:
    """The images of a zip or tar file, compressed or not, laid out as in a folder.

    Nothing is unpacked onto the disk. Hidden files, and files of other types, are left out.

    Raises:
        InputError: the file is damaged, encrypted, or has no image in it.
    """
    try:
        zipped = zipfile.is_zipfile(path)
        archive: Any = zipfile.ZipFile(path) if zipped else tarfile.open(path)  # noqa: SIM115
        members = _zip_members(archive) if zipped else _tar_members(archive)
    except Exception as error:  # the archives' own, zlib's, lzma's
        raise InputError(
            f"Cannot read {path}: it is damaged ({in_one_line(error)[:200]}); get it again."
        ) from error
    images, others, outside = {}, [], []
    for name, member in members.items():
        pure = PurePosixPath(name)
        if ".." in pure.parts:
            outside.append(name)
        elif any(part.startswith(".") or part == "__MACOSX" for part in pure.parts):
            continue
        elif pure.suffix.lower() in picture_suffixes():
            images[name] = member
        else:
            others.append(name)
    if not images:
        raise InputError(f"There is no image in {path}: give an archive with png or jpg files.")
    lock = threading.Lock()

    def open_file(name: str) -> io.BytesIO:
        member = images[name]
        try:
            if (member.file_size if zipped else member.size) > LARGEST:
                raise UnreadableImageError("it is larger than 1 GB")
            with lock:
                file = archive.open(member) if zipped else archive.extractfile(member)
                return io.BytesIO(file.read(LARGEST))
        except UnreadableImageError:
            raise
        except Exception as error:  # zlib, lzma, the archive's own, a password that is missing
            raise UnreadableImageError(in_one_line(error)) from error

    # A compressed tar file is read from its beginning to its end.
    names = tuple(sorted(images)) if zipped else tuple(images)
    return images_source(
        path.name,
        path,
        by_folders(names, config),
        (*_outside(outside), *left_out_by_type(others)),
        config,
        open_file,
        in_order=not zipped,
    )


def _outside(names: list[str]) -> tuple[LeftOut, ...]:
    if not names:
        return ()
    return (LeftOut("its path leads out of the archive", len(names), names[0]),)


def _zip_members(archive: zipfile.ZipFile) -> dict[str, Any]:
    return {info.filename: info for info in archive.infolist() if not info.is_dir()}


def _tar_members(archive: tarfile.TarFile) -> dict[str, Any]:
    return {
        member.name.removeprefix("./"): member for member in archive.getmembers() if member.isfile()
    }
