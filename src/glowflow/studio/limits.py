"""How much a visitor of the studio can ask for."""

from dataclasses import dataclass

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of the studio."""

    upload_bytes: int = 20 * MEBIBYTE
    """Of a file."""
    upload_pixels: int = 16_000_000
    """Of a picture, told from its header before it is decoded."""
    body_bytes: int = 64 * 1024
    """Of any other request."""
    pictures: int = 48
    """Of one visitor; the oldest goes when there is one more."""
    visitors: int = 64
    """At once."""
    kept_bytes: int = 512 * MEBIBYTE
    """Of all uploads of all visitors."""
    idle_seconds: float = 180.0
    """After which a visitor who says nothing is gone; an open page says something each minute."""
    waiting: int = 64
    """Requests that wait for the model."""
    samples: int = 24
    """Drawn at once."""
    frames: int = 17
    """Of a strip or an animation."""
