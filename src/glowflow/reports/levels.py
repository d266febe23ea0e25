"""One self-contained HTML page about the principal axes of the latents."""

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..files import write_text
from ..latents.levels import LatentPCA
from .page import html_page
from .pictures import png_bytes, rows, to_pil

THUMBNAIL = 64
"""Pixels of the longer side of a picture on the page, at most."""
SPRITE_COLUMNS = 25

MORE_STYLE = """
#plot { display: block; width: 100%; border: 1px solid var(--line); border-radius: .5rem; }
#plot circle { stroke: #fff8; stroke-width: .4; cursor: crosshair; }
#plot text { font-size: 11px; fill: currentColor; }
#tip { position: fixed; display: none; pointer-events: none; background: #fff; color: #222;
       padding: .4rem; border-radius: .4rem; box-shadow: 0 2px 10px #0006; font-size: .75rem;
       max-width: 13rem; z-index: 2; }
#tip div { image-rendering: auto; margin-bottom: .2rem; }
.controls { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; margin: 1rem 0; }
select { font: inherit; max-width: 16rem; } label { white-space: nowrap; }
.readouts table { width: auto; } .readouts th { white-space: nowrap; }
.readouts td:first-child, .readouts td:last-child { min-width: 0; }
.readouts td, .readouts th { padding-right: 1.2rem; }
@media (max-width: 30rem) {
  .readouts table { font-size: .78rem; } .readouts td, .readouts th { padding-right: .5rem; }
}
td.best { font-weight: 600; color: var(--accent); }
"""

SCRIPT = """
const D = JSON.parse(document.getElementById('data').textContent);
const at = id => document.getElementById(id), plot = at('plot'), tip = at('tip');
const option = (id, names) => at(id).innerHTML =
  names.map((n, i) => `<option value=${i}></option>`).join('');
function fill(id, names, chosen) {
  option(id, names);
  [...at(id).options].forEach((o, i) => o.textContent = names[i]);
  at(id).selectedIndex = Math.min(chosen, names.length - 1);
}
function axes() {
  const n = D.levels[at('level').value].names.length;
  const names = D.levels[at('level').value].names;
  fill('x', names, 0); fill('y', names, Math.min(1, n - 1));
}
function draw() {
  const level = D.levels[at('level').value], X = +at('x').value, Y = +at('y').value;
  const a = +at('attribute').value - 1;
  const W = plot.clientWidth, H = Math.max(320, Math.round(0.6 * W)), P = 30;
  plot.setAttribute('viewBox', `0 0 ${W} ${H}`);
  const xs = level.points.map(p => p[X]), ys = level.points.map(p => p[Y]);
  const scale = (v, lo, hi, from, to) => from + (v - lo) / (hi - lo || 1) * (to - from);
  const range = v => [Math.min(...v), Math.max(...v)];
  const [x0, x1] = range(xs), [y0, y1] = range(ys);
  const order = xs.map((_, i) => i);
  if (a >= 0) order.sort((i, j) => D.attributes[a].true[i] - D.attributes[a].true[j]);
  plot.innerHTML = order.map(i => {
    const on = a >= 0 && +D.attributes[a].true[i];
    const colour = a < 0 ? '#4a7fb5' : on ? '#c2410c' : '#8fb3d9';
    return `<circle data-i=${i} cx=${scale(xs[i], x0, x1, P, W - P).toFixed(1)} ` +
      `cy=${scale(ys[i], y0, y1, H - P, P).toFixed(1)} r=5 fill="${colour}"></circle>`;
  }).join('') + `<text x=${W / 2} y=${H - 8} text-anchor=middle></text>` +
    `<text x=12 y=${H / 2} text-anchor=middle transform="rotate(-90 12 ${H / 2})"></text>`;
  const labels = plot.querySelectorAll('text');
  labels[0].textContent = level.names[X]; labels[1].textContent = level.names[Y];
  at('key').textContent = a < 0 ? '' :
    `orange: ${D.attributes[a].name} (${[...D.attributes[a].true].filter(c => +c).length}` +
    ` of ${xs.length}); blue: not.`;
}
plot.addEventListener('mousemove', event => {
  const i = event.target.dataset && event.target.dataset.i;
  if (i === undefined) { tip.style.display = 'none'; return; }
  const [w, h] = D.cell, c = i % D.columns, r = Math.floor(i / D.columns), z = 96 / Math.max(w, h);
  tip.innerHTML = '<div></div><span></span>';
  Object.assign(tip.firstChild.style, { width: w * z + 'px', height: h * z + 'px',
    backgroundImage: `url(${at('sprite').src})`,
    backgroundSize: `${at('sprite').naturalWidth * z}px auto`,
    backgroundPosition: `-${c * w * z}px -${r * h * z}px` });
  tip.lastChild.textContent =
    D.attributes.filter(a => +a.true[i]).map(a => a.name).join(', ') || D.names[i] || '';
  tip.style.display = 'block';
  const inside = (at, size, all) => Math.max(0, Math.min(at + 14, all - size - 8)) + 'px';
  Object.assign(tip.style, { left: inside(event.clientX, tip.offsetWidth, innerWidth),
    top: inside(event.clientY, tip.offsetHeight, innerHeight) });
});
plot.addEventListener('mouseleave', () => tip.style.display = 'none');
fill('level', D.levels.map((l, i) => `level ${i + 1} of ${D.levels.length}, ${l.shape}`),
     D.levels.length - 1);
fill('attribute', ['none', ...D.attributes.map(a => a.name)], 1);
axes(); draw();
at('level').onchange = () => { axes(); draw(); };
for (const id of ['x', 'y', 'attribute']) at(id).onchange = draw;
onresize = draw;
"""


