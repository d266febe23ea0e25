"""`glow directions`: what an attribute is in latent space."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..checks import require_at_least
from ..errors import InputError
from ..files import path_of
from ..latents.choices import Estimator
from .options import DataOptions, Outcome, check_device

if TYPE_CHECKING:
    from ..latents.directions import Directions

DATA_FIRST = True


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    data: str | None = None
    """Images with attributes: faces, a folder in CelebA's layout, …; by default the data of the
    run."""
    split: Literal["train", "valid", "test"] = "train"
    """Which part of the run's data, or of data with a split of their own; others are used whole."""
    estimator: Estimator = "mean"
    """mean: with minus without, as published; matched: over pairs that agree in the other
    attributes; linear: normal of a classifier, without what the other attributes do."""
    attributes: tuple[str, ...] = ()
    """Find these only; by default every attribute with enough images."""
    minimum: int = 10
    """Images that are needed with an attribute, and without it."""
    images: int | None = None
    """Use so many images at most; by default all."""
    batch_size: int = 50
    """Images at once; does not change the directions."""
    out: Path | None = None
    """File to write; by default directions.safetensors, in the model's folder if it is one."""


def run(options: Options) -> Outcome:
    """Encode the images, and write a direction for each attribute."""
    from .processes import by_all

    device = check_device(options.device)
    return by_all(device, lambda: _run(options, device))


def _run(options: Options, device: str) -> Outcome:
    from ..latents.directions import save_directions
    from ..latents.estimation import estimate_directions
    from ..processes import local_main_process_first, on_main_process, process_index
    from .model_data import chosen_by, load_model_for

    progress = not options.json and process_index() == 0
    path = options.out or _beside(options.model)

    def check() -> None:
        if path.suffix != ".safetensors":
            raise InputError(f"--out is {path}: give a file that ends in .safetensors.")
        if path.exists():
            raise InputError(f"{path} exists: choose another --out, or remove it first.")
        require_at_least(options, 1, "batch_size")

    on_main_process(check)
    model = local_main_process_first(lambda: load_model_for(options.model, device))
    chosen = local_main_process_first(lambda: chosen_by(model, options, options.split))
    directions = estimate_directions(
        model,
        chosen.data,
        estimator=options.estimator,
        names=options.attributes or None,
        minimum=options.minimum,
        limit=options.images,
        batch_size=options.batch_size,
        source=f"{chosen.source}, {chosen.part}, SHA-256 {chosen.checksum}",
        progress=progress,
    )
    on_main_process(lambda: save_directions(path, directions))
    if progress:
        Console(stderr=True).print(_table(directions))
    images = sum(next(iter(directions.counts.values())))
    refused = f" ({len(directions.refused)} attributes refused)" if directions.refused else ""
    return Outcome(
        f"{len(directions.latents)} directions ({options.estimator}) from {images:,} images"
        f"{refused} in {path}.",
        {
            "out": str(path),
            "model": directions.model,
            "estimator": directions.estimator,
            "images": images,
            "source": directions.source,
            "counts": {
                name: {"with": a, "without": b} for name, (a, b) in directions.counts.items()
            },
            "held": {name: list(others) for name, others in directions.held.items()},
            "imbalance": dict(directions.imbalance),
            "refused": dict(directions.refused),
        },
    )


def _beside(model: str) -> Path:
    """Where commands look for a model's directions; here, for a model that is no folder."""
    from ..models.companions import DIRECTIONS_FILE

    folder = path_of(model)
    return folder / DIRECTIONS_FILE if folder.is_dir() else Path(DIRECTIONS_FILE)


def _table(directions: "Directions") -> Table:
    matched = directions.estimator == "matched"
    table = Table("attribute", title=f"{directions.estimator} directions", title_justify="left")
    for column in ("with", "without", "held", *(("differing",) if matched else ())):
        table.add_column(column, justify="right")
    for name, (with_it, without) in directions.counts.items():
        cells = [f"{with_it:,}", f"{without:,}", str(len(directions.held[name]))]
        if matched:
            cells.append(f"{directions.imbalance[name]:.2f}")
        table.add_row(escape(name), *cells)
    for reason in directions.refused.values():
        table.add_row(f"[dim]{escape(reason)}[/dim]")
    return table
