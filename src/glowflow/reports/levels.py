"""One self-contained HTML page about the principal axes of the latents."""

import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..files import write_text
from ..latents.levels import LatentPCA, LevelAxes
from ..latents.readouts import Readout
from .page import asset, bar_cell, data_uri, html_page, picture
from .pictures import png_bytes, rows, to_pil

THUMBNAIL = 64
"""Pixels of the longer side of a picture on the page, at most."""
SPRITE_COLUMNS = 25
HIGHEST = 16_383
"""Pixels of a side of a WebP."""


def write_pca_report(
    path: Path,
    pca: LatentPCA,
    along: Sequence[Sequence[NDArray[np.uint8]]],
    steps: Sequence[float],
    *,
    title: str,
    source: str,
    points: int = 500,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: of the page.
        pca: axes, readouts and held-out images.
        along: for each level and axis, images (N, C, H, W) along it.
        steps: where along the axis they are, in standard deviations.
        title: of the page.
        source: the images, in words.
        points: held-out images in the plot, at most; the first ones.

    Raises:
        InputError: the folder cannot be written.
    """
    shown = pca.indices[: min(points, len(pca.indices))]
    sheet, cell = sprite(pca.data.images[shown])
    columns = sprite_columns(len(shown), cell[1])
    plotted = {"cell": cell, "columns": columns, **_points(pca, shown)}
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(source)}<br>Axes of the whitened latents, fitted to {pca.fitted:,} training "
        f"images.</p>",
        "<h2>Held-out images on two axes</h2>",
        "<div class=controls><label>Level <select id=level></select></label> <label>across "
        "<select id=x></select></label> <label>up <select id=y></select></label> <label>colour "
        "<select id=attribute></select></label></div>",
        "<svg id=plot role=img aria-label='scatter plot'></svg>",
        f"<p class=quiet><span id=key></span> {len(shown):,} images; point at one to see it.</p>",
        "<div id=tip></div>",
        f'<img id=sprite alt="" hidden src="{data_uri(sheet, "image/webp")}">',
        "<h2>What can be read linearly off each level</h2>",
        _readouts(pca),
        "<h2>Explained variance, and pictures along the axes</h2>",
        "<p>Each row starts from the mean code of all levels and moves one axis of one level, in "
        "standard deviations along it. The variance of a coordinate would be 1 if the model fitted "
        "perfectly.</p>",
        *(_level(level, i, along[i - 1], steps) for i, level in enumerate(pca.levels, start=1)),
        f"<script type=application/json id=data>{_embedded(plotted)}</script>",
        f"<script>{asset('levels.js')}</script>",
    ]
    write_text(path, html_page(title, body, asset("levels.css")))


def _points(pca: LatentPCA, shown: NDArray[np.int64]) -> dict[str, Any]:
    """What the script draws: names, attributes and coordinates of the images."""
    names, attributes = pca.data.names, pca.data.attributes
    return {
        "names": [names[i] if names else "" for i in shown],
        "attributes": []
        if attributes is None
        else [
            {"name": name, "true": "".join("01"[int(value)] for value in attributes[shown, a])}
            for a, name in enumerate(pca.data.attribute_names)
        ],
        "levels": [
            {
                "shape": "x".join(map(str, level.shape)),
                "names": [f"axis {i}, {share:.1%}" for i, share in enumerate(level.shares, 1)],
                "points": np.round(coordinates[: len(shown)], 3).tolist(),
            }
            for level, coordinates in zip(pca.levels, pca.coordinates, strict=True)
        ],
    }


def _embedded(data: dict[str, Any]) -> str:
    """JSON that no tag can end."""
    return json.dumps(data).replace("<", "\\u003c")


def _readouts(pca: LatentPCA) -> str:
    if not pca.readouts:
        return "<p>The images have no attributes with enough images on both sides.</p>"
    heads = ["", "majority", *(f"level {i + 1}" for i in range(len(pca.levels))), "all"]
    head = "".join(f"<th>{name}</th>" for name in heads)
    refused = (
        f"<p class=quiet>Too few images on a side: {escape(', '.join(pca.refused))}.</p>"
        if pca.refused
        else ""
    )
    return (
        f"<p>Accuracy on {len(pca.indices):,} held-out images, beside the share of the larger "
        f"side: linear discriminants fitted to {pca.fitted:,} training images, thresholds chosen "
        f"on {pca.chosen_on:,} validation images. The best level of an attribute is marked where "
        "it is above the majority.</p>"
        f"<div class='wide readouts'><table><tr>{head}</tr>"
        f"{''.join(map(_readout, pca.readouts))}</table></div>{refused}"
    )


def _readout(readout: Readout) -> str:
    *by_level, together = readout.accuracy
    best = max(*by_level, readout.majority)
    cells = "".join(
        f"<td class='figure{' best' if value == best > readout.majority else ''}'>{value:.1%}</td>"
        for value in by_level
    )
    return (
        f"<tr><td>{escape(readout.name)}</td><td class='figure quiet'>{readout.majority:.1%}</td>"
        f"{cells}<td class=figure>{together:.1%}</td></tr>"
    )


def _level(
    level: LevelAxes, number: int, along: Sequence[NDArray[np.uint8]], steps: Sequence[float]
) -> str:
    largest = max([float(share) for share in level.shares] or [1.0])
    lines = "".join(
        f"<tr><td>axis {i}</td><td class=figure>{share:.2%}</td>"
        f"<td class=figure>{variance:.2f}</td>{bar_cell(share / largest)}</tr>"
        for i, (share, variance) in enumerate(
            zip(level.shares.tolist(), level.variances.tolist(), strict=True), start=1
        )
    )
    sheet = ""
    if along:
        labelled = [(f"axis {i}", _small(images)) for i, images in enumerate(along, start=1)]
        sheet = picture(
            png_bytes(rows(labelled, [f"{step:+g}" for step in steps])),
            f"images along the axes of level {number}",
        )
    shape = "x".join(map(str, level.shape))
    return (
        f"<h3>Level {number}: {shape}</h3>{sheet}"
        f"<details><summary>{level.shares.sum():.1%} of the variance along "
        f"{len(level.shares)} axes</summary><div class=wide><table><tr><th></th>"
        f"<th>share</th><th>variance</th><th></th></tr>{lines}</table></div></details>"
    )


def _small(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (N, C, H, W), reduced to `THUMBNAIL` by a whole factor where they are larger."""
    factor = -(-max(images.shape[2:]) // THUMBNAIL)
    if factor <= 1:
        return images
    pictures = [np.asarray(to_pil(image).reduce(factor)) for image in images]
    return np.stack([p[None] if p.ndim == 2 else p.transpose(2, 0, 1) for p in pictures])


def sprite_columns(count: int, height: int) -> int:
    """Images in a row of a sprite: `SPRITE_COLUMNS`, or more where it would be too high."""
    return max(SPRITE_COLUMNS, -(-count // (HIGHEST // height)))


def sprite(images: NDArray[np.uint8]) -> tuple[bytes, tuple[int, int]]:
    """All images in one WebP, and the width and height of each."""
    pictures = [to_pil(image).convert("RGB") for image in _small(images)]
    width, height = pictures[0].size
    columns = sprite_columns(len(pictures), height)
    lines = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (min(columns, len(pictures)) * width, lines * height))
    for index, thumbnail in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(thumbnail, (column * width, row * height))
    file = io.BytesIO()
    sheet.save(file, format="WEBP", quality=85)
    return file.getvalue(), (width, height)
