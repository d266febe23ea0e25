"""What can be asked for by name."""

from typing import Literal

Curve = Literal["linear", "spherical"]
"""Between two codes."""
Estimator = Literal["mean", "matched", "linear"]
"""Of an attribute's direction."""
