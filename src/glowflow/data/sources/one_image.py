"""A single image file."""

from pathlib import Path

from ..config import DataConfig
from ..types import Source
from .folder import images_source


def image_source(path: Path, config: DataConfig) -> Source:
    """The image, or each of its frames: for whatever is not training.

    Raises:
        InputError: no image can be read, when it is read.
    """
    return images_source(
        path.name, path.parent, (path.name,), (), config, lambda name: path.parent / name
    )
