"""What can be asked for by name."""

from typing import Literal

Score = Literal["log_prob", "typicality", "complexity"]
"""Of how strange an image is."""
