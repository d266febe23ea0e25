"""One training run: configuration, objective, loop, state, validation."""

from ..former import attributes

__getattr__ = attributes("training")