def write_pca_report(
    path: Path,
    found: LatentPCA,
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
        found: axes, readouts and held-out images.
        along: for each level and axis, images (N, C, H, W) along it.
        steps: where along the axis they are, in standard deviations.
        title: of the page.
        source: the images, in words.
        points: held-out images in the plot, at most; the first ones.

    Raises:
        InputError: the folder cannot be written.
    """
    shown = min(points, len(found.indices))
    images = found.data.images[found.indices[:shown]]
    sprite, cell = _sprite(images)
    names = found.data.attribute_names if found.data.attributes is not None else ()
    truth = (
        np.asarray(found.data.attributes[found.indices[:shown]])
        if found.data.attributes is not None
        else np.zeros((shown, 0), dtype=bool)
    )
    data = {
        "cell": cell,
        "columns": SPRITE_COLUMNS,
        "names": [found.data.names[i] if found.data.names else "" for i in found.indices[:shown]],
        "attributes": [
            {"name": name, "true": "".join("01"[int(v)] for v in truth[:, a])}
            for a, name in enumerate(names)
        ],
        "levels": [
            {
                "shape": "x".join(map(str, level.shape)),
                "names": [f"axis {i + 1}, {share:.1%}" for i, share in enumerate(level.shares)],
                "points": np.round(coordinates[:shown], 3).tolist(),
            }
            for level, coordinates in zip(found.levels, found.coordinates, strict=True)
        ],
    }
    embedded = json.dumps(data).replace("<", "\\u003c")
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(source)}<br>Axes of the whitened latents, fitted to {found.fitted:,} training "
        f"images.</p>",
        "<h2>Held-out images on two axes</h2>",
        "<div class=controls><label>Level <select id=level></select></label> <label>across "
        "<select id=x></select></label> <label>up <select id=y></select></label> <label>colour "
        "<select id=attribute></select></label></div>",
        "<svg id=plot role=img aria-label='scatter plot'></svg>",
        f"<p class=quiet><span id=key></span> {shown:,} images; point at one to see it.</p>",
        "<div id=tip></div>",
        f'<img id=sprite alt="" hidden src="data:image/webp;base64,{sprite}">',
        "<h2>What can be read linearly off each level</h2>",
        _readouts(found),
        "<h2>Explained variance, and pictures along the axes</h2>",
        "<p>Each row starts from the mean code of all levels and moves one axis of one level, in "
        "standard deviations along it. The variance of a coordinate would be 1 if the model fitted "
        "perfectly.</p>",
        *(_level(found, i, pictures, steps) for i, pictures in enumerate(along)),
        f"<script type=application/json id=data>{embedded}</script><script>{SCRIPT}</script>",
    ]
    write_text(path, html_page(title, body, MORE_STYLE))


def _readouts(found: LatentPCA) -> str:
    if not found.readouts:
        return "<p>The images have no attributes with enough images on both sides.</p>"
    heads = [f"level {i + 1}" for i in range(len(found.levels))]
    lines = []
    for readout in found.readouts:
        best = max(readout.accuracy[:-1])
        cells = "".join(
            f"<td class='figure{' best' if value == best and best > readout.majority else ''}'>"
            f"{value:.1%}</td>"
            for value in readout.accuracy[:-1]
        )
        lines.append(
            f"<tr><td>{escape(readout.name)}</td><td class='figure quiet'>{readout.majority:.1%}"
            f"</td>{cells}<td class=figure>{readout.accuracy[-1]:.1%}</td></tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in ["", "majority", *heads, "all"])
    refused = (
        f"<p class=quiet>Too few images on a side: {escape(', '.join(found.refused))}.</p>"
        if found.refused
        else ""
    )
    return (
        f"<p>Accuracy on {len(found.indices):,} held-out images, beside the share of the larger "
        f"side: linear discriminants fitted to {found.fitted:,} training images, thresholds chosen "
        f"on {found.chosen_on:,} validation images. The best level of an attribute is marked where "
        "it is above the majority.</p>"
        f"<div class='wide readouts'><table><tr>{head}</tr>{''.join(lines)}</table></div>{refused}"
    )


def _level(
    found: LatentPCA, index: int, pictures: Sequence[NDArray[np.uint8]], steps: Sequence[float]
) -> str:
    level = found.levels[index]
    largest = max([float(share) for share in level.shares] or [1.0])
    lines = "".join(
        f"<tr><td>axis {i + 1}</td><td class=figure>{share:.2%}</td><td class=figure>{variance:.2f}"
        f"</td><td class=barcell><div class=bar style='width:{100 * share / largest:.1f}%'></div>"
        "</td></tr>"
        for i, (share, variance) in enumerate(
            zip(level.shares.tolist(), level.variances.tolist(), strict=True)
        )
    )
    labelled = [(f"axis {i + 1}", _small(images)) for i, images in enumerate(pictures)]
    sheet = ""
    if labelled:
        picture = png_bytes(rows(labelled, [f"{step:+g}" for step in steps]))
        encoded = base64.b64encode(picture).decode()
        sheet = (
            f'<img alt="images along the axes of level {index + 1}" '
            f'src="data:image/png;base64,{encoded}">'
        )
    shape = "x".join(map(str, level.shape))
    return (
        f"<h3>Level {index + 1}: {shape}</h3>{sheet}"
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


def _sprite(images: NDArray[np.uint8]) -> tuple[str, tuple[int, int]]:
    """All images in one WebP as base64, and the width and height of each."""
    pictures = [to_pil(image).convert("RGB") for image in _small(images)]
    width, height = pictures[0].size
    lines = -(-len(pictures) // SPRITE_COLUMNS)
    sheet = Image.new("RGB", (min(SPRITE_COLUMNS, len(pictures)) * width, lines * height))
    for index, picture in enumerate(pictures):
        row, column = divmod(index, SPRITE_COLUMNS)
        sheet.paste(picture, (column * width, row * height))
    file = io.BytesIO()
    sheet.save(file, format="WEBP", quality=85)
    return base64.b64encode(file.getvalue()).decode(), (width, height)
