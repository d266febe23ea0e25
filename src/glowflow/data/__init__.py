"""Images as one memory-mapped array: where they come from and how they are read."""

from .images import read_image
from .loader import batches
from .source import open_splits
from .store import cache_folder
from .types import ImageData, Splits

__all__ = ["ImageData", "Splits", "batches", "cache_folder", "open_splits", "read_image"]
