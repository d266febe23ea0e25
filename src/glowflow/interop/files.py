"""From a path to tensors: what kind of file it is, told by what is in it, and its reader."""

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name

from torch import Tensor

from ..errors import CheckpointError, in_one_line
from ..files import path_of
from .foreign import Given
from .frozen_graph import read_frozen_graph
from .graph_file import looks_like_graph
from .npz_file import read_npz
from .stored import damaged
from .tensor_bundle import MAGIC, read_bundle

TORCH_READER = "glowflow.interop.torch_file:read_torch"
LOG = "train.txt"
"""The official code's log of a run, beside its checkpoint; the first line is its settings."""
LONGEST_LINE = 1 << 20
KINDS = (
    "a TensorFlow 1 checkpoint (its folder, .index or prefix), a frozen graph, an .npz of arrays "
    "or a file of PyTorch"
)


@dataclass(frozen=True)
class Contents:
    """What is in a file."""

    tensors: Mapping[str, Tensor]
    said: Given = field(default_factory=Given)
    """What the file, or one beside it, says of itself."""
    left_out: tuple[str, ...] = ()
    path: Path = Path()
    """That was read, where a folder or a prefix was given."""


def read_contents(source: str | Path) -> Contents:
    """The tensors of a file, whatever kind it is.

    Raises:
        CheckpointError: there is no such file, or it is damaged, or of no known kind.
    """
    path = path_of(source)
    try:
        prefix = _prefix_of(path)
        if prefix is not None:
            return Contents(read_bundle(prefix), _read_log(prefix.parent / LOG), path=prefix)
        with path.open("rb") as file:
            start = file.read(64)
        return _read_file(path, start)
    except OSError as error:
        raise CheckpointError(
            f"Cannot read {path} ({error.strerror or in_one_line(error)}): give {KINDS}."
        ) from error


def _prefix_of(path: Path) -> Path | None:
    """The checkpoint that a path means: the name of its files without `.index`; None for others.

    Raises:
        CheckpointError: a folder has none, or several.
    """
    if path.is_dir():
        named = _named_by(path / "checkpoint")
        if named is not None:
            return named
        indices = sorted(path.glob("*.index"))
        if len(indices) != 1:
            found = ", ".join(index.name for index in indices[:20]) or "none"
            raise CheckpointError(
                f"In the folder {path} one checkpoint was looked for and there is {found}: name "
                f"the file; {KINDS}."
            )
        path = indices[0]
    if not path.is_file():
        index = path.with_name(path.name + ".index")
        if index.is_file():
            return path
        raise CheckpointError(f"There is no file {path}: give {KINDS}.")
    if path.name == "checkpoint" and (named := _named_by(path)) is not None:
        return named
    shard = re.fullmatch(r"(.+)\.data-\d{5}-of-\d{5}", path.name)
    if shard:
        return path.with_name(shard[1])
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - len(MAGIC)))
        is_index = file.read() == MAGIC
    if is_index or path.suffix == ".index":
        if path.suffix != ".index":
            raise CheckpointError(f"{path} is an index of TensorFlow: its name must end in .index.")
        return path.with_suffix("")
    return None


def _named_by(path: Path) -> Path | None:
    """The checkpoint that the text file `checkpoint` names, by its name, in the same folder."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        text = file.read(LONGEST_LINE).decode("utf-8", errors="replace")
    match = re.search(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
    if match is None:
        return None
    name = re.split(r"[/\\]+", match[1])[-1]
    prefix = path.with_name(name) if name not in ("", ".", "..") else path
    if not path.with_name(f"{prefix.name}.index").is_file():
        raise CheckpointError(
            f"{path} names the checkpoint {name}, and there is no {name}.index beside it: give the "
            ".index file itself."
        )
    return prefix


def _read_file(path: Path, start: bytes) -> Contents:
    if start[:2] == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except Exception as error:  # what damaged bytes make of zipfile
            raise damaged(path, error) from error
        if any(name.endswith(".npy") for name in names):
            tensors, left_out = read_npz(path)
            return Contents(tensors, left_out=left_out, path=path)
        if any(name.endswith("data.pkl") for name in names):
            return Contents(resolve_name(TORCH_READER)(path), path=path)
        raise CheckpointError(f"{path} is an archive of other things than arrays: give {KINDS}.")
    if start[:1] == b"\x80":
        return Contents(resolve_name(TORCH_READER)(path), path=path)
    if looks_like_graph(start):
        graph = read_frozen_graph(path)
        return Contents(graph.tensors, graph.said, graph.left_out, path)
    if start[:6] == b"\x93NUMPY":
        raise CheckpointError(
            f"{path} is one array, and no model: attribute directions are given as --directions, "
            "beside the model."
        )
    raise CheckpointError(f"{path} is none of the files that are read here: give {KINDS}.")


def _read_log(path: Path) -> Given:
    """What the first line of a run's log says; nothing where there is none to be read."""
    try:
        with path.open("rb") as file:
            line = file.readline(LONGEST_LINE)
        settings = json.loads(line)
    except (OSError, ValueError, RecursionError):
        return Given()
    if not isinstance(settings, dict):
        return Given()
    bits, side = (
        value if type(value) is int else None
        for value in (settings.get("n_bits_x"), settings.get("image_size"))
    )
    return Given(bits=bits, image_size=None if side is None else (side, side), run=settings)
