"""What the REST API answers: facts for the page, and pictures as files."""

import base64
import io
from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray

from ..reports.pictures import grid, signed_png, write_animation
from .house import Opened
from .stage import Frame, png
from .visitors import Picture

BINS = 40
"""Of the histogram of the held-out images."""
RAW = "application/octet-stream"


def facts_of(opened: Opened) -> dict[str, Any]:
    """What a page must know of a model."""
    stage = opened.stage
    config, known = stage.model.config, stage.model.trained_on
    channels, height, width = config.image_shape
    measured = stage.leakage
    return {
        "name": stage.name,
        "channels": channels,
        "height": height,
        "width": width,
        "bits": config.bits,
        "levels": [list(shape) for shape in stage.model.latent_shapes],
        "classes": config.classes,
        "class_names": [] if known is None else list(known.class_names),
        "trained_on": "" if known is None else known.source,
        "attributes": [
            {
                "name": name,
                "leakage": measured[name].leakage if name in measured else None,
                "flip": measured[name].flip if name in measured else None,
                "amount": measured[name].amount if name in measured else None,
            }
            for name in (stage.directions.latents if stage.directions else ())
        ],
        "exchangeable": stage.directions is not None and stage.directions.exchangeable,
    }


def reference_of(opened: Opened) -> dict[str, Any]:
    """How likely held-out images are: a histogram of their bits/dim."""
    calibration = opened.stage.calibration
    if calibration is None:
        return {"images": 0, "told": opened.told}
    bits = np.array([opened.stage.bits(nats) for nats in calibration.log_prob])
    low, high = np.quantile(bits, [0.002, 0.998])
    counts, edges = np.histogram(bits.clip(low, high), BINS)
    return {
        "images": len(bits),
        "source": calibration.source,
        "low": float(edges[0]),
        "high": float(edges[-1]),
        "counts": counts.tolist(),
        "sorted": np.sort(bits).round(5).tolist(),
    }


def told_of(picture: Picture) -> dict[str, Any]:
    """What a page shows of a picture, without the name that it is kept under."""
    photograph = picture.photograph
    return {
        "name": picture.name,
        "label": picture.label,
        "png": uri(png(picture.image)),
        "bits_per_dim": picture.bits_per_dim,
        "photograph": photograph
        and {
            "width": photograph.width,
            "height": photograph.height,
            "frames": photograph.frames,
        },
    }


def uri(data: bytes) -> str:
    """A PNG that a page shows as it is."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def png_of(image: NDArray[np.uint8]) -> Response:
    """One picture as a file."""
    return Response(png(image), media_type="image/png")


def gif_of(images: NDArray[np.uint8]) -> Response:
    """Pictures one after another as a file."""
    file = io.BytesIO()
    write_animation(file, images, "GIF")
    return Response(file.getvalue(), media_type="image/gif")


def raw_of(frame: Frame) -> Response:
    """Bytes row by row, which a page draws at once; a header says what is wrong with them."""
    rows = np.ascontiguousarray(frame.image.transpose(1, 2, 0)).tobytes()
    headers = {"Glow-Concern": frame.concern} if frame.concern else {}
    return Response(rows, media_type=RAW, headers=headers)


def strip_of(images: NDArray[np.uint8]) -> Response:
    """Pictures side by side as a file."""
    return Response(signed_png(grid(images, columns=len(images))), media_type="image/png")
