"""The data of a small run."""

from .runs import splits

__all__ = ["splits"]
