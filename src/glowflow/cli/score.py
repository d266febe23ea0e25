"""`glow score`: how strange each image is to a model."""

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..checks import require_at_least
from ..errors import CheckpointError, InputError
from ..evaluation.choices import Score
from ..files import require_new, write_text
from .options import DataOptions, Outcome, check_device
from .results import new_folder, write_json

if TYPE_CHECKING:
    from ..evaluation.calibration import Calibration
    from ..evaluation.comparison import Batches
    from ..models.flow import ImageFlow

DATA_FIRST = True
STRANGE = 0.01
"""p-value up to which an image is counted as strange."""
SHOWN = 10
"""Images in the table on the terminal, and in the facts."""

SHOWN_COLUMNS = (
    "bits_per_dim",
    "typicality",
    "complexity",
    "p_log_prob",
    "p_typicality",
    "p_complexity",
    "p_batch_typicality",
)

Part = Literal["all", "train", "valid", "test"]


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    data: str | None = None
    """What to score: a folder, an image file, an array, faces, digits; by default the data of the
    run."""
    split: Part | None = None
    """Which part of the data; by default all, and of the run's own data the test."""
    images: int | None = None
    """Score so many images at most, evenly spread; by default all."""
    by: Score | None = None
    """Which score says what is strange; by default complexity, and typicality of data that no codec
    takes."""
    calibration: Path | None = None
    """File that an earlier glow score of the same model has left; by default
    calibration.safetensors beside the model, or else one is made."""
    calibrate_on: Literal["valid", "train"] = "valid"
    """Part of the run's data to calibrate on. The model knows its training images: new ones look
    stranger beside them than beside validation images."""
    calibration_data: str | None = None
    """Calibrate on other data than the run's."""
    calibration_images: int = 1000
    """Calibrate on so many images at most."""
    batch_typicality: int | None = None
    """Also judge so many successive images together."""
    draws: int = 1
    """Dequantisation noise draws per image."""
    batch_size: int = 50
    """Images at once; does not change the scores."""
    seed: int = 0
    """Of the noise."""


def run(options: Options) -> Outcome:
    """Score the images, and write scores.csv, score.json and, if it was made, the calibration."""
    from ..evaluation.calibration import save_calibration
    from ..evaluation.comparison import batch_typicality, columns, compare, strangeness
    from ..evaluation.scoring import score
    from ..models.companions import CALIBRATION_FILE
    from .model_data import chosen_by, load_model_for

    device = check_device(options.device)
    _check(options)
    options = replace(options, calibration=_named_or_beside(options))
    model = load_model_for(options.model, device)
    known = _known_calibration(options, model)
    part = options.split or ("test" if options.data is None else "all")
    chosen = chosen_by(model, options, part, options.images)
    calibration = _calibrate(options, model) if known is None else known
    scores = score(
        model,
        chosen.data,
        draws=options.draws,
        limit=options.images,
        batch_size=options.batch_size,
        seed=options.seed,
        progress=not options.json,
    )
    comparison = compare(scores, calibration)
    by: Score = options.by or ("typicality" if scores.complexity is None else "complexity")
    batches = None
    if options.batch_typicality is not None:
        size = options.batch_typicality
        batches = batch_typicality(scores, calibration, size, seed=options.seed)
    values = columns(scores, comparison, batches)
    names = [chosen.data.names[i] if chosen.data.names else str(i) for i in scores.indices]
    strangest = np.argsort(-strangeness(scores, comparison, by), kind="stable")[:SHOWN]
    folder = new_folder(options.out, "score")
    write_text(folder / "scores.csv", _csv(names, values))
    if known is None:
        save_calibration(folder / CALIBRATION_FILE, calibration)
    facts: dict[str, Any] = {
        "out": str(folder),
        "scores": str(folder / "scores.csv"),
        "calibration": str(options.calibration or folder / CALIBRATION_FILE),
        "calibrated_on": calibration.source,
        "calibration_images": len(calibration),
        "model": options.model,
        "data": f"{chosen.source}, {chosen.part}",
        "skipped": list(chosen.skipped),
        "images": len(scores),
        "draws": calibration.draws,
        "by": by,
        "bits_per_dim": float(scores.bits_per_dim.mean()),
        "strange": int((values[f"p_{by}"] <= STRANGE).sum()),
        "strangest": [
            {"name": names[i], **{name: column[i].item() for name, column in values.items()}}
            for i in strangest
        ],
        **_batch_facts(batches),
    }
    write_json(folder / "score.json", facts)
    if not options.json:
        Console(stderr=True).print(_table(names, values, strangest, by))
    return Outcome(
        f"{_count(facts['strange'], len(scores), by, calibration)}; the strangest is "
        f"{names[strangest[0]]}; all scores: {folder / 'scores.csv'}.",
        facts,
    )


