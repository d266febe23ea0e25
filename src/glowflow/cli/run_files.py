"""What a training run leaves behind: sample sheets, an evaluation, a report."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from ..data.inputs import given_to_samples, labels_of
from ..data.types import ImageData, Splits
from ..evaluation.evaluate import Evaluation, evaluate
from ..evaluation.nearest import nearest
from ..evaluation.table import figure, table
from ..files import replacing
from ..models.flow import ImageFlow
from ..models.likelihood import name_of_data
from ..processes import on_main_process
from ..reports.pictures import marked, rows, save_png
from ..reports.plots import loss_curve
from ..reports.run import Report, write_report
from ..training.config import TrainConfig
from ..training.health import round_trip
from ..training.loop import Trained
from ..training.metrics import read_metrics
from .options import Outcome
from .results import describe_environment, write_json

TEMPERATURES = (0.0, 0.5, 0.7, 0.8, 1.0)
"""Of the samples that a run shows."""


class SampleSheets:
    """Called at each validation: samples at several temperatures, and the loss curve so far."""

    def __init__(self, run: Path, valid: ImageData) -> None:
        self.run, self.valid = run, valid

    def __call__(self, model: ImageFlow, images: int) -> None:
        """Write samples/IMAGES.png, a row per temperature, and loss.png."""
        sheet = rows(samples(model, 8, self.valid))
        save_png(self.run / "samples" / f"{images:09d}.png", sheet)
        with replacing(self.run / "loss.png") as path:
            path.write_bytes(loss_curve(read_metrics(self.run), bits=model.config.bits))


def samples(model: ImageFlow, count: int, data: ImageData) -> list[tuple[str, Any]]:
    """The same noise at each temperature, each row with its name and what is wrong with it; those
    of a conditional model are given what the first images of the data are given."""
    found, given = [], given_to_samples(model, data, count)
    with model.frozen():
        for t in TEMPERATURES:
            drawn = model.draw(count, temperature=t, seed=0, labels=given)
            found.append((marked(f"T = {t:g}", drawn), drawn.images.numpy()))
    return found


def finish_run(trained: Trained, splits: Splits, config: TrainConfig) -> Outcome:
    """Evaluate on test images, write evaluation.json and report.html, and show the table."""
    evaluation = evaluate(
        trained.model,
        splits.test,
        train=splits.train,
        limit=config.evaluation_images,
        seed=config.seed,
        dataset=splits.dataset,
        what=f"held-out {name_of_data(trained.model.config.bits)}",
    )
    return on_main_process(lambda: _show(trained, splits, config, evaluation))


def _show(trained: Trained, splits: Splits, config: TrainConfig, evaluation: Evaluation) -> Outcome:
    run, model = trained.run, trained.model
    write_json(run / "evaluation.json", evaluation.to_dict())
    environment = describe_environment(model.device, config.seed)
    write_json(run / "environment.json", environment)
    write_report(run / "report.html", make_report(trained, splits, config, evaluation, environment))
    Console(stderr=True).print(table(evaluation))
    facts = {
        "run": str(run),
        "report": str(run / "report.html"),
        "images": trained.images,
        "training_seconds": round(trained.seconds, 1),
        "evaluation": evaluation.to_dict(),
    }
    name = name_of_data(evaluation.bits)
    return Outcome(
        f"{figure(evaluation)} on "
        f"{evaluation.images} test {name} after {trained.images:,} training {name} in "
        f"{trained.seconds / 60:.1f} min; report: {run / 'report.html'}",
        facts,
        code=0 if not evaluation.bytes_changed else 1,
    )


def make_report(
    trained: Trained,
    splits: Splits,
    config: TrainConfig,
    evaluation: Evaluation,
    environment: dict[str, Any],
) -> Report:
    """Collect what the report shows."""
    model = trained.model
    originals = torch.from_numpy(splits.test.images[:8].copy())
    labels = labels_of(model, splits.test, np.arange(len(originals)))
    seen, decoded = (model.to_images(part).cpu() for part in round_trip(model, originals, labels))
    several = model.draw(8, temperature=0.7, seed=1, labels=given_to_samples(model, splits.test, 8))
    usable = several.usable.numpy()
    drawn = several.images.numpy()[usable] if usable.any() else several.images.numpy()
    index, distance = nearest(drawn, splits.train.images)
    return Report(
        title=f"{type(model).__name__} on {Path(config.data.data).name}",
        unusable=int((~usable).sum()),
        summary=f"{trained.images:,} training {name_of_data(model.config.bits)} in "
        f"{trained.seconds / 60:.1f} minutes "
        f"({trained.step:,} steps); {sum(p.numel() for p in model.parameters()):,} parameters.",
        source=splits.source,
        checksum=splits.checksum,
        skipped=splits.skipped,
        config={"train": asdict(config), "model": asdict(model.config)},
        environment=environment,
        metrics=read_metrics(trained.run),
        evaluation=evaluation,
        samples=samples(model, 8, splits.test),
        reconstructions=(seen.numpy(), decoded.numpy()),
        neighbours=(drawn, splits.train.images[index], distance),
    )
