"""onnxruntime-web, with which a page runs a model: found on this machine, or fetched by npm."""

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..data.store import cache_folder
from ..errors import InputError
from ..files import path_of, replacing

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
"""That is fetched; a folder that is given may hold another."""
SCRIPT = "ort.wasm.bundle.min.mjs"
PROGRAM = "ort-wasm-simd-threaded.wasm"
SHA256 = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    PROGRAM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""Of the files of that version."""
PATIENCE = 600
"""Seconds that npm is given."""
LICENSE = """MIT License

Copyright (c) Microsoft Corporation. All rights reserved.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
"""Of onnxruntime-web, whose package has it by name alone."""


@dataclass(frozen=True)
class Runtime:
    """The two files of the plain CPU build."""

    script: Path
    program: Path
    version: str


def runtime(folder: Path | None = None) -> Runtime:
    """The runtime in `folder`, else one that is at hand, else the one that npm fetches.

    Args:
        folder: of the package, or its `dist`.

    Raises:
        InputError: it is not there, and cannot be fetched.
    """
    if folder is not None:
        given = path_of(folder)
        if (found := _inside(given)) is not None:
            return found
        raise InputError(
            f"There is no {SCRIPT} with {PROGRAM} in {folder}: give the folder of the npm package "
            f"{PACKAGE}, version {VERSION} or later."
        )
    return runtime_at_hand() or _fetched()


def runtime_at_hand() -> Runtime | None:
    """The runtime of a `node_modules` in this folder or above it, or the one that was fetched."""
    here = Path.cwd()
    places = [above / "node_modules" / PACKAGE for above in (here, *here.parents)]
    found = map(_inside, (*places, _own_folder()))
    return next((one for one in found if one is not None), None)


def _inside(folder: Path) -> Runtime | None:
    for place in (folder, folder / "dist"):
        script, program = place / SCRIPT, place / PROGRAM
        if script.is_file() and program.is_file():
            return Runtime(script, program, _version(place))
    return None


def _version(folder: Path) -> str:
    """As the package says that the files are in, or are the `dist` of."""
    for place in (folder, folder.parent):
        try:
            said = json.loads((place / "package.json").read_text(encoding="utf-8"))
            if said["name"] == PACKAGE:
                return str(said["version"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return VERSION if folder == _own_folder() else "unknown"


def _own_folder() -> Path:
    return cache_folder() / f"{PACKAGE}-{VERSION}"


def _fetched() -> Runtime:
    """The package by npm, of which the two files are kept."""
    ways = f"run npm install {PACKAGE}@{VERSION} in this folder, or give --runtime FOLDER"
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"The page needs {PACKAGE}, and there is no npm to fetch it: {ways}.")
    with tempfile.TemporaryDirectory() as folder:
        asked = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", folder, "--silent"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"npm did not fetch {PACKAGE} ({error}): {ways}.") from error
        archives = sorted(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            said = " ".join(done.stderr.split())[:200] or f"it ended with {done.returncode}"
            raise InputError(f"npm did not fetch {PACKAGE} ({said}): {ways}.")
        unpack(archives[0], _own_folder())
    found = _inside(_own_folder())
    assert found is not None
    return found


def unpack(archive: Path, folder: Path) -> None:
    """Take the two files out of the package, if they are the ones that are known.

    Raises:
        InputError: they are not, or the archive is damaged.
    """
    for name, known in SHA256.items():
        try:
            with tarfile.open(archive) as package:
                member = package.extractfile(f"package/dist/{name}")
                content = member.read() if member is not None else b""
        except (tarfile.TarError, OSError, EOFError, KeyError) as error:
            raise InputError(
                f"{archive.name} holds no {name} ({error}): fetch {PACKAGE} {VERSION} again."
            ) from error
        if hashlib.sha256(content).hexdigest() != known:
            raise InputError(
                f"{name} of {archive.name} is not that of {PACKAGE} {VERSION}: fetch it again."
            )
        with replacing(folder / name) as path:
            path.write_bytes(content)
