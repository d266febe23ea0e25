"""`glow evaluate`: bits per dimension on held-out or new images, beside baselines."""

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
    split: Literal["test", "valid", "train", "all"] | None = None
    """Which part of the run's data, or of data with a split of their own: by default the test.
    Others are new data: all of them are evaluated."""
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
    from ..data.inputs import require_fit
    from ..evaluation.evaluate import evaluate
    from ..evaluation.table import figure, round_trip_sentence, table
    from ..processes import local_main_process_first, on_main_process, process_index
    from .model_data import chosen_by, load_model_for

    progress = not options.json and process_index() == 0
    model = local_main_process_first(lambda: load_model_for(options.model, device, any_kind=True))
    chosen = local_main_process_first(lambda: chosen_by(model, options, options.split))
    train = local_main_process_first(chosen.train)

    def prepare() -> Path | None:
        require_at_least(options, 1, "draws", "images")
        require_fit(model, chosen.data)
        return None if options.out is None else new_folder(options.out, "evaluation")

    folder = on_main_process(prepare)
    evaluation = evaluate(
        model,
        chosen.data,
        train=train,
        draws=options.draws,
        limit=options.images,
        seed=options.seed,
        dataset=chosen.dataset,
        what=chosen.what,
        progress=progress,
    )
    facts: dict[str, object] = {
        "model": options.model,
        "data": chosen.source,
        "split": chosen.part,
        "skipped": list(chosen.skipped),
    }
    facts["evaluation"] = evaluation.to_dict()
    if folder is not None and process_index() == 0:
        write_json(folder / "evaluation.json", facts)
    if progress:
        Console(stderr=True).print(table(evaluation))
    return Outcome(
        f"{figure(evaluation)} on {evaluation.images:,} {evaluation.what}; "
        f"round trip: {round_trip_sentence(evaluation)}.",
        facts,
        code=1 if evaluation.bytes_changed else 0,
    )
