"""The official files, whole."""

import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
DATA = "model_best_loss.ckpt.data-00000-of-00001"


def unpack_official(folder):
    """A folder as the official code leaves it, with the graphs and a dump of the variables."""
    for path in (GOLDEN / "openai_checkpoint").iterdir():
        if path.suffix == ".xz":
            (folder / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
        else:
            shutil.copyfile(path, folder / path.name)
    shutil.copyfile(GOLDEN / "openai_affine_invconv.npz", folder / "golden.npz")


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """What `unpack_official` makes."""
    folder = tmp_path_factory.mktemp("official")
    unpack_official(folder)
    return folder


@pytest.fixture(scope="session")
def golden():
    """What the official code computed."""
    with np.load(GOLDEN / "openai_affine_invconv.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def golden_variables(golden):
    return {n.removeprefix("var:"): a for n, a in golden.items() if n.startswith("var:")}
