"""The runs of a folder as their files tell of them."""

import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import GlowflowError
from ..models.pretrained import CONFIG_FILE as MODEL_FILE
from ..models.pretrained import WEIGHTS_FILE
from ..training.as_yaml import to_yaml
from ..training.config import CONFIG_FILE, read_run_config
from ..training.health import concerns
from ..training.metrics import METRICS_FILE, read_metrics
from .visitors import UnknownError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
"""What a run can be called: nothing that leads out of the folder."""
POINTS = 400
"""Of a curve, at most."""
CURVES = ("bits_per_dim", "valid_bits_per_dim")
HEALTH = (
    "bits_by_level", "condition_by_level", "smallest_scale_by_level", "largest_scale_by_level",
    "round_trip_error", "samples_not_finite", "samples_far", "samples", "grad_norm", "lr",
    "images_per_second", *CURVES,
)  # fmt: skip


class Runs:
    """The runs of a folder.

    Args:
        folder: that they are in; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, tuple[tuple[int, int], list[dict[str, Any]]]] = {}

    def run(self, name: str) -> Path:
        """The folder of a run.

        Raises:
            UnknownError: there is none of that name in the folder.
        """
        folder = self.folder / name
        if not NAME.fullmatch(name) or not (folder / CONFIG_FILE).is_file():
            raise UnknownError(f"There is no run {name[:80]!r} in {self.folder}.")
        return folder

    def look(self, name: str) -> dict[str, Any]:
        """The curves and the health of a run.

        Raises:
            UnknownError: there is no such run.
            CheckpointError: its files are damaged.
        """
        folder = self.run(name)
        config, lines = read_run_config(folder), self._metrics(folder)
        newest = {key: value for line in lines for key, value in line.items()}
        figures = {key: newest[key] for key in HEALTH if key in newest}
        curves = {figure: _curve(lines, figure) for figure in CURVES}
        looked = {
            "run": name,
            "configuration": to_yaml(config),
            "curves": curves,
            "health": figures,
            "warnings": concerns(newest, bits=config.model.bits, clip=config.clip),
            "sheet": sheet.stem if (sheet := self.sheet(name)) is not None else None,
        }
        return _finite(looked)

    def sheet(self, name: str) -> Path | None:
        """The newest samples of a run.

        Raises:
            UnknownError: there is no such run.
        """
        return max((self.run(name) / "samples").glob("*.png"), default=None)

    def folders(self) -> list[Path]:
        """Of all runs, the newest first."""
        try:
            named = [each for each in self.folder.iterdir() if NAME.fullmatch(each.name)]
        except OSError:
            return []
        found = []
        for each in named:
            with suppress(OSError):  # it has just been removed
                found.append(((each / CONFIG_FILE).stat().st_mtime, each))
        return [each for _, each in sorted(found, reverse=True)]

    def summary(self, folder: Path) -> dict[str, Any]:
        """What is said of a run in the list of all."""
        line: dict[str, Any] = {"run": folder.name, "told": ""}
        try:
            config, lines = read_run_config(folder), self._metrics(folder)
        except GlowflowError as error:
            return {**line, "told": str(error)}
        newest = {key: value for each in lines for key, value in each.items()}
        line |= {
            "data": config.data.data,
            "images": newest.get("images", 0),
            "of_images": config.images,
            "seconds": newest.get("seconds", 0.0),
            "minutes": config.minutes,
            "bits_per_dim": newest.get("bits_per_dim"),
            "valid_bits_per_dim": newest.get("valid_bits_per_dim"),
        }
        return _finite(line)

    def _metrics(self, folder: Path) -> list[dict[str, Any]]:
        """Its figures, read again where they have changed."""
        try:
            stat = (folder / METRICS_FILE).stat()
        except OSError:
            return []
        stamp = (stat.st_mtime_ns, stat.st_size)
        if self._read.get(folder, ((0, 0),))[0] != stamp:
            self._read[folder] = (stamp, read_metrics(folder))
        return self._read[folder][1]


def has_model(folder: Path) -> bool:
    """Whether a model of the run is there."""
    return all((folder / name).is_file() for name in (MODEL_FILE, WEIGHTS_FILE))


def _curve(lines: list[dict[str, Any]], figure: str) -> list[tuple[float, float]]:
    """Images and figure, at most `POINTS` times, evenly, the last among them."""
    points = [(line["images"], line[figure]) for line in lines if {"images", figure} <= line.keys()]
    step = -(-len(points) // POINTS) or 1
    return points[::-1][::step][::-1]


def _finite(value: Any) -> Any:
    """The same with None for what is no number, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
