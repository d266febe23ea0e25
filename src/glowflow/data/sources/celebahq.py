"""CelebA-HQ: image files with attributes."""

from pathlib import Path

from ...errors import InputError
from ..config import DataConfig
from ..types import Count, Source
from .celeba import faces_with_attributes
from .folder import image_files

MASK_LAYOUT = ("CelebA-HQ-img", "CelebAMask-HQ-attribute-anno.txt")


def celeba_hq(folder: Path, config: DataConfig) -> Source | None:
    """`CelebA-HQ-img` and `CelebAMask-HQ-attribute-anno.txt` in `folder`.

    Returns:
        The source, or None where neither is there.

    Raises:
        InputError: one of the two is missing, or the text file does not fit the images.
    """
    root = folder
    if (folder / "CelebAMask-HQ").is_dir():
        root = folder / "CelebAMask-HQ"
    there = [(root / name).exists() for name in MASK_LAYOUT]
    if not any(there):
        return None
    if not all(there):
        missing = MASK_LAYOUT[there.index(False)]
        raise InputError(
            f"CelebA-HQ in {root} has no {missing}: put it there, or read all images as an "
            "ordinary folder by --layout folder, which glow train and glow data have."
        )
    names = image_files(root / MASK_LAYOUT[0])
    source = faces_with_attributes(root / MASK_LAYOUT[0], names, root / MASK_LAYOUT[1], config)
    return Source(
        title="CelebA-HQ",
        dataset="celebahq",
        counts=(Count("images", len(names), (30_000,)),),
        **{**source, "layout": "CelebA-HQ"},
    )
