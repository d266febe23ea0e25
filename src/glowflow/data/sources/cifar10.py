"""CIFAR-10, as published in Python's format."""

from pathlib import Path

from ...errors import InputError
from ..config import DataConfig
from ..types import Source
from .batch_files import batch_file_source

FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_FILE = "test_batch"
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def cifar10(folder: Path, config: DataConfig) -> Source | None:
    """`data_batch_1` to `data_batch_5` and `test_batch`, in `folder` or its `cifar-10-batches-py`.

    The test batch is the test; validation is taken out of the training images.

    Returns:
        The source, or None where there is no such file.

    Raises:
        InputError: a batch is missing or damaged.
    """
    root = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    files = [root / name for name in (*TRAIN_FILES, TEST_FILE)]
    missing = [path.name for path in files if not path.is_file()]
    if len(missing) == len(files):
        return None
    if missing:
        raise InputError(
            f"CIFAR-10 in {root} has no {', '.join(missing)}: unpack cifar-10-python.tar.gz again."
        )
    return batch_file_source(
        files[:-1],
        files[-1],
        config,
        title="CIFAR-10",
        dataset="cifar10",
        published=(("train", 50_000), ("test", 10_000)),
        classes=CLASSES,
        first_label=0,
    )
