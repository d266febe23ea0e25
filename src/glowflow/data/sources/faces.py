"""Drawn faces, which stand in for photographs: a folder in CelebA's layout, made once."""

from dataclasses import replace
from pathlib import Path

from ...progress import with_bar
from ..config import DataConfig
from ..store import replace_folder
from ..types import Source
from .celeba import CELEBA, celeba
from .portraits import ATTRIBUTES, choose_portraits, paint

VERSION = 1
"""Of the drawings: another one is other data."""


def version(config: DataConfig) -> str:
    """Changes whenever the drawings would."""
    return f"{VERSION} {config.faces}"


def faces_source(config: DataConfig, cache: Path, progress: bool) -> Source:
    """`config.faces` portraits, drawn at the first call.

    Raises:
        InputError: the cache cannot be written.
    """
    drawn = celeba(drawn_faces(config.faces, cache, progress), config)
    assert drawn is not None
    return replace(drawn, title="drawn faces", layout="drawn faces", aligned=False)


def drawn_faces(count: int, cache: Path, progress: bool) -> Path:
    """A folder with `count` portraits of 64x64 in CelebA's layout, drawn at the first call.

    `img_align_celeba/000001.png` and so on (PNG, because JPEG would not keep the bytes),
    `list_attr_celeba.txt` with `ATTRIBUTES`, and `list_eval_partition.txt`: the last tenth is the
    test (2), the tenth before it for validation (1). The same files in every call.

    Args:
        count: number of portraits.
        cache: the folder is made below this one.
        progress: show a bar.

    Raises:
        InputError: the cache cannot be written.
    """
    folder = cache / "faces" / f"v{VERSION}-{count}"
    if folder.is_dir():
        return folder
    portraits = choose_portraits(count)

    def fill(temporary: Path) -> None:
        images, attributes, partition = (temporary / name for name in CELEBA)
        images.mkdir()
        rows, parts = [str(count), " ".join(ATTRIBUTES)], []
        held = max(1, count // 10)
        for index, portrait in enumerate(with_bar(portraits, "drawing faces", visible=progress)):
            name = f"{index + 1:06d}.png"
            paint(portrait).save(images / name, compress_level=3)
            truth = portrait.attributes()
            rows.append(f"{name} " + " ".join(f"{1 if truth[a] else -1:2d}" for a in ATTRIBUTES))
            part = 2 if index >= count - held else 1 if index >= count - 2 * held else 0
            parts.append(f"{name} {part}")
        attributes.write_text("\n".join(rows) + "\n", encoding="utf-8")
        partition.write_text("\n".join(parts) + "\n", encoding="utf-8")

    replace_folder(folder, fill)
    return folder