def _check(options: Options) -> None:
    if options.calibration is not None and options.calibration_data is not None:
        raise InputError("Give --calibration or --calibration-data, not both.")
    numbers = ("draws", "batch_size", "images", "calibration_images", "batch_typicality")
    require_at_least(options, 1, *numbers)
    if options.out is not None:
        require_new(options.out)


def _named_or_beside(options: Options) -> Path | None:
    """The calibration that is named, or kept with the model where no other is asked for."""
    from ..models.companions import CALIBRATION_FILE
    from ..models.pretrained import locate

    if options.calibration is not None or options.calibration_data is not None:
        return options.calibration
    try:
        return locate(options.model, CALIBRATION_FILE)
    except CheckpointError:
        return None


def _known_calibration(options: Options, model: "ImageFlow") -> "Calibration | None":
    """The one that the options name."""
    from ..evaluation.calibration import load_calibration

    if options.calibration is None:
        return None
    calibration = load_calibration(options.calibration, model)
    if calibration.draws != options.draws:
        raise InputError(
            f"The calibration in {options.calibration} is of {calibration.draws} noise draws an "
            f"image: give --draws {calibration.draws}."
        )
    return calibration


def _calibrate(options: Options, model: "ImageFlow") -> "Calibration":
    from ..evaluation.calibration import calibrate
    from .model_data import choose, is_own, run_folder

    if options.calibration_data is None and run_folder(options.model) is None:
        raise InputError(
            f"{options.model} does not say what it was trained on: give --calibration, or "
            "--calibration-data."
        )
    other = options.calibration_data
    own = other is None or is_own(options.model, other)
    chosen = choose(
        model,
        options.model,
        other,
        part=options.calibrate_on if own else None,
        fit=options.fit,
        upscale=options.upscale,
        progress=not options.json,
    )
    return calibrate(
        model,
        chosen.data,
        draws=options.draws,
        limit=options.calibration_images,
        batch_size=options.batch_size,
        seed=options.seed,
        source=f"{chosen.source}, {chosen.part}, SHA-256 {chosen.checksum}",
        progress=not options.json,
    )


def _count(strange: int, images: int, by: Score, calibration: "Calibration") -> str:
    smallest = 1 / (len(calibration) + 1)
    if smallest > STRANGE:
        return (
            f"{len(calibration)} calibration images say no p-value below {smallest:.2g}: give "
            f"{round(1 / STRANGE) - 1} or more for p ≤ {STRANGE:g}"
        )
    return (
        f"{strange} of {images:,} images have p ≤ {STRANGE:g} by {by} ({STRANGE * images:.3g} "
        f"would, were they like the {len(calibration):,} calibration images)"
    )


def _batch_facts(batches: "Batches | None") -> dict[str, Any]:
    if batches is None:
        return {}
    return {
        "batches": {
            "size": batches.size,
            "count": len(batches.p_value),
            "strange": int((batches.p_value <= STRANGE).sum()),
        }
    }


def _csv(names: list[str], values: dict[str, NDArray[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *values])
    columns = (column.tolist() for column in values.values())
    writer.writerows(zip(names, *columns, strict=True))
    return text.getvalue()


def _table(
    names: list[str], values: dict[str, NDArray[Any]], rows: NDArray[np.int64], by: Score
) -> Table:
    shown = [name for name in SHOWN_COLUMNS if name in values]
    table = Table("name", title=f"strangest by {by}", title_justify="left")
    for name in shown:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        cells = [f"{values[name][row]:.4g}" for name in shown]
        table.add_row(escape(names[row]), *cells)
    return table
