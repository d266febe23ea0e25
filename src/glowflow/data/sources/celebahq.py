"""CelebA-HQ: image files with attributes."""

from pathlib import Path

from ..config import DataConfig
from ..types import Count, Source
from .celeba import faces_with_attributes
from .folder import image_files

MASK_LAYOUT = ("CelebA-HQ-img", "CelebAMask-HQ-attribute-anno.txt")


def celeba_hq(folder: Path, config: DataConfig) -> Source | None:
    """`CelebA-HQ-img` and `CelebAMask-HQ-attribute-anno.txt` in `folder`.

    Returns:
        The source, or None where one of the two is not there.

    Raises:
        InputError: the text file does not fit the images.
    """
    if not all((folder / name).exists() for name in MASK_LAYOUT):
        return None
    names = image_files(folder / MASK_LAYOUT[0])
    return Source(
        title="CelebA-HQ",
        dataset="celebahq",
        counts=(Count("images", len(names), (30_000,)),),
        **faces_with_attributes(folder / MASK_LAYOUT[0], names, folder / MASK_LAYOUT[1], config),
    )
