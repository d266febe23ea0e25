"""`glow evaluate`: bits per dimension on held-out images, beside baselines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from ..checks import require_at_least
from .options import DataOptions, Outcome, check_device
from .results import new_folder, write_json

DATA_FIRST = True


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    split: Literal["test", "valid", "train"] = "test"
    """Which part of the data."""
    images: int | None = 500
    """Score so many images at most; None for all."""
    draws: int = 1
    """Dequantisation noise draws per image."""
    seed: int = 0
    """Of the noise."""


def run(options: Options) -> Outcome:
    """Score the images, print the table, and write evaluation.json if `--out` is given."""
    from .processes import by_all

    device = check_device(options.device)
    return by_all(device, lambda: _run(options, device))


def _run(options: Options, device: str) -> Outcome:
    from ..data.inputs import require_shape
    from ..data.open import open_splits
    from ..evaluation.evaluate import evaluate
    from ..evaluation.table import round_trip_sentence, table
    from ..models.registry import load_model
    from ..processes import local_main_process_first, on_main_process, process_index
    from .model_data import data_for

    progress = not options.json and process_index() == 0
    model = local_main_process_first(lambda: load_model(options.model, device=device))
    data = on_main_process(lambda: data_for(model, options.model, options.data, options.upscale))
    splits = local_main_process_first(lambda: open_splits(data, progress=progress))
    part = {"test": splits.test, "valid": splits.valid, "train": splits.train}[options.split]

    def prepare() -> Path | None:
        require_at_least(options, 1, "draws", "images")
        require_shape(model, part)
        return None if options.out is None else new_folder(options.out, "evaluation")

    folder = on_main_process(prepare)
    evaluation = evaluate(
        model,
        part,
        train=splits.train,
        draws=options.draws,
        limit=options.images,
        seed=options.seed,
        dataset=splits.dataset if options.split == "test" else "",
        progress=progress,
    )
    facts: dict[str, object] = {
        "model": options.model,
        "data": splits.source,
        "split": options.split,
    }
    facts["evaluation"] = evaluation.to_dict()
    if folder is not None and process_index() == 0:
        write_json(folder / "evaluation.json", facts)
    if progress:
        Console(stderr=True).print(table(evaluation))
    return Outcome(
        f"{evaluation.bits_per_dim} bits/dim; round trip: {round_trip_sentence(evaluation)}.",
        facts,
        code=1 if evaluation.bytes_changed else 0,
    )
