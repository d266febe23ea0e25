"""Images: where they come from, one array on disk, one loader."""

from ..former import attributes

__getattr__ = attributes("data")
