"""What the demonstrations share: data in a file, a training by the command line, a page."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from glowflow.files import make_new, replacing
from glowflow.studies.page import Plot, Section, Table, markdown

from ..device import describe
from ..measure import ROOT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = ROOT / "docs" / "results"


def write_arrays(path: Path, parts: Iterable[Mapping[str, NDArray[Any]]]) -> None:
    """Arrays by name, float32 in HDF5, part after part."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for part in parts:
            for name, values in part.items():
                if name not in file:
                    most = (None, *values.shape[1:])
                    file.create_dataset(name, (0, *values.shape[1:]), "f4", maxshape=most)
                array = file[name]
                array.resize(len(array) + len(values), axis=0)
                array[-len(values) :] = values


def train(data: Path, out: Path, *options: str) -> None:
    """`glow train DATA OPTIONS --out OUT`, as anybody would."""
    command = [sys.executable, "-m", "glowflow", "train", str(data), *options, "--out", str(out)]
    subprocess.run(command, check=True)


def run_on(
    parts: Iterable[Mapping[str, NDArray[Any]]], folder: Path, name: str, *options: str
) -> Path:
    """The run NAME of these arrays, both written into the folder."""
    write_arrays(folder / f"{name}.h5", parts)
    train(folder / f"{name}.h5", folder / name, *options)
    return folder / name


def trained(run: Path) -> str:
    """How long a run took and what it saw, in words."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    return f"{last['images']:,} fields in {last['seconds'] / 60:.0f} minutes"


def leave(
    name: str, title: str, paragraphs: Sequence[str], sections: Sequence[Section],
    summary: Mapping[str, Any], out: Path | None = None,
) -> Path:  # fmt: skip
    """Write NAME.md, its pictures and summary.json into docs/results/NAME, or `out`."""
    folder = out or RESULTS / name
    if out is not None:
        make_new(out)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {p.file: p.png() for section in sections for p in section.pictures}
    device = str(describe(torch.device("cpu")))
    facts = {"device": device, **summary}
    files = {
        f"{name}.md": markdown(title, [*paragraphs, f"Device: {device}."], sections).encode(),
        "summary.json": (json.dumps(facts, indent=2) + "\n").encode(),
    }
    for file, content in {**pictures, **files}.items():
        with replacing(folder / file) as path:
            path.write_bytes(content)
    print(folder)
    return folder


def table(lines: Sequence[tuple[str, str, str]]) -> Table:
    """What is asked, what was found, what was wanted."""
    return Table(["", "found", "wanted"], [list(line) for line in lines])


def fields_plot(
    file: str, shows: str, rows: Sequence[Sequence[tuple[str, NDArray[Any]]]], caption: str = ""
) -> Plot:
    """Fields (H, W) with their titles, each row in one range of colours."""
    most = max(map(len, rows))

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(len(rows), most, squeeze=False)
        for axes in panels.flat:
            axes.set_axis_off()
        for line, row in zip(panels, rows, strict=True):
            low = min(float(np.nanmin(field)) for _, field in row)
            high = max(float(np.nanmax(field)) for _, field in row)
            for axes, (title, field) in zip(line, row, strict=False):
                axes.set_axis_on()
                axes.imshow(field, vmin=low, vmax=high, cmap="viridis")
                axes.set_title(title, fontsize=8)
                axes.set_xticks([])
                axes.set_yticks([])
                axes.set_facecolor("0.85")

    return Plot(file, shows, (1.6 * most, 1.8 * len(rows)), draw, caption)
