"""The ways in which an image becomes the size that a model takes."""

from typing import Literal

Fit = Literal["crop", "stretch", "pad", "patches"]
