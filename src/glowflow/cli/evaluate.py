"""`glow evaluate`: bits per dimension on held-out images, beside baselines."""

from dataclasses import dataclass
from typing import Literal

from rich.console import Console

from ..data import open_splits
from ..evaluation import evaluate, figure, round_trip_sentence, table
from ..inputs import require_shape
from ..models import load_model
from .options import CommonOptions, Outcome, check_device
from .photos import data_for
from .results import new_folder, write_json

DATA_FIRST = True


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    model: str
    """Folder of a run or of a saved model, a Hugging Face hub id, or demo-faces, which is
    shipped."""
    data: str | None = None
    """What to score: faces, digits, a folder, an array; by default the data of the run."""
    split: Literal["test", "valid", "train"] = "test"
    """Which part of the data."""
    images: int | None = 500
    """Score so many images at most; None for all."""
    draws: int = 1
    """Dequantisation noise draws per image."""
    seed: int = 0
    """Of the noise."""
    upscale: bool = False
    """Accept images smaller than the model's and enlarge them."""


def run(options: Options) -> Outcome:
    """Score the images, print the table, and write evaluation.json if `--out` is given."""
    device = check_device(options.device)
    model = load_model(options.model, device=device)
    splits = open_splits(
        data_for(model, options.model, options.data, options.upscale), progress=not options.json
    )
    part = {"test": splits.test, "valid": splits.valid, "train": splits.train}[options.split]
    require_shape(model, part)
    if options.out is not None:
        folder = new_folder(options.out, "evaluation")
    evaluation = evaluate(
        model,
        part,
        train=splits.train,
        draws=options.draws,
        limit=options.images,
        seed=options.seed,
        dataset=splits.dataset if options.split == "test" else "",
        progress=not options.json,
    )
    facts: dict[str, object] = {
        "model": options.model,
        "data": splits.source,
        "split": options.split,
    }
    facts["evaluation"] = evaluation.to_dict()
    if options.out is not None:
        write_json(folder / "evaluation.json", facts)
    if not options.json:
        Console(stderr=True).print(table(evaluation))
    return Outcome(
        f"{figure(evaluation)} bits/dim; round trip: {round_trip_sentence(evaluation)}.",
        facts,
        code=1 if evaluation.bytes_changed else 0,
    )
