"""The models, each from top to bottom like the figure of its paper."""

from ..former import attributes

__getattr__ = attributes("models")
