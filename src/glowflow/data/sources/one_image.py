"""A single image file."""

from pathlib import Path

from ..config import DataConfig
from ..types import Source
from .folder import Arranged, images_source


def image_source(path: Path, config: DataConfig) -> Source:
    """The image, or each of its frames: for whatever is not training.

    Raises:
        InputError: no image can be read, when it is read.
    """
    one = Arranged("folder", (path.name,))
    return images_source(path.name, path.parent, one, (), config, lambda name: path.parent / name)
